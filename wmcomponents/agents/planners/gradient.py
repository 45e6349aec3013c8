"""Search by gradient: follow the slope of the imagined return."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.planners.gaussian import normal_noise
from wmcomponents.agents.planners.gradient_steps import AdamStep, GradientStep
from wmcomponents.agents.planners.plan import Plan, Score, Stage, better_of
from wmcomponents.agents.planners.proposal import Bound, of_each, within
from wmcomponents.agents.planners.sampling import SequenceSearch
from wmcomponents.world_model import Noise


class GradientSearch(SequenceSearch):
    """Steps up the slope of the value on sequences of numbers, several at once, kept inside the bounds.

    The starts lie around the sequence that the plan begins with. The plan's ``mean`` is the best sequence that was
    judged on the way; ``last`` in its parameters is where the last step has led the best of the last ones judged.

    Args:
        starts: how many sequences, N.
        step: how they move; Adam if not given.
        std: standard deviation of the starts.
        from_center: the first of the starts is the sequence itself that the plan begins with.
        jitter: standard deviation of noise that is added after every step.
        low: lower bound of actions.
        high: upper bound.
    """

    elites = 1
    needs_gradient = True

    def __init__(
        self,
        *,
        starts: int = 8,
        step: GradientStep | None = None,
        std: Bound = 0.5,
        from_center: bool = True,
        jitter: Bound = 0.0,
        low: Bound = -1.0,
        high: Bound = 1.0,
    ) -> None:
        self.starts = whole("starts", starts, 1, "a number of sequences, at least 1")
        self.step = AdamStep() if step is None else step
        self.std, self.jitter, self.from_center, self.low, self.high = std, jitter, from_center, low, high
        self._jitters = bool(torch.as_tensor(jitter).any())

    def begin(self, center: Tensor, elites: Tensor | None = None) -> Plan:
        """A plan around a sequence ``[*B, H, A]``."""
        value = center.new_full(center.shape[:-2], -torch.inf)
        weights = torch.zeros_like(value).unsqueeze(-1)
        return Plan({"mean": center}, center.unsqueeze(-3), weights, center, value, value < 0)

    def draw(
        self,
        batch_size: Sequence[int],
        horizon: int,
        size: int,
        iteration: int,
        stage: Stage,
        given: int,
        generator: torch.Generator,
    ) -> Noise:
        """``z`` of the starts that are drawn, in the first iteration, and ``jitter``; ``[*batch_size, n, H, A]``."""
        drawn = {}
        if iteration == 0:
            drawn["z"] = normal_noise((*batch_size, self.starts - self.from_center), horizon, size, generator)
        if self._jitters:
            drawn["jitter"] = normal_noise((*batch_size, self.starts + given), horizon, size, generator)
        return drawn

    def count(self, iteration: int, stage: Stage, given: int) -> int:
        """The starts, and those given."""
        return self.starts + given

    def improve(
        self,
        plan: Plan,
        score: Score,
        noise: Noise,
        stage: Stage,
        given: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Plan:
        """Judge, remember the best, take a step."""
        state = plan.params if "candidates" in plan.params else self._started(plan, noise, given)
        candidates = state["candidates"] if mask is None else state["candidates"] * mask[..., None, None, :]
        with torch.enable_grad():
            candidates = candidates.detach().requires_grad_()
            values = score(candidates)
            if not values.requires_grad:
                raise ValueError(
                    "no gradient passes from the value of a plan to its actions: the model or the objective breaks it. "
                    "Plan by sampling instead, such as with cem(model)."
                )
            (slope,) = torch.autograd.grad(values.sum(), candidates)
        candidates, values = candidates.detach(), values.detach()
        top, index = values.max(-1, keepdim=True)
        best_of = index[..., None, None]
        best, best_value = better_of(plan, candidates.take_along_dim(best_of, -3).squeeze(-3), top.squeeze(-1))
        moments = {key: value for key, value in state.items() if key not in ("candidates", "mean", "last")}
        moved, moments = self.step.moved(candidates, slope, moments)
        if self._jitters:
            moved = moved + of_each(self.jitter, moved) * noise["jitter"]
        moved = within(moved, self.low, self.high)
        params = {**moments, "candidates": moved, "mean": best, "last": moved.take_along_dim(best_of, -3).squeeze(-3)}
        is_finite = plan.is_finite & values.isfinite().all(-1)
        return Plan(params, best.unsqueeze(-3), torch.ones_like(top), best, best_value, is_finite)

    def _started(self, plan: Plan, noise: Noise, given: Tensor | None) -> dict[str, Tensor]:
        center = plan.params["mean"].unsqueeze(-3)
        drawn = center + of_each(self.std, center) * noise["z"]
        parts = [*([center] if self.from_center else []), drawn, *([] if given is None else [given])]
        candidates = within(torch.cat(parts, -3), self.low, self.high)
        return {**self.step.begin(candidates), "candidates": candidates}
