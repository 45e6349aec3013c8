"""How good controllers are in dreams: a whole population dreams in one batch."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.evolution.controller import LinearController
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.options import StepChoices
from wmcomponents.dream.rules import DreamRules
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import State, WorldModel

GLANCE = 16
"""Of so many steps one is asked, on a CPU, whether any dream still goes on."""


class Earned(NamedTuple):
    """What a population earned in P x R rollouts.

    Attributes:
        returns: sum of the rewards until the end or the horizon, ``[P, R]``.
        lengths: steps until then, ``[P, R]``.
    """

    returns: Tensor
    lengths: Tensor


class Returns(Protocol):
    """Tells how good controllers are.

    Attributes:
        model: the world model whose features they read.
    """

    model: WorldModel

    def __call__(
        self, controller: LinearController, genomes: Tensor, experience: Experience, generator: torch.Generator
    ) -> Earned:
        """What each of P controllers ``[P, N]`` earns; ``controller`` is what the genomes are of."""
        ...


class DreamReturns:
    """Returns of controllers in dreams of P x R rows.

    The r-th dream of every controller begins in the same state and meets the same noise (common random numbers), so
    that controllers differ by what they do and not by their luck; the paper's dreams were drawn apart.

    Args:
        model: the world model.
        rollouts: R, dreams of each controller.
        horizon: steps after which a dream is cut.
        options: how dreams go, as :class:`~wmcomponents.dream.options.StepOptions`: ``termination``, ``reward`` ...

    Raises:
        CapabilityError: if the model lacks features, a reward, or what an option needs.
        TypeError, ValueError: if an option is unknown or out of range.
    """

    def __init__(self, model: WorldModel, rollouts: int, horizon: int, options: Mapping[str, Any]) -> None:
        self.model = model
        self.rollouts = whole("rollouts", rollouts, 1, "dreams of each controller, at least 1")
        self.horizon = whole("horizon", horizon, 1, "a number of dreamt steps, at least 1")
        given = {"view": "latent", **options}
        if "continue" not in model.capabilities:
            given.setdefault("termination", "off")
        self.rules = DreamRules(model, StepChoices.read(model, given, DreamReturns))

    def __call__(
        self, controller: LinearController, genomes: Tensor, experience: Experience, generator: torch.Generator
    ) -> Earned:
        """Dream R times with each controller.

        Args:
            controller: what the genomes are of.
            genomes: P controllers, ``[P, N]``.
            experience: says where dreams begin.
            generator: of starts and noise, on the model's device.
        """
        return self.dream(controller, genomes, self._starts(experience, generator), generator)

    def _starts(self, experience: Experience, generator: torch.Generator) -> State:
        """R states to dream from, none in which an episode has ended."""
        if experience.with_data:
            known = experience.states().reshape(-1)
            going_on = torch.nonzero(~known["terminated"][:, 0])[:, 0]
            place = torch.randint(len(going_on), (self.rollouts,), generator=generator, device=generator.device)
            drawn = known[going_on[place]]
        else:
            drawn = experience.states(self.rollouts)
        return {str(key): cast(Tensor, drawn[key]) for key in self.model.state_spec.keys()}

    @torch.no_grad()
    def dream(self, controller: LinearController, genomes: Tensor, starts: State, generator: torch.Generator) -> Earned:
        """Dream once from each start with each controller.

        Args:
            controller: what the genomes are of.
            genomes: P controllers, ``[P, N]``.
            starts: R states, ``[R, ...]`` each.
            generator: of the noise, on the model's device.
        """
        people, rows = genomes.shape[0], next(iter(starts.values())).shape[0]
        with EvalMode(self.model):
            return self._dreamt(controller, genomes, _repeated(starts, people), (people, rows), generator)

    def _dreamt(
        self,
        controller: LinearController,
        genomes: Tensor,
        state: State,
        shape: tuple[int, int],
        generator: torch.Generator,
    ) -> Earned:
        rules, count = self.rules, shape[0] * shape[1]
        returns = genomes.new_zeros(count, 1)
        lengths = torch.zeros_like(returns)
        alive = torch.ones_like(returns, dtype=torch.bool)
        sampled = rules.choices.noise == "sample"
        for step in range(self.horizon):
            action = controller.act(self.model.features(state).unflatten(0, shape), genomes).flatten(0, 1)
            z = _repeated(rules.noise_source((shape[1],), generator), shape[0]) if sampled else None
            state, reward, cont, _, halted = rules.advance(rules.imagine, state, action, (count,), z)
            returns += reward.where(alive, 0.0)
            lengths += alive
            if rules.endless:
                continue
            end = _repeated({"end": _uniform(shape[1], generator)}, shape[0])["end"] if sampled else None
            alive &= ~rules.ended(cont, end, (count,), halted)
            if step % GLANCE == GLANCE - 1 and alive.device.type == "cpu" and not bool(alive.any()):
                break
        return Earned(returns.view(shape), lengths.view(shape))


def _uniform(rows: int, generator: torch.Generator) -> Tensor:
    return torch.rand((rows, 1), generator=generator, device=generator.device)


def _repeated(values: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    """Rows ``[R, ...]`` once for each controller, ``[P * R, ...]``."""
    return {key: value.repeat(times, *[1] * (value.ndim - 1)) for key, value in values.items()}
