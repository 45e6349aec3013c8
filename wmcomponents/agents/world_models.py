"""World Models as a whole agent (Ha and Schmidhuber, World Models, 2018): V and M, and a controller that is evolved."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from wmcomponents._arguments import whole
from wmcomponents._interruption import postponed
from wmcomponents.agents.evolution import EvolutionAgent, RealReturns, SteeringAndPedals
from wmcomponents.agents.schedule import Schedule
from wmcomponents.agents.whole_agent import AgentConfig, WholeAgent
from wmcomponents.data.environments import maker_of
from wmcomponents.models import WorldModels, WorldModelsConfig
from wmcomponents.world_model import Needs, WorldModel

NEVER = 10**9
"""Updates of the model between two calls of a behaviour that is evolved afterwards."""


@dataclass(frozen=True)
class WorldModelsAgentConfig(AgentConfig):
    """The numbers of a :class:`WorldModelsAgent`.

    Attributes:
        generations_after: generations once all real steps are taken, in the model as it is then; those before count.
    """

    generations_after: int = 0


class WorldModelsAgent(WholeAgent):
    """Random data, V, then M, then a linear controller by CMA-ES in M's dreams; again with the controller's own data.

    Where the model is fitted in phases, its updates between two calls of the behaviour (``agent_every``) are those of a
    phase, so that the controller is evolved in what the phase came to: ``generations`` at once. Where it is fitted
    once, as in the paper's two experiments, ``generations_after`` follow (:meth:`evolve`).

    Departs from the paper in this: dreams begin in states of the filter along the data rather than where episodes
    began, the dreams of one generation share their noise between the controllers, and the mean of CMA-ES's distribution
    acts rather than its best sample.

    Example:
        >>> few = {"prefill": 20, "pretrain": 2, "agent_every": 2, "sequence_length": 4, "vision_steps": 1}
        >>> behaviour = {"population": 4, "rollouts": 2, "horizon": 3, "generations": 1}
        >>> agent = WorldModelsAgent.tiny("CartPole-v1", changes={**few, "behaviour": behaviour}, progress=False)
        >>> agent.train(20)["agent/length"] > 0
        True
    """

    needs: ClassVar[Needs] = Needs(("features", "reward"))
    model_class: ClassVar[Any] = WorldModels

    @classmethod
    def tiny_config(cls, **changes: Any) -> WorldModelsAgentConfig:
        """Minutes on a CPU: a phase of 1200 updates, V's first, and 15 generations after each 1000 real steps.

        Args:
            **changes: see :meth:`AgentConfig.vary`.
        """
        behaviour = {
            "population": 16, "rollouts": 12, "horizon": 300, "generations": 15, "dream": {"termination": "threshold"},
        }  # fmt: skip
        times = Schedule(prefill=1000, pretrain=1200, updates_per_step=1.2, steps_between=1000, agent_every=1200)
        sizes: dict[str, Any] = {
            "batch_size": 16,
            "sequence_length": 32,
            "capacity": 100_000,
            "lr": 1e-3,
            "warmup": 100,
        }
        model = WorldModelsConfig.tiny(hidden=64, vision_steps=200, cycle_steps=1200)
        return cast(
            WorldModelsAgentConfig, WorldModelsAgentConfig(model, behaviour, schedule=times, **sizes).vary(**changes)
        )

    @classmethod
    def _fitted_once(cls, model: WorldModelsConfig, behaviour: dict[str, Any], steps: int) -> WorldModelsAgentConfig:
        """Random steps, then V and M, then 1,800 generations."""
        updates = 2 * model.loss.vision_steps
        times = Schedule(prefill=steps, pretrain=updates, updates_per_step=0.0, agent_every=NEVER)
        sizes: dict[str, Any] = {"batch_size": 16, "sequence_length": 50, "capacity": steps}
        return WorldModelsAgentConfig(model, behaviour, schedule=times, generations_after=1800, **sizes)

    @classmethod
    def carracing(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "WorldModelsAgent":
        """The paper's for CarRacing: 10,000 random episodes, V and M, then a controller evolved in reality.

        Every generation plays 64 x 16 whole episodes. The random steps are ten million frames, 123 GB: pass a replay
        buffer on disk, or fewer (``{"prefill": 1_000_000, "capacity": 1_000_000}``).

        Args:
            env: see the class; 64x64 pixels.
            changes: numbers by name; of the behaviour ``rollouts``, ``population``, ``sigma`` and ``squash``.
            **options: of the class.
        """
        behaviour = {"squash": SteeringAndPedals()}
        config = cls._fitted_once(WorldModelsConfig.carracing(), behaviour, 10_000_000).vary(**dict(changes or {}))
        numbers, seed = dict(config.behaviour), options.get("seed", 0)
        rollouts = numbers.pop("rollouts", 16)

        def in_reality(model: WorldModel) -> EvolutionAgent:
            returns = RealReturns(model, maker_of(env), rollouts=rollouts, seed=seed)
            return EvolutionAgent(model, returns=returns, seed=seed, **numbers)

        agent = cls(env, config, **{"behaviour": in_reality, **options})
        if "behaviour" not in options:
            agent.trainer.about = {**agent.trainer.about, **agent._made_again(seed)}
        return agent

    @classmethod
    def doom(cls, env: Any, *, changes: Mapping[str, Any] | None = None, **options: Any) -> "WorldModelsAgent":
        """The paper's for DoomTakeCover: 10,000 episodes at random, then a controller evolved in dreams alone.

        Its dreams are of temperature 1.25 and at most 2100 steps, and end where the termination is likelier than not.
        Ours has an output for each choice, where the paper cuts one number at a third.

        Args:
            env: see the class; 64x64 pixels.
            changes: numbers by name, such as ``{"temperature": 1.15}``.
            **options: of the class.
        """
        behaviour = {"horizon": 2100, "bias": False, "dream": {"termination": "threshold"}}
        config = cls._fitted_once(WorldModelsConfig.doom(), behaviour, 2_000_000)
        return cls(env, config.vary(**dict(changes or {})), **options)

    @classmethod
    def behaviour_in(cls, model: WorldModel, *, seed: int = 0, **changes: Any) -> EvolutionAgent:
        """The paper's controller in any world model with features and rewards.

        Args:
            model: the world model.
            seed: of controllers and dreams.
            **changes: arguments of :class:`EvolutionAgent` that differ from the paper's.
        """
        return EvolutionAgent(model, seed=seed, **changes)

    def train(self, steps: int) -> dict[str, float]:
        """Take so many real steps with all that is due, then evolve for ``generations_after``; see the base class."""
        found = super().train(steps)
        generations = getattr(self.config, "generations_after", 0)
        return {**found, **self.evolve(generations)} if generations else found

    def evolve(self, generations: int) -> dict[str, float]:
        """Evolve in the model as it is until there are so many generations in all, counting those of a resumed run.

        With ``out`` the bundle is written as often as in :meth:`train`, and before Ctrl-C ends it.

        Args:
            generations: the total to reach.

        Returns:
            What the last generation told, as ``agent/...``.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once a bundle is written.
            TypeError: if the behaviour is not evolved.
        """
        behaviour, trainer = self.behaviour, self.trainer
        if not isinstance(behaviour, EvolutionAgent):
            raise TypeError(f"a {type(behaviour).__name__} is not evolved: train() is all it needs.")
        whole("generations", generations, 0, "a number of generations, at least 0")
        due = time.monotonic() + trainer.save_seconds
        with postponed() as request:
            while behaviour.evolved < generations:
                found = behaviour.learn(trainer.experience)
                trainer.callback_metrics.update({f"agent/{name}": value for name, value in found.items()})
                done = behaviour.evolved >= generations
                if trainer.out is not None and (request or done or time.monotonic() >= due):
                    trainer.save()
                    due = time.monotonic() + trainer.save_seconds
                request.check()
        return {name: value for name, value in trainer.callback_metrics.items() if name.startswith("agent/")}
