"""The papers' planners, and ours, as parts put together; every number and part can be replaced."""

import math
from functools import partial
from typing import Any

from torchrl.data import TensorSpec

from wmcomponents.agents.planners.budget import Budget
from wmcomponents.agents.planners.categorical import CategoricalProposal
from wmcomponents.agents.planners.choice import BestSequence, SampledElite
from wmcomponents.agents.planners.colored import ColoredGaussian
from wmcomponents.agents.planners.elites import EqualElites, SoftElites
from wmcomponents.agents.planners.gaussian import (
    BoundedStd,
    ClippedGaussian,
    SmoothedGaussian,
    SmoothedStd,
    Spread,
    TruncatedGaussian,
    sample_std,
)
from wmcomponents.agents.planners.gradient import GradientSearch
from wmcomponents.agents.planners.gradient_steps import AdamStep
from wmcomponents.agents.planners.objectives import Objective, SummedReward, thresholded
from wmcomponents.agents.planners.planner import Planner
from wmcomponents.agents.planners.proposal import Proposal, Unfitted, Uniform
from wmcomponents.agents.planners.recycled import KeptElites
from wmcomponents.agents.planners.sampling import DecayingPopulation, SamplingSearch
from wmcomponents.agents.planners.tdmpc2 import PriorPolicy, PriorValue, task_discount, task_mask
from wmcomponents.agents.planners.warm_start import ShiftedPlan
from wmcomponents.codecs import ActionVector, DiscreteCodec
from wmcomponents.models import TDMPC2
from wmcomponents.world_model import WorldModel

MBRL_NAN = -1e-10
"""What mbrl-lib puts in place of a value that is not a number: more than any negative return."""


def _proposal(spec: TensorSpec, spread: Spread, init_std: float = 1.0) -> Proposal:
    """Gaussian for numbers, categorical for choices (ours: the papers have numbers alone)."""
    codec = ActionVector(spec).codec
    if isinstance(codec, DiscreteCodec):
        return CategoricalProposal(codec.classes)
    return ClippedGaussian(init_std=init_std, spread=spread)


def random_shooting(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 12,
    candidates: int = 1000,
    budget: int | Budget = 1,
    **options: Any,
) -> Planner:
    """The best of random sequences.

    Args:
        model: the world model.
        objective: summed reward if not given.
        horizon: H.
        candidates: N.
        budget: how often as many are drawn.
        **options: of :class:`Planner`.
    """
    codec = ActionVector(model.action_spec).codec
    proposal = Unfitted(CategoricalProposal(codec.classes)) if isinstance(codec, DiscreteCodec) else Uniform()
    search = SamplingSearch(proposal, EqualElites(1), candidates)
    parts = {"choice": BestSequence(), **options}
    return Planner(model, search, objective or SummedReward(), horizon=horizon, budget=budget, **parts)


def cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 12,
    candidates: int = 200,
    elites: int = 20,
    momentum: float = 0.1,
    budget: int | Budget = 5,
    **options: Any,
) -> Planner:
    """The cross-entropy method with a warm start: our default for planning, for numbers and for choices.

    Args:
        model: the world model.
        objective: summed reward, weighed by continuation, if not given.
        horizon: H.
        candidates: N.
        elites: K.
        momentum: share of the old distribution in the new one.
        budget: iterations.
        **options: of :class:`Planner`.
    """
    search = SamplingSearch(
        _proposal(model.action_spec, SmoothedStd()), EqualElites(elites), candidates, momentum=momentum
    )
    parts = {"warm_start": ShiftedPlan(), **options}
    return Planner(model, search, objective or SummedReward(), horizon=horizon, budget=budget, **parts)


def mppi(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 12,
    candidates: int = 200,
    elites: int = 20,
    inverse_temperature: float = 0.5,
    min_std: float = 0.05,
    max_std: float = 2.0,
    budget: int | Budget = 5,
    **options: Any,
) -> Planner:
    """Model predictive path integral control, in TD-MPC2's form, in any model, for numbers and for choices.

    Args:
        model: the world model.
        objective: summed reward if not given.
        horizon: H.
        candidates: N.
        elites: K.
        inverse_temperature: the larger, the more the best candidates count.
        min_std: the smallest spread.
        max_std: the largest, with which every plan begins.
        budget: iterations.
        **options: of :class:`Planner`.
    """
    proposal = _proposal(model.action_spec, BoundedStd(min_std, max_std), max_std)
    search = SamplingSearch(proposal, SoftElites(elites, inverse_temperature), candidates)
    parts = {"warm_start": ShiftedPlan(), **options}
    return Planner(model, search, objective or SummedReward(), horizon=horizon, budget=budget, **parts)


def gradient_descent(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 12,
    starts: int = 8,
    lr: float = 0.1,
    budget: int | Budget = 30,
    **options: Any,
) -> Planner:
    """Adam on the actions, through the model.

    Args:
        model: the world model.
        objective: summed reward if not given.
        horizon: H.
        starts: sequences side by side.
        lr: length of a step.
        budget: steps.
        **options: of :class:`Planner`.

    Raises:
        ValueError: if actions are choices.
    """
    parts = {"choice": BestSequence(), "warm_start": ShiftedPlan("best"), **options}
    search = GradientSearch(starts=starts, step=AdamStep(lr))
    return Planner(model, search, objective or SummedReward(), horizon=horizon, budget=budget, **parts)


def planet_cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 12,
    candidates: int = 1000,
    elites: int = 100,
    budget: int | Budget = 10,
    **options: Any,
) -> Planner:
    """PlaNet's planner: the cross-entropy method, anew at every step, its mean executed.

    Args:
        model: the world model.
        objective: summed reward without discount if not given.
        horizon: H.
        candidates: J.
        elites: K.
        budget: I, iterations.
        **options: of :class:`Planner`.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (2019), Algorithm 2 and section 3.
    """
    search = SamplingSearch(_proposal(model.action_spec, SmoothedStd()), EqualElites(elites), candidates)
    return Planner(model, search, objective or SummedReward(), horizon=horizon, budget=budget, **options)


def pets_cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 30,
    candidates: int = 400,
    elite_ratio: float = 0.16,
    momentum: float = 0.12,
    budget: int | Budget = 5,
    particles: int = 20,
    **options: Any,
) -> Planner:
    """PETS' planner as in mbrl-lib, with its numbers of HalfCheetah: truncated Gaussians, particles, warm start.

    Args:
        model: the world model; PETS' is an ensemble.
        objective: summed reward until a predicted end if not given.
        horizon: H.
        candidates: N.
        elite_ratio: share of elites.
        momentum: share of the old distribution in the new one.
        budget: iterations.
        particles: dreams of each candidate.
        **options: of :class:`Planner`.

    Reference: Chua et al., Deep Reinforcement Learning in a Handful of Trials (2018).
    """
    search = SamplingSearch(
        TruncatedGaussian(), EqualElites(math.ceil(candidates * elite_ratio)), candidates, momentum=momentum
    )
    parts = {"warm_start": ShiftedPlan(), "nan_value": MBRL_NAN, "particles": particles, **options}
    objective = objective or SummedReward(continuation=thresholded)
    return Planner(model, search, objective, horizon=horizon, budget=budget, **parts)


def mbrl_clipped_cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 12,
    candidates: int = 1000,
    elite_ratio: float = 0.1,
    momentum: float = 0.0,
    budget: int | Budget = 10,
    **options: Any,
) -> Planner:
    """mbrl-lib's cross-entropy method with clipped Gaussians, its best candidate executed.

    Args:
        model: the world model.
        objective: summed reward until a predicted end if not given.
        horizon: H.
        candidates: N.
        elite_ratio: share of elites.
        momentum: share of the old distribution in the new one.
        budget: iterations.
        **options: of :class:`Planner`.
    """
    search = SamplingSearch(
        ClippedGaussian(spread=sample_std),
        EqualElites(math.ceil(candidates * elite_ratio)),
        candidates,
        momentum=momentum,
    )
    parts = {"choice": BestSequence(), "nan_value": MBRL_NAN, **options}
    objective = objective or SummedReward(continuation=thresholded)
    return Planner(model, search, objective, horizon=horizon, budget=budget, **parts)


def icem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 10,
    candidates: int = 200,
    elite_ratio: float = 0.1,
    momentum: float = 0.1,
    decay: float = 1.3,
    kept: float = 0.3,
    exponent: float = 2.0,
    budget: int | Budget = 5,
    **options: Any,
) -> Planner:
    """ICEM as in mbrl-lib: coloured noise, fewer candidates at every iteration, elites that are kept.

    Args:
        model: the world model.
        objective: summed reward until a predicted end if not given.
        horizon: H.
        candidates: N of the first iteration.
        elite_ratio: share of elites.
        momentum: share of the old distribution in the new one.
        decay: factor by which candidates become fewer.
        kept: share of the elites that is kept.
        exponent: of the noise's spectrum.
        budget: iterations.
        **options: of :class:`Planner`.

    Reference: Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning (2020).
    """
    elites = math.ceil(candidates * elite_ratio)
    search = SamplingSearch(
        ColoredGaussian(exponent),
        EqualElites(elites),
        DecayingPopulation(candidates, decay, 2 * elites),
        momentum=momentum,
        recycled=KeptElites(math.ceil(kept * elites)),
    )
    parts = {"warm_start": ShiftedPlan(), "nan_value": MBRL_NAN, **options}
    objective = objective or SummedReward(continuation=thresholded)
    return Planner(model, search, objective, horizon=horizon, budget=budget, **parts)


def pddm_mppi(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 30,
    candidates: int = 350,
    inverse_temperature: float = 0.9,
    share: float = 0.9,
    budget: int | Budget = 5,
    **options: Any,
) -> Planner:
    """PDDM's planner as in mbrl-lib: every action leans on the one before, all candidates count.

    Args:
        model: the world model.
        objective: summed reward until a predicted end if not given.
        horizon: H.
        candidates: N.
        inverse_temperature: gamma.
        share: beta, of the new action.
        budget: iterations.
        **options: of :class:`Planner`.

    Reference: Nagabandi et al., Deep Dynamics Models for Learning Dexterous Manipulation (2019).
    """
    search = SamplingSearch(SmoothedGaussian(share), SoftElites(candidates, inverse_temperature), candidates)
    parts = {"warm_start": ShiftedPlan(tail="last"), "nan_value": MBRL_NAN, **options}
    objective = objective or SummedReward(continuation=thresholded)
    return Planner(model, search, objective, horizon=horizon, budget=budget, **parts)


def tdmpc2_mppi(
    model: TDMPC2,
    *,
    horizon: int = 3,
    candidates: int = 512,
    proposals: int = 24,
    elites: int = 64,
    inverse_temperature: float = 0.5,
    min_std: float = 0.05,
    max_std: float = 2.0,
    budget: int | Budget | None = None,
    **options: Any,
) -> Planner:
    """TD-MPC2's planner in its model: policy proposals, the value of the last states, warm start, tasks.

    Args:
        model: a TD-MPC2, of one task or several.
        horizon: H.
        candidates: N, proposals included.
        proposals: how many the policy prior proposes.
        elites: K.
        inverse_temperature: called temperature in the paper.
        min_std: the smallest spread.
        max_std: the largest, with which every plan begins.
        budget: iterations; 6, and 8 from 20 action dimensions on, if not given.
        **options: of :class:`Planner`.

    Reference: Hansen et al., TD-MPC2: Scalable, Robust World Models for Continuous Control (2024), section 3.2.
    """
    proposal = _proposal(model.action_spec, BoundedStd(min_std, max_std), max_std)
    search = SamplingSearch(proposal, SoftElites(elites, inverse_temperature), candidates)
    objective = SummedReward(task_discount(model), PriorValue(model), thresholded)
    parts: dict[str, Any] = {
        "choice": SampledElite(),
        "warm_start": ShiftedPlan(),
        "policy": PriorPolicy(model),
        "proposals": proposals,
        "nan_value": 0.0,
        "action_mask": partial(task_mask, model),
    }
    if budget is None:
        budget = 8 if model.action_vector.size >= 20 else 6
    return Planner(model, search, objective, horizon=horizon, budget=budget, **{**parts, **options})
