"""How often a policy, such as a planner in a world model, reaches the goals of a real environment."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase, TransformedEnv

from wmcomponents._arguments import whole
from wmcomponents.data.acting import TensorDictPolicy, acted

NORMAL_95 = 1.959963984540054
"""The quantile of a normal that leaves 2.5 % above it."""

OfStep = Callable[[TensorDictBase], Tensor]
"""A number or flag of a step, ``[*B]`` or ``[*B, 1]``, from its TensorDict ``[*B]``: what came of it is ``next``."""


def wilson_interval(successes: int, trials: int, quantile: float = NORMAL_95) -> tuple[float, float]:
    """Wilson's score interval of a success rate; it stays within [0, 1], and is not empty at none or all.

    Args:
        successes: how many of the trials succeeded.
        trials: how many there were.
        quantile: of a normal; 95 % of intervals hold the rate unless given.

    Raises:
        ValueError: if there are no trials, or more successes than trials.

    Reference: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).

    Example:
        >>> [round(bound, 3) for bound in wilson_interval(45, 50)]
        [0.786, 0.957]
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"an interval is of some trials and at most as many successes; got {successes} of {trials}.")
    rate, square = successes / trials, quantile * quantile
    middle = rate + square / (2 * trials)
    spread = quantile * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    low, high = ((middle + sign * spread) / (1 + square / trials) for sign in (-1, 1))
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


@dataclass(frozen=True)
class GoalsReached:
    """What came of episodes that each have a goal.

    Attributes:
        reached: whether the goal was, one flag an episode.
        lengths: steps until it was, or until the episode was over.
        distances: from the goal at the end; empty where none was asked for.
    """

    reached: list[bool] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The share of goals that were reached."""
        return statistics.fmean(self.reached)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of :attr:`rate`."""
        return wilson_interval(sum(self.reached), len(self.reached))

    @property
    def mean_length(self) -> float:
        """Mean number of steps of all episodes."""
        return statistics.fmean(self.lengths)

    @property
    def mean_length_reached(self) -> float:
        """Mean number of steps of the episodes that reached their goal; NaN if none did."""
        steps = [length for reached, length in zip(self.reached, self.lengths, strict=True) if reached]
        return statistics.fmean(steps) if steps else math.nan

    @property
    def mean_distance(self) -> float:
        """Mean distance at the end; NaN where none was asked for."""
        return statistics.fmean(self.distances) if self.distances else math.nan

    def __len__(self) -> int:
        return len(self.reached)

    def to_json(self) -> dict[str, Any]:
        """JSON-able summary; what is not there is null."""
        summary = {
            name: getattr(self, name) for name in ("rate", "mean_length", "mean_length_reached", "mean_distance")
        }
        rounded = {name: round(value, 4) if math.isfinite(value) else None for name, value in summary.items()}
        interval = [round(bound, 4) for bound in self.interval]
        return {"episodes": len(self), "reached": sum(self.reached), "interval": interval, **rounded}


def evaluate_goals(
    env: EnvBase,
    policy: TensorDictPolicy,
    episodes: int = 50,
    seed: int | None = None,
    *,
    max_steps: int = 200,
    reached: OfStep | None = None,
    distance: OfStep | None = None,
    progress: Callable[[int], Any] | None = None,
) -> GoalsReached:
    """Let a policy act towards the goals that a real environment draws, and count those it reaches.

    A planner that plans anew at every step is such a policy (receding horizon): a ``PlanningAgent``'s ``real_policy``
    in a :class:`~wmcomponents.dream.GoalWorldModel`, which reads the goal that the environment shows. A batched
    environment plays as many episodes side by side; rows whose episode is over cost a planner nothing. The same seed
    gives the same starts and goals, whatever the policy.

    Args:
        env: batch size ``[]`` or ``[N]``; it shows its goals. What the policy carries gets its place in it.
        policy: writes ``action`` into the TensorDict it is given, ``[N]``; on any device. One that carries what it
            needs from step to step in the TensorDict (it has ``make_tensordict_primer``, as a ``real_policy`` has) is
            given the R rows ``[R]`` whose episode runs; others may keep something for each of the N rows themselves.
        episodes: how many.
        seed: of the environment; left as it is if not given.
        max_steps: steps after which a goal counts as missed.
        reached: whether a step reached the goal; whether it terminated the episode if not given. The episode is over
            there, whether the environment ends it or not.
        distance: from the goal after a step.
        progress: called with the number of episodes that just ended.

    Raises:
        ValueError: if ``episodes`` or ``max_steps`` is below 1.

    Example:
        >>> from wmcomponents.data import make_env
        >>> env = make_env("wmcomponents/TwoRooms-v0", env_kwargs={"goal": True}, num_envs=2)
        >>> still = lambda shown: shown.set("action", torch.zeros(*shown.shape, 2))
        >>> pixels = lambda step: -64 * step["next", "reward"]
        >>> found = evaluate_goals(env, still, 2, seed=0, max_steps=3, distance=pixels)
        >>> found.rate, found.lengths, found.mean_distance > 4.5
        (0.0, [3, 3], True)
    """
    episodes = whole("episodes", episodes, 1, "a number of episodes, at least 1")
    max_steps = whole("max_steps", max_steps, 1, "a number of steps, at least 1")
    if _carries_its_state(policy):
        primer = cast(Any, policy).make_tensordict_primer()
        if not {*primer.primers.keys()} <= {*env.observation_spec.keys()}:
            env = TransformedEnv(env, primer, auto_unwrap=False)
    if seed is not None:
        env.set_seed(seed)
    out = GoalsReached()
    with torch.no_grad():
        while len(out) < episodes:
            wanted = min(env.batch_size.numel(), episodes - len(out))
            _play(env, policy, wanted, max_steps, reached or _terminated, distance, out, progress)
    return out


def _carries_its_state(policy: TensorDictPolicy) -> bool:
    return hasattr(policy, "make_tensordict_primer")


def _terminated(step: TensorDictBase) -> Tensor:
    return cast(Tensor, step["next", "terminated"])


def _play(
    env: EnvBase,
    policy: TensorDictPolicy,
    wanted: int,
    max_steps: int,
    reached: OfStep,
    distance: OfStep | None,
    out: GoalsReached,
    progress: Callable[[int], Any] | None,
) -> None:
    """One episode in each of the first ``wanted`` rows, all begun together."""
    rows = env.batch_size.numel()
    running = torch.arange(rows) < wanted
    found, length, gap = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.int64), torch.zeros(rows)
    action: Tensor | None = None
    tensordict = env.reset()
    for age in range(1, max_steps + 1):
        if action is not None:
            tensordict.set("action", action)  # that of rows whose episode is over; the policy writes the others'
        tensordict = _acted_in(running, policy, tensordict, env)
        action = cast(Tensor, tensordict["action"])
        stepped, tensordict = env.step_and_maybe_reset(tensordict)
        arrived = reached(stepped).reshape(rows).cpu()
        over = running & (arrived | stepped["next", "done"].reshape(rows).cpu() | (age == max_steps))
        found, length = torch.where(over, arrived, found), torch.where(over, age, length)
        if distance is not None:
            gap = torch.where(over, distance(stepped).reshape(rows).cpu().to(gap), gap)
        running = running & ~over
        if progress is not None and bool(over.any()):
            progress(int(over.sum()))
        if not bool(running.any()):
            break
    out.reached.extend(found[:wanted].tolist())
    out.lengths.extend(length[:wanted].tolist())
    out.distances.extend(gap[:wanted].tolist() if distance is not None else [])


def _acted_in(running: Tensor, policy: TensorDictPolicy, shown: TensorDictBase, env: EnvBase) -> TensorDictBase:
    """What the policy answers in the rows whose episode runs; the others keep what they have."""
    if bool(running.all()) or not _carries_its_state(policy):
        return acted(policy, shown)
    if "action" not in shown.keys():
        shown.set("action", env.action_spec.rand())
    index = running.nonzero().squeeze(-1).to(shown.device)
    answer = acted(policy, cast(TensorDictBase, shown[index]))
    for key in shown.keys():
        cast(Tensor, shown[key])[index] = answer[key]
    return shown
