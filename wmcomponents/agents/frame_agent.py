"""What the whole agents of IRIS, Delta-IRIS and DIAMOND share: a recurrent actor-critic on frames, in epochs."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from wmcomponents.agents.actor_critic.recurrent_agent import RecurrentAgent
from wmcomponents.agents.actor_critic.recurrent_imagination import RecurrentImaginationLoss
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.world_model import Needs, WorldModel

F = TypeVar("F", bound="FrameAgent")


class FrameAgent(WholeAgent):
    """Base of agents whose actor-critic reads frames, in reality and as a world model dreams them.

    Args:
        env: an environment that shows one image; see :class:`WholeAgent`.
        config: see there; so with all other arguments.

    Attributes:
        loss: makes the paper's actor-critic objective in a world model.
    """

    needs: ClassVar[Needs] = RecurrentAgent.needs
    loss: ClassVar[Callable[..., RecurrentImaginationLoss]]

    @classmethod
    def atari(cls: type[F], env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> F:
        """The paper's for Atari 100k: a day to days on a GPU.

        Args:
            env: see the class; ``data.make_env("ALE/Pong-v5", image_size=64, sticky_actions=0.0)``.
            changes: numbers by name.
            **options: of the class.
        """
        return cls(env, cls.atari_config(**dict(changes or {})), **options)

    @classmethod
    @abstractmethod
    def atari_config(cls, **changes: Any) -> AgentConfig:
        """The numbers of :meth:`atari`."""

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> RecurrentAgent:
        """The paper's actor-critic in any world model that shows one image and predicts rewards.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: of the paper's objective (such as ``units``), ``dreams`` and ``schedule`` of
                :class:`RecurrentAgent`.
        """
        cls.needs.check(model, cls.__name__)
        own = {name: changes.pop(name) for name in ("dreams", "schedule") if name in changes}
        return RecurrentAgent(cls.loss(model, seed=seed, **changes), **own)
