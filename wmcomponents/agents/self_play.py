"""MuZero's way to learn: act by search, let the model imitate what the search found, search old states anew."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Composite, Unbounded

from wmcomponents.agents.agent import LearnsFrom
from wmcomponents.agents.search import SearchPolicy, TreeSearch, VisitCounts
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.starts import model_device
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel
from wmcomponents.world_model import CapabilityError, LatentPolicy, Needs, State, WorldModel, keys_of

Temperature = Callable[[int], float]
"""Of the choice among visits, after so many updates."""


class SelfPlayAgent:
    """Acts by search, and leaves what the search found beside each real step for the model to learn from.

    One call of :meth:`learn` follows each update of the model: the sequences it learned from are searched anew, with
    the model as it is now, and what is found takes the place of what stood in the replay buffer ("reanalyze").

    Args:
        search: in the world model.
        temperature: of the choice among visits by updates so far; the search's own if not given.
        reanalyze: share of the updates after which their sequences are searched anew, in [0, 1].
        keep_values: also keep the values that the searches found, from which value targets are bootstrapped then; else
            the target network's are taken, which never age.
        seed: of what is drawn.

    Raises:
        CapabilityError: if the model is not of MuZero's family.
        ValueError: if the share is outside [0, 1].

    Reference: Schrittwieser et al., MuZero (2020), appendix H; Ye et al., EfficientZero (2021).
    """

    needs = Needs(("reward", "value"))
    learns_from: LearnsFrom = "sequences"

    def __init__(
        self,
        search: TreeSearch,
        *,
        temperature: Temperature | None = None,
        reanalyze: float = 1.0,
        keep_values: bool = True,
        seed: int = 0,
    ) -> None:
        check_teachable(search.searched.model)
        if not 0 <= reanalyze <= 1:
            raise ValueError(f"reanalyze is a share of the updates, in [0, 1]; got {reanalyze}.")
        self.search, self.temperature, self.reanalyze = search, temperature, reanalyze
        self._policy = RecordedSearch(search, keep_values=keep_values, seed=seed)
        self._real_policy = RecordedPolicy(self.model, self._policy, seed=seed)
        self.updates = 0
        self._set_temperature()

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.search.searched.model

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
        """Search anew the sequences that the model has just learned from.

        Args:
            experience: gives them, and keeps what is found.
        """
        self.updates += 1
        self._set_temperature()
        is_due = int(self.updates * self.reanalyze) > int((self.updates - 1) * self.reanalyze)
        if experience.rewrite is not None and is_due:
            sequences = experience.sequences()
            found, is_known = searched_anew(self.search, sequences, self._policy.keep_values)
            experience.rewrite(sequences["index"], found, is_known)
        return {}

    def _set_temperature(self) -> None:
        if self.temperature is not None and isinstance(self.search.choice, VisitCounts):
            self.search.choice.temperature = self.temperature(self.updates)

    def state_dict(self) -> dict[str, Any]:
        """The generators of the filter and of the search, and the count of updates."""
        # Row by row, so that each is known as a generator's state where processes have draws of their own.
        return {"draws": list(self.real_policy.generator_state()), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.real_policy.set_generator_state(torch.stack(list(state["draws"])))
        self.updates = int(state["updates"])
        self._set_temperature()


def check_teachable(model: WorldModel) -> None:
    """Refuse a model that cannot imitate what a search finds.

    Args:
        model: the world model.

    Raises:
        CapabilityError: if it is not of MuZero's family.
    """
    if not isinstance(model, ValueEquivalentModel):
        raise CapabilityError(
            f"self-play teaches a model to imitate its search, and {type(model).__name__} has no policy to teach: "
            f"choose a model of MuZero's family, or search in this one by SearchAgent."
        )


class VisitTemperature:
    """A temperature that changes in steps.

    Args:
        steps: temperatures by the updates after which each begins; one begins at 0.

    Raises:
        ValueError: if none begins at 0, or one is negative.

    Example:
        >>> falls = VisitTemperature({0: 1.0, 500: 0.5})
        >>> falls(499), falls(500)
        (1.0, 0.5)
    """

    def __init__(self, steps: Mapping[int, float]) -> None:
        self.steps = sorted((int(begin), float(value)) for begin, value in steps.items())
        if not self.steps or self.steps[0][0] != 0 or min(value for _, value in self.steps) < 0:
            raise ValueError(f"temperatures are at least 0, and the first begins at update 0; got {dict(steps)}.")

    def __call__(self, updates: int) -> float:
        """The temperature after so many updates."""
        return [value for begin, value in self.steps if begin <= updates][-1]


class RecordedSearch(SearchPolicy):
    """A search policy that also says that it searched, ``("search", "mask")``, bool ``[*B, 1]``.

    Args:
        search: the search.
        keep_values: whether the values found are among what is kept.
        seed: of what is drawn.
    """

    def __init__(self, search: TreeSearch, *, keep_values: bool, seed: int) -> None:
        found = [("search", name) for name in ("policy", "value", "mask")]
        super().__init__(search, seed=seed, out_keys=["action", *found])
        self.keep_values = keep_values

    def compute(self, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        """Search from states; see :class:`SearchPolicy`."""
        action, policy, value = super().compute(*tensors)
        return action, policy, value, torch.ones_like(value, dtype=torch.bool)

    @property
    def recorded_spec(self) -> Composite:
        """What is kept with each real step, without batch."""
        size = self.planning.search.searched.action_vector.size
        found: dict[str, Any] = {"policy": Unbounded(torch.Size([size])), "mask": Binary(1, dtype=torch.bool)}
        if self.keep_values:
            found["value"] = Unbounded(torch.Size([1]))
        return Composite(search=Composite(found))


class RecordedPolicy(LatentPolicy):
    """A recorded search behind the model's filter.

    Args:
        model: the world model.
        policy: the search.
        seed: of the filter's draws.
    """

    def __init__(self, model: WorldModel, policy: RecordedSearch, *, seed: int) -> None:
        super().__init__(model, policy, seed=seed)
        self.recorded_spec = policy.recorded_spec
        self._search = policy

    def generator_state(self) -> Tensor:
        """Where the draws of the filter and of the search are."""
        return torch.stack(
            [super().generator_state(), self._search.generator(model_device(self._search.model)).get_state()]
        )

    def set_generator_state(self, state: Tensor) -> None:
        """Go on with the draws from there.

        Args:
            state: of :meth:`generator_state`, on the same kind of device.
        """
        of_filter, of_search = (row.clone() for row in state)  # torch crashes on a state that is a view
        super().set_generator_state(of_filter)
        self._searching().set_state(of_search)

    def _searching(self) -> torch.Generator:
        return self._search.generator(model_device(self._search.model))


def searched_anew(search: TreeSearch, sequences: TensorDictBase, with_values: bool) -> tuple[dict[Any, Tensor], Tensor]:
    """What a search finds now in the states of stored sequences ``[B, T]``, without noise.

    Args:
        search: the search.
        sequences: as the replay buffer gives them.
        with_values: whether values are among what is returned.

    Returns:
        By key, ``[B, T, ...]``; and where the filter knows what it knew then, bool ``[B, T]``: a model that reads past
        frames does not at the head of a sequence.
    """
    model = cast(ValueEquivalentModel, search.searched.model)
    device = model_device(model)
    sequences = sequences.to(device)
    with search.searched.eval_mode:
        states, is_known = stored_states(model, sequences)
    plan = search.plan(states, mask=sequences.get("action_mask", None))
    found: dict[Any, Tensor] = {
        ("search", "policy"): plan.target,
        ("search", "mask"): torch.ones_like(plan.value).bool(),
    }
    if with_values:
        found["search", "value"] = plan.value
    return found, is_known


@torch.no_grad()
def stored_states(model: ValueEquivalentModel, sequences: TensorDictBase) -> tuple[State, Tensor]:
    """The filter's states where the actions of sequences ``[B, T]`` were taken, and where nothing is missing in them.

    Args:
        model: the world model.
        sequences: in TorchRL's layout.
    """
    is_init = sequences["is_init"].reshape(*sequences.batch_size, 1).clone()
    has_begun = is_init.squeeze(-1).long().cummax(1).values.bool()
    steps = torch.arange(is_init.shape[1], device=is_init.device)
    is_known = has_begun | (steps >= model.history.past)
    is_init[:, 0] = True
    taken = sequences["action"]
    nothing = model.null_action((taken.shape[0], 1), taken.device).to(taken.dtype)
    action = torch.cat([nothing, taken[:, :-1]], 1)
    observation = {key: sequences[key] for key in keys_of(model.observation_spec)}
    start = model.initial_state(is_init.shape[:1], is_init.device)
    return model.observe_sequence(start, action, observation, is_init, None), is_known
