"""A tree search as an agent: it plans, and learns nothing itself."""

from collections.abc import Mapping
from typing import Any

from wmcomponents.agents.agent import LearnsFrom
from wmcomponents.agents.search.continued import Planning
from wmcomponents.agents.search.policy import SearchPolicy
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.starts import model_device
from wmcomponents.world_model import LatentPolicy, Needs, WorldModel


class SearchAgent:
    """Acts by search in a world model that learns elsewhere.

    Args:
        planning: a search of the model.
        sample: draw the filter's z where it acts in reality; the mode otherwise.
        seed: of what is drawn.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.agents.search import SearchAgent, gumbel_search
        >>> from wmcomponents.models import MuZero, MuZeroConfig
        >>> model = MuZero(MuZeroConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> SearchAgent(gumbel_search(model)).learns_from
        'nothing'
    """

    needs = Needs()
    """What a search needs is asked where it is built: parts that a model lacks can be handed in there."""
    learns_from: LearnsFrom = "nothing"

    def __init__(self, planning: Planning, *, sample: bool = False, seed: int = 0) -> None:
        self._policy = SearchPolicy(planning, seed=seed)
        self._real_policy = LatentPolicy(self._policy.model, self._policy, sample=sample, seed=seed)

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self._policy.model

    @property
    def dream_policy(self) -> SearchPolicy:
        """Reads the model's state, writes ``action`` and what was found."""
        return self._policy

    @property
    def real_policy(self) -> LatentPolicy:
        """The same behind the model's filter."""
        return self._real_policy

    @property
    def dreamed_steps(self) -> int:
        """None is learned from."""
        return 0

    def learn(self, experience: Experience) -> dict[str, float]:
        """Nothing: a search is as good as its model."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The generators of the search and of the filter."""
        generator = self._policy.generator(model_device(self.model))
        return {"search": generator.get_state(), "filter": self.real_policy.generator_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the draws from there."""
        self._policy.generator(model_device(self.model)).set_state(state["search"])
        self.real_policy.set_generator_state(state["filter"])
