"""A paper's whole agent: world model, objective, behaviour and timetable around an environment."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.data import Composite, ReplayBuffer
from torchrl.envs import TransformedEnv

from wmcomponents.agents.agent import Agent, LearnsFrom
from wmcomponents.agents.behaviour_json import NotPlainError, to_json
from wmcomponents.agents.online import OnlineTrainer
from wmcomponents.agents.real_steps import recorded_spec
from wmcomponents.agents.schedule import Schedule
from wmcomponents.data import Priorities, make_replay, transition_spec
from wmcomponents.data.environments import maker_of, origin_of
from wmcomponents.dream.experience import Experience
from wmcomponents.training import seed_everything
from wmcomponents.training.parallel import ParallelKind
from wmcomponents.world_model import Needs, WorldModel


@dataclass(frozen=True)
class AgentConfig:
    """The numbers of a whole agent.

    Attributes:
        model: config of the world model.
        behaviour: arguments of the behaviour that differ from the paper's, by name.
        batch_size: B, sequences of an update.
        sequence_length: T, real steps of a sequence.
        capacity: real steps that the replay buffer keeps.
        lr: learning rate of the world model; the paper's if not given.
        warmup: its warm-up updates; the paper's if not given.
        num_envs: environments side by side.
        priorities: draw sequences by how wrong the model's values are in them; all alike if not given.
        schedule: the timetable.
    """

    model: Any
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    sequence_length: int = 64
    capacity: int = 1_000_000
    lr: float | None = None
    warmup: int | None = None
    num_envs: int = 1
    priorities: Priorities | None = None
    schedule: Schedule = field(default_factory=Schedule)

    def vary(self, **changes: Any) -> "AgentConfig":
        """The same with other numbers: of this config, of its timetable, its behaviour's, or else its model's, by name.

        Args:
            **changes: numbers by name.
        """
        own = {one.name for one in fields(self)}
        timetable = {one.name for one in fields(self.schedule)}
        here = {key: value for key, value in changes.items() if key in own}
        times = {key: value for key, value in changes.items() if key in timetable}
        rest = {key: value for key, value in changes.items() if key not in own | timetable}
        if times:
            here["schedule"] = here.get("schedule", self.schedule).vary(**times)
        if rest:
            here["model"] = here.get("model", self.model).vary(**rest)
        if "behaviour" in here:
            here["behaviour"] = {**self.behaviour, **here["behaviour"]}
        return replace(self, **here)


A = TypeVar("A", bound="WholeAgent")


class WholeAgent(ABC):
    """Base of the papers' agents: all a user types is ``agent.train(steps=...)``, and every part can be replaced.

    It is itself an :class:`Agent`, so that whatever takes one takes it. A paper's file says what its model is and how
    its behaviour is made, and gives its presets.

    Args:
        env: an environment's id, what makes one, or one of ``data.make_env``.
        config: the agent's numbers; those of ``tiny`` if not given.
        model: a world model in place of the paper's.
        objective: an objective of the model in place of the paper's.
        behaviour: an agent in the model in place of the paper's, or a function of the model that makes one.
        replay: a replay buffer in place of a fresh one.
        num_envs: environments side by side; the config's if not given.
        processes: each environment in a process of its own.
        out: folder of the bundle and logs; the same folder goes on with the run.
        seed: of everything.
        logger: ``"csv"``, ``"tensorboard"``, a TorchRL logger, or ``None``.
        callbacks: see :class:`OnlineTrainer`.
        progress: show a progress bar.
        save_seconds: seconds between bundles.
        device: of model and behaviour; where a model that is handed in lies, else the CPU, if not given. Environments
            and the replay buffer stay on the CPU.
        parallel: with several processes, how they train the model; see :class:`OnlineTrainer`.

    Attributes:
        needs: what the behaviour asks of a world model.
        model_class: the paper's world model, made of a config and an environment.

    Raises:
        CapabilityError: if the model lacks what the behaviour needs.
        TypeError: if the environment cannot be made again.
    """

    needs: ClassVar[Needs] = Needs()
    model_class: ClassVar[Any]

    def __init__(
        self,
        env: Any,
        config: AgentConfig | None = None,
        *,
        model: WorldModel | None = None,
        objective: nn.Module | None = None,
        behaviour: Agent | Callable[[WorldModel], Agent] | None = None,
        replay: ReplayBuffer | None = None,
        num_envs: int | None = None,
        processes: bool = False,
        out: str | Path | None = None,
        seed: int = 0,
        logger: Any = None,
        callbacks: Sequence[Any] = (),
        progress: bool = True,
        save_seconds: float = 30.0,
        device: torch.device | str | None = None,
        parallel: ParallelKind = "ddp",
    ) -> None:
        self.config = type(self).tiny_config() if config is None else config
        self.make_env: Callable[[], TransformedEnv] = maker_of(env)
        seed_everything(seed)
        one = self.make_env()
        origin = origin_of(one)
        self._model = self.model_class(self.config.model, one) if model is None else model
        if device is not None:
            self._model.to(device)
        self.needs.check(self._model, type(self).__name__)
        if behaviour is None:
            self.behaviour: Agent = self.behaviour_in(self._model, seed=seed, **self.config.behaviour)
        else:
            made = behaviour if isinstance(behaviour, Agent) else behaviour(self._model)
            self.behaviour = cast(Agent, made)
        c = self.config
        rows = c.num_envs if num_envs is None else num_envs
        if replay is None:
            spec = Composite({**transition_spec(one), **recorded_spec(self.behaviour.real_policy)})
            replay = make_replay(
                c.capacity, spec, sequence_length=c.sequence_length, batch_size=c.batch_size, num_streams=rows,
                priorities=c.priorities, seed=seed, print_fn=None,
            )  # fmt: skip
        one.close()
        self.trainer = OnlineTrainer(
            self.make_env, self.behaviour, replay, c.schedule, objective=objective, lr=c.lr, warmup=c.warmup,
            num_envs=rows, processes=processes, out=out, seed=seed, logger=logger, callbacks=callbacks,
            progress=progress, save_seconds=save_seconds, parallel=parallel,
        )  # fmt: skip
        where = {} if origin is None else {"env": origin.id, "env_options": origin.options}
        self.trainer.about = {**where, **(self._made_again(seed) if behaviour is None else {})}

    def _made_again(self, seed: int) -> dict[str, Any]:
        """What makes the paper's behaviour again; nothing where its arguments are no plain values."""
        try:
            numbers = to_json(self.config.behaviour)
        except NotPlainError:
            return {}
        return {"agent": type(self).__name__, "seed": seed, "behaviour": numbers}

    @classmethod
    @abstractmethod
    def tiny_config(cls, **changes: Any) -> AgentConfig:
        """Numbers for small environments on a CPU."""

    @classmethod
    def tiny(cls: type[A], env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> A:
        """For small environments on a CPU: minutes of one thread. Not a scaled-down paper.

        Args:
            env: see the class.
            changes: numbers of the config by name (:meth:`AgentConfig.vary`).
            **options: of the class.
        """
        return cls(env, cls.tiny_config().vary(**dict(changes or {})), **options)

    @classmethod
    @abstractmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> Agent:
        """The paper's behaviour alone, in any world model that has what it needs.

        Args:
            model: the world model.
            seed: of its dreams.
            **changes: arguments of the behaviour that differ from the paper's, as in ``AgentConfig.behaviour``.

        Raises:
            CapabilityError: if the model lacks something.
        """

    def train(self, steps: int) -> dict[str, float]:
        """Act, fit the model and learn until so many real steps were taken, counting those of a resumed run.

        Args:
            steps: real steps in all, over all environments.

        Returns:
            The newest losses and diagnostics, and ``return``, the mean of the last 20 real episodes.

        Raises:
            DivergedError, FolderInUseError, KeyboardInterrupt: see :meth:`OnlineTrainer.train`.
        """
        return self.trainer.train(steps)

    def evaluate(self) -> float:
        """Mean return of whole real episodes without exploration."""
        return self.trainer.evaluate()

    # -- as an agent ---------------------------------------------------------------------------------------------------

    @property
    def learns_from(self) -> LearnsFrom:
        """What the behaviour learns from."""
        return self.behaviour.learns_from

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self._model

    @property
    def dream_policy(self) -> TensorDictModuleBase:
        """Acts in a dream."""
        return self.behaviour.dream_policy

    @property
    def real_policy(self) -> TensorDictModuleBase:
        """Acts in reality."""
        return self.behaviour.real_policy

    @property
    def dreamed_steps(self) -> int:
        """Steps dreamt so far."""
        return self.behaviour.dreamed_steps

    def learn(self, experience: Experience) -> dict[str, float]:
        """Improve the behaviour once.

        Args:
            experience: what it learns from.
        """
        return self.behaviour.learn(experience)

    def state_dict(self) -> dict[str, Any]:
        """Of the behaviour."""
        return self.behaviour.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of the behaviour."""
        self.behaviour.load_state_dict(state)
