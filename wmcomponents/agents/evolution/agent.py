"""A controller that is evolved in dreams, as an agent."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.agent import LearnsFrom
from wmcomponents.agents.evolution.cma_es import CMAES
from wmcomponents.agents.evolution.controller import LinearController
from wmcomponents.agents.evolution.dream_returns import DreamReturns, Returns
from wmcomponents.agents.evolution.real_returns import RealReturns
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.starts import model_device
from wmcomponents.training import DivergedError
from wmcomponents.world_model import LatentPolicy, Needs, WorldModel


class EvolutionAgent:
    """A linear controller on a world model's features, evolved by CMA-ES in its dreams (World Models' C).

    Each generation, all controllers dream at once, from states of the filter along real sequences; fitness is the mean
    return. What acts is the mean of the strategy's distribution, which single lucky dreams move least.

    Args:
        model: the world model.
        population: controllers of a generation.
        rollouts: dreams of each.
        sigma: initial standard deviation of a controller's numbers.
        horizon: steps after which a dream is cut.
        generations: of one call of :meth:`learn`.
        bias: whether the controller has a bias.
        squash: from its raw outputs to the action's vector (:class:`LinearController`).
        sample: draw the filter's z where it acts in reality; the mode otherwise.
        explore: a TensorDict module that changes its action in reality.
        dream: how dreams go, as :class:`~wmcomponents.dream.options.StepOptions` says.
        returns: what tells how good controllers are, in place of dreams: :class:`RealReturns`.
        seed: of controllers and dreams.

    Attributes:
        evolved: generations so far.

    Raises:
        CapabilityError: if the model offers no features, or no reward and none is given.
        MissingExtraError: if ``cma`` is not installed.
        ValueError: if a number is out of range.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.models import WorldModels, WorldModelsConfig
        >>> model = WorldModels(WorldModelsConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> agent = EvolutionAgent(model, population=8, rollouts=4, horizon=10)
        >>> sorted(agent.learn(Experience(model)))
        ['length', 'return', 'return_best', 'sigma']

    Reference: Ha and Schmidhuber, World Models (2018), sections 2.3 and 4.
    """

    learns_from: LearnsFrom = "states"

    def __init__(
        self,
        model: WorldModel,
        *,
        population: int = 64,
        rollouts: int = 16,
        sigma: float = 0.1,
        horizon: int = 1000,
        generations: int = 1,
        bias: bool = True,
        squash: Callable[[Tensor], Tensor] | None = None,
        sample: bool = True,
        explore: TensorDictModuleBase | None = None,
        dream: Mapping[str, Any] | None = None,
        returns: Returns | None = None,
        seed: int = 0,
    ) -> None:
        given = dict(dream or {})
        rewarded = returns is not None or given.get("reward") is not None
        self.needs = Needs(("features",) if rewarded else ("features", "reward"))
        self.needs.check(model, "A controller that is evolved in dreams")
        self.generations = whole("generations", generations, 1, "a number of generations, at least 1")
        self.returns: Returns = DreamReturns(model, rollouts, horizon, given) if returns is None else returns
        self.generator = torch.Generator(model_device(model)).manual_seed(seed)
        with torch.no_grad():
            features = model.features(model.initial_state((1,), model_device(model))).shape[-1]
        self.controller = LinearController(features, model.action_spec, bias=bias, squash=squash)
        self.controller.to(model_device(model))
        self.search = CMAES(self.controller.size, population=population, sigma=sigma, seed=seed)
        self.evolved = self._dreamed = 0
        chain: list[Any] = [self.controller, explore]
        acting: Any = self.controller if explore is None else TensorDictSequential(*chain)
        self._real_policy = LatentPolicy(model, acting, sample=sample, seed=0)

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.returns.model

    @property
    def dream_policy(self) -> LinearController:
        """The controller: reads ``latent``, writes ``action``."""
        return self.controller

    @property
    def real_policy(self) -> LatentPolicy:
        """The controller behind the model's filter."""
        return self._real_policy

    @property
    def dreamed_steps(self) -> int:
        """Steps that living dreams took, of all controllers."""
        return self._dreamed

    @property
    def real_steps(self) -> int:
        """Real steps that fitness took; none in dreams."""
        return self.returns.steps if isinstance(self.returns, RealReturns) else 0

    def learn(self, experience: Experience) -> dict[str, float]:
        """Evolve for :attr:`generations`, each from other states of the experience.

        Args:
            experience: says where dreams begin.

        Raises:
            DivergedError: if a return is not finite; the controllers are those of the generation before.
        """
        found: dict[str, float] = {}
        for _ in range(self.generations):
            found = self._evolve(experience)
        return found

    def _evolve(self, experience: Experience) -> dict[str, float]:
        solutions = self.search.ask()
        device = self.controller.genome.device
        genomes = solutions.to(device, self.controller.genome.dtype)
        earned = self.returns(self.controller, genomes, experience, self.generator)
        fitness = earned.returns.mean(-1)
        if not bool(torch.isfinite(fitness).all()):
            raise DivergedError(
                f"a return in {type(self.model).__name__} is not finite in generation {self.evolved}: lower the "
                f"model's learning rate, or look at the rewards."
            )
        self.evolved += 1
        if isinstance(self.returns, DreamReturns):
            self._dreamed += int(earned.lengths.sum())
        # Where all are alike, their order says nothing, and the strategy would take it for a direction.
        if bool((fitness != fitness[0]).any()):
            self.search.tell(solutions, fitness)
            self.controller.genome.copy_(self.search.mean)
        return {
            "return": float(fitness.mean()),
            "return_best": float(fitness.max()),
            "length": float(earned.lengths.mean()),
            "sigma": self.search.sigma,
        }

    def state_dict(self) -> dict[str, Any]:
        """The controller, the strategy, the draws and the count of dreamt steps."""
        return {
            "genome": self.controller.genome.clone(),
            "search": self.search.state_dict(),
            "generator": self.generator.get_state(),
            "filter": self._real_policy.generator_state(),
            "dreamed": self._dreamed,
            "evolved": self.evolved,
            "real_steps": self.real_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.search.load_state_dict(state["search"])
        self.controller.genome.copy_(state["genome"])
        self.generator.set_state(state["generator"])
        self._real_policy.set_generator_state(state["filter"])
        self._dreamed, self.evolved = int(state["dreamed"]), int(state["evolved"])
        if isinstance(self.returns, RealReturns):
            self.returns.steps = int(state["real_steps"])
