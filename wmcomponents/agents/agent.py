"""What an agent is: a policy with what it needs, what it learns from, and its whole state."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from tensordict.nn import TensorDictModuleBase

from wmcomponents.dream.experience import Experience
from wmcomponents.world_model import Needs, WorldModel

LearnsFrom = Literal["nothing", "states", "sequences", "dreams"]
"""``"states"``: dreams that it begins in given states; ``"sequences"``: real sequences beside them; ``"dreams"``: an
environment made of the model; ``"nothing"``: it only plans."""


@runtime_checkable
class Agent(Protocol):
    """A policy in a world model: learned in its dreams, or found by search in them.

    Imagination actor-critics, planners, search and the algorithms of Stable-Baselines3 are all of this one shape; what
    collects, trains, evaluates and saves them knows no more of them than this. A class of yours needs no base class.

    Attributes:
        needs: what it asks of its world model; looked at when it is built.
        learns_from: what one call of :meth:`learn` reads of the experience.
        model: the world model.
        dream_policy: acts in a dream: reads what it needs of the dream's state or view, writes ``action``.
        real_policy: acts on the real environment's observations, in a collector or rollout, behind the model's filter
            where it reads latents. What it carries from step to step is given by its ``make_tensordict_primer()``.
    """

    needs: Needs
    learns_from: LearnsFrom

    @property
    def model(self) -> WorldModel:
        """The world model."""
        ...

    @property
    def dream_policy(self) -> TensorDictModuleBase:
        """Acts in a dream."""
        ...

    @property
    def real_policy(self) -> TensorDictModuleBase:
        """Acts in reality."""
        ...

    @property
    def dreamed_steps(self) -> int:
        """Steps that it has dreamt so far, over all rows."""
        ...

    def learn(self, experience: Experience) -> dict[str, float]:
        """Improve once: one update, or one round of an algorithm that collects its own; losses and diagnostics.

        Args:
            experience: real sequences, their states, and where dreams begin.

        Raises:
            DivergedError: if a number is not finite; the update that would have spread it was not taken.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how it goes on, but the model: nested dicts and lists of tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken: on a CPU to the bit."""
        ...
