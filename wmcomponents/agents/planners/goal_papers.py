"""The planners of papers whose world models predict features alone: towards what a goal observation shows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchrl.data import TensorSpec

from wmcomponents.agents.planners.budget import Budget
from wmcomponents.agents.planners.categorical import CategoricalProposal
from wmcomponents.agents.planners.choice import DeadZone, LastSequence, MeanSequence, SampledElite
from wmcomponents.agents.planners.elites import EqualElites, SoftElites
from wmcomponents.agents.planners.gaussian import BoundedStd, ClippedGaussian
from wmcomponents.agents.planners.gradient import GradientSearch
from wmcomponents.agents.planners.gradient_steps import AdamStep, PlainStep
from wmcomponents.agents.planners.objectives import GoalDistance, Objective
from wmcomponents.agents.planners.planner import Planner
from wmcomponents.agents.planners.proposal import Bound, HeldEntries, MeanFirst, Proposal
from wmcomponents.agents.planners.sampling import SamplingSearch
from wmcomponents.agents.planners.straight_line import StraightLine
from wmcomponents.codecs import ActionVector, DiscreteCodec, Standardize
from wmcomponents.dream.goals import Distance, GoalReward, GoalTerm, GoalWorldModel
from wmcomponents.functional.goal_distances import mean_absolute, mean_squared, summed_squared
from wmcomponents.functional.pose import GRIPPER, POSITION, ROTATION
from wmcomponents.world_model import WorldModel

FREE = math.inf
"""Papers do not clip candidates; whatever is imagined or executed is clipped to the bounds of the actions."""


def toward_goal(model: WorldModel, distance: Distance = mean_squared, *, running: float = 0.0) -> GoalDistance:
    """The distance of features to the goal that the entry ``goal`` of the state tells.

    Args:
        model: a world model with features, or a :class:`~wmcomponents.dream.GoalWorldModel`, whose own reward is taken.
        distance: of features; that of the goal's reward where the model has one.
        running: weight of the distances before the last one.

    Raises:
        CapabilityError: if the model offers no features.
    """
    if isinstance(model, GoalWorldModel):
        return GoalDistance.of(model.reward, running=running)
    remedy = "hand in an objective, such as GoalDistance.observation(...)."
    model.require("features", driver="a goal in latent space", remedy=remedy)
    return GoalDistance.of(GoalReward(model, terms=[GoalTerm(model.features, distance)]), running=running)


def _numbers_or_choices(spec: TensorSpec, numbers: Proposal) -> Proposal:
    """Categorical for choices (ours: the papers have numbers alone)."""
    codec = ActionVector(spec).codec
    return CategoricalProposal(codec.classes) if isinstance(codec, DiscreteCodec) else numbers


def _units(scale: Standardize | None) -> tuple[Tensor | None, Bound]:
    """Where a plan begins and its unit of length: the actions of the data, or the middle and half of the bounds."""
    return (None, 1.0) if scale is None else (scale.loc.clone(), scale.scale.clone())


def dino_wm_cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 5,
    candidates: int = 300,
    elites: int = 30,
    std: float = 1.0,
    scale: Standardize | None = None,
    budget: int | Budget = 30,
    **options: Any,
) -> Planner:
    """DINO-WM's cross-entropy method: the mean is a candidate itself, and is executed.

    Args:
        model: the world model.
        objective: the mean of squared differences of the last features and the state's goal, if not given.
        horizon: H.
        candidates: N.
        elites: K.
        std: first standard deviation, in units of ``scale``.
        scale: how the model standardises actions, such as ``model.action_scale``; the paper's numbers are in these
            units. In those of the actions' bounds if not given.
        budget: iterations; 10 for the paper's mazes.
        **options: of :class:`Planner`.

    Reference: Zhou et al., DINO-WM (2025), appendix, and its code.
    """
    center, unit = _units(scale)
    proposal = MeanFirst(ClippedGaussian(init_std=std * unit, low=-FREE, high=FREE))
    search = SamplingSearch(_numbers_or_choices(model.action_spec, proposal), EqualElites(elites), candidates)
    parts = {"center": center, **options}
    return Planner(model, search, objective or toward_goal(model), horizon=horizon, budget=budget, **parts)


def dino_wm_gradient(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 5,
    starts: int = 1,
    lr: float = 1.0,
    noise: float = 0.003,
    scale: Standardize | None = None,
    budget: int | Budget = 1000,
    **options: Any,
) -> Planner:
    """DINO-WM's planner by gradient: plain steps with noise from a random sequence, the last one executed.

    Sequences are kept inside the bounds, which the paper leaves to its environments.

    Args:
        model: the world model.
        objective: the mean of squared differences of the last features and the state's goal, if not given.
        horizon: H.
        starts: sequences side by side; the paper has one.
        lr: length of a step, in units of ``scale``.
        noise: standard deviation of what is added after each step.
        scale: see :func:`dino_wm_cem`.
        budget: steps.
        **options: of :class:`Planner`.

    Raises:
        ValueError: if actions are choices.

    Reference: Zhou et al., DINO-WM (2025), appendix, and its code.
    """
    center, unit = _units(scale)
    search = GradientSearch(
        starts=starts, step=PlainStep(lr * unit * unit), std=unit, from_center=False, jitter=noise * unit
    )
    parts = {"choice": LastSequence(), "center": center, **options}
    return Planner(model, search, objective or toward_goal(model), horizon=horizon, budget=budget, **parts)


def lewm_cem(model: WorldModel, objective: Objective | None = None, **options: Any) -> Planner:
    """LeWorldModel's and PLDM's cross-entropy method: DINO-WM's, with the sum of squared differences.

    Args:
        model: the world model.
        objective: the sum of squared differences of the last features and the state's goal, if not given.
        **options: of :func:`dino_wm_cem`.

    Reference: stable-worldmodel's planner, with which both are evaluated.
    """
    return dino_wm_cem(model, objective or toward_goal(model, summed_squared), **options)


def lewm_gradient(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 5,
    starts: int = 100,
    lr: float = 0.1,
    weight_decay: float = 0.01,
    scale: Standardize | None = None,
    budget: int | Budget = 30,
    **options: Any,
) -> Planner:
    """LeWorldModel's planner by gradient: AdamW from many sequences, the last one of the best executed.

    Args:
        model: the world model.
        objective: the sum of squared differences of the last features and the state's goal, if not given.
        horizon: H.
        starts: sequences side by side; the first is that which the plan begins with.
        lr: length of a step, in units of ``scale``.
        weight_decay: AdamW's.
        scale: see :func:`dino_wm_cem`.
        budget: steps.
        **options: of :class:`Planner`.

    Raises:
        ValueError: if actions are choices.

    Reference: stable-worldmodel's planner, with which LeWorldModel and PLDM are evaluated.
    """
    center, unit = _units(scale)
    search = GradientSearch(starts=starts, step=AdamStep(lr * unit, shrink=lr * weight_decay), std=unit)
    parts = {"choice": LastSequence(), "center": center, **options}
    objective = objective or toward_goal(model, summed_squared)
    return Planner(model, search, objective, horizon=horizon, budget=budget, **parts)


def jepa_wms_cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 6,
    candidates: int = 300,
    elites: int = 10,
    std: float = 1.0,
    limit: Bound = FREE,
    momentum_mean: float = 0.0,
    momentum_std: float = 0.0,
    scale: Standardize | None = None,
    budget: int | Budget = 30,
    **options: Any,
) -> Planner:
    """jepa-wms' cross-entropy method: few elites, the mean executed.

    Args:
        model: the world model.
        objective: the mean of squared differences of the last features and the state's goal, if not given.
        horizon: H.
        candidates: N.
        elites: K.
        std: first standard deviation, in units of ``scale``; 0.1 for raw actions of a robot.
        limit: candidates' largest numbers, of all or of each ``[A]``, in the same units.
        momentum_mean: share of the old mean in the new one.
        momentum_std: share of the old standard deviation.
        scale: see :func:`dino_wm_cem`.
        budget: iterations; 15 on Meta-World and DROID.
        **options: of :class:`Planner`.

    Reference: Terver et al., What Drives Success in Physical Planning with Joint-Embedding Predictive World Models?
    (2025), and its code.
    """
    center, unit = _units(scale)
    middle = 0.0 if center is None else center
    proposal = ClippedGaussian(init_std=std * unit, low=middle - limit * unit, high=middle + limit * unit)
    search = SamplingSearch(
        _numbers_or_choices(model.action_spec, proposal),
        EqualElites(elites),
        candidates,
        momentum={"mean": momentum_mean, "std": momentum_std},
    )
    parts = {"center": center, **options}
    return Planner(model, search, objective or toward_goal(model), horizon=horizon, budget=budget, **parts)


def eb_jepa_mppi(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 90,
    candidates: int = 200,
    elites: int = 20,
    inverse_temperature: float = 0.005,
    std: Bound = 1.5 / 2.45,
    budget: int | Budget = 20,
    **options: Any,
) -> Planner:
    """eb_jepa's path integral control: one of the best is drawn, by the sum of its distances on the way.

    Every plan begins anew, as the authors' code does, which keeps the mean of the last one without reading it.
    jepa-wms' is the same with 512 candidates, 64 elites, a weight of 0.5 and a standard deviation of 2.

    Args:
        model: the world model.
        objective: the mean of squared differences of features and the state's goal, summed over all steps, if not
            given.
        horizon: H.
        candidates: N.
        elites: K.
        inverse_temperature: what a difference of cost is multiplied with; called temperature in the code.
        std: first standard deviation, in units of the actions' bounds: 1.5 where the longest action is 2.45.
        budget: iterations.
        **options: of :class:`Planner`.

    Reference: Terver et al., A Lightweight Library for Energy-Based Joint-Embedding Predictive Architectures (2026),
    the example of two rooms.
    """
    proposal = ClippedGaussian(init_std=std, spread=BoundedStd(0.0, FREE), low=-FREE, high=FREE)
    search = SamplingSearch(
        _numbers_or_choices(model.action_spec, proposal), SoftElites(elites, inverse_temperature), candidates
    )
    parts = {"choice": SampledElite(), **options}
    objective = objective or toward_goal(model, running=1.0)
    return Planner(model, search, objective, horizon=horizon, budget=budget, **parts)


def vjepa2_ac_cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 2,
    candidates: int = 400,
    elites: int = 10,
    momentum_mean: float = 0.15,
    momentum_std: float = 0.15,
    gripper_momentum_mean: float = 0.15,
    gripper_momentum_std: float = 0.15,
    longest: float = 0.05,
    axis: Mapping[int, float] | None = None,
    close_gripper: int | None = None,
    budget: int | Budget = 10,
    **options: Any,
) -> Planner:
    """V-JEPA 2-AC's cross-entropy method over steps of a gripper: position and opening alone, rotation at rest.

    Candidates are clipped: positions to ``longest``, the gripper to 0.75. What is executed is the mean, whose gripper
    rests where it would move by less than a quarter.

    Args:
        model: a world model whose actions are the seven numbers of :mod:`wmcomponents.functional.pose`.
        objective: the mean of absolute differences of the last features and the state's goal, if not given.
        horizon: H.
        candidates: N.
        elites: K.
        momentum_mean: share of the old mean in the new one, of the position.
        momentum_std: share of the old standard deviation, of the position.
        gripper_momentum_mean: share of the old mean, of the gripper.
        gripper_momentum_std: share of the old standard deviation, of the gripper.
        longest: largest step along an axis, in metres, which is the first standard deviation too.
        axis: numbers of the action that are held at a value in all candidates, by index.
        close_gripper: step from which the gripper closes, whatever the candidates say.
        budget: iterations.
        **options: of :class:`Planner`.

    Raises:
        ValueError: if the actions are not seven numbers between bounds that lie evenly around 0.

    Reference: Assran et al., V-JEPA 2 (2025), section 3.2, and its code.
    """
    vector = ActionVector(model.action_spec)
    if vector.size != 7 or vector.center is None or vector.radius is None or bool(vector.center.any()):
        raise ValueError(
            f"V-JEPA 2-AC plans steps of a gripper: seven numbers (position, rotation, opening) between bounds evenly "
            f"around 0, Bounded(-high, high, (7,)); got {model.action_spec}."
        )

    def entries(position: float, rotation: float, gripper: float) -> Tensor:
        numbers = torch.full((7,), rotation)
        numbers[POSITION], numbers[GRIPPER] = position, gripper
        return numbers

    unit = vector.radius
    limit = entries(longest, 0.0, 0.75) / unit
    held = torch.full((horizon, 7), math.nan)
    held[:, ROTATION] = 0.0
    center = torch.zeros(7)
    for index, value in (axis or {}).items():
        held[:, index] = center[index] = value / float(unit[index])
    if close_gripper is not None:
        held[close_gripper:, GRIPPER] = 1.0 / unit[GRIPPER]
    momentum = {
        "mean": entries(momentum_mean, 0.0, gripper_momentum_mean),
        "std": entries(momentum_std, 0.0, gripper_momentum_std),
    }
    proposal = ClippedGaussian(init_std=entries(longest, 0.0, 1.0) / unit, low=-limit, high=limit)
    search = SamplingSearch(HeldEntries(proposal, held), EqualElites(elites), candidates, momentum=momentum)
    below = entries(0.0, 0.0, 0.25) / unit
    parts = {"choice": DeadZone(MeanSequence(), below), "center": center, **options}
    objective = objective or toward_goal(model, mean_absolute)
    return Planner(model, search, objective, horizon=horizon, budget=budget, **parts)


NWM_LINES: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "recon": ((-0.1, 0.0, 0.0), (0.02, 0.1, 0.1)),
    "tartan": ((0.5, 0.0, 0.0), (0.07, 0.1, 0.1)),
    "scand": ((-0.25, 0.0, 0.0), (0.04, 0.1, 0.1)),
    "sacson": ((-0.33, 0.0, 0.0), (0.03, 0.1, 0.1)),
}
"""Mean and standard deviation of the first lines that NWM's planner draws on its data sets."""


def nwm_cem(
    model: WorldModel,
    objective: Objective | None = None,
    *,
    horizon: int = 8,
    candidates: int = 120,
    elites: int = 5,
    mean: Sequence[float] = NWM_LINES["recon"][0],
    std: Sequence[float] = NWM_LINES["recon"][1],
    repeats: int = 3,
    as_published: bool = False,
    budget: int | Budget = 1,
    **options: Any,
) -> Planner:
    """NWM's cross-entropy method over straight lines: few candidates, each dreamt several times, one iteration.

    Args:
        model: a world model whose actions are moves on a map, or a robot's steps (forward, left, turn in radians).
        objective: the mean of squared differences of the last features and the state's goal, if not given; the paper
            takes the perceptual distance of pictures, ``GoalDistance.observation(model, key, distance=...)``.
        horizon: H.
        candidates: N.
        elites: K.
        mean: of the first lines: a step in units of the actions' bounds, and the turn at the end over π, which moves
            on a map do not have; the numbers for RECON if not given, see :data:`NWM_LINES`.
        std: their standard deviations.
        repeats: dreams of each candidate, over which its distance is the mean.
        as_published: see :class:`StraightLine`.
        budget: iterations.
        **options: of :class:`Planner`.

    Raises:
        ValueError: if the actions are others, or have no bounds.

    Reference: Bar et al., Navigation World Models (2024), section 3.3 and appendix, and its code.
    """
    vector = ActionVector(model.action_spec)
    proposal = StraightLine(model.action_spec, tuple(std)[: vector.size], as_published=as_published)
    if len(mean) < vector.size:
        raise ValueError(f"a line of {vector.size} numbers has as many means; got {tuple(mean)}.")
    center = torch.tensor(tuple(mean)[: vector.size], dtype=torch.float32)
    if vector.size == 3:
        center[2] = (math.pi * center[2] - proposal.center[2]) / proposal.radius[2]
    search = SamplingSearch(proposal, EqualElites(elites), candidates)
    parts = {"center": center, "particles": repeats, **options}
    return Planner(model, search, objective or toward_goal(model), horizon=horizon, budget=budget, **parts)
