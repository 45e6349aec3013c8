"""Search by gradient: follow the slope of the imagined return."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.agents.planners.gaussian import normal_noise
from wmcomponents.agents.planners.plan import Plan, Score, Stage, better_of
from wmcomponents.agents.planners.proposal import Bound, within
from wmcomponents.agents.planners.sampling import SequenceSearch
from wmcomponents.world_model import Noise


class GradientSearch(SequenceSearch):
    """Adam on sequences of numbers, several at once, kept inside the bounds.

    The first of the starts is the sequence that the plan begins with, the others lie around it. The plan is the best
    sequence that was judged on the way.

    Args:
        starts: how many sequences, N.
        lr: length of a step, in action units.
        std: standard deviation of the starts.
        betas: Adam's decay of both moments.
        low: lower bound of actions.
        high: upper bound.
    """

    elites = 1
    needs_gradient = True

    def __init__(
        self,
        *,
        starts: int = 8,
        lr: float = 0.1,
        std: float = 0.5,
        betas: tuple[float, float] = (0.9, 0.999),
        low: Bound = -1.0,
        high: Bound = 1.0,
    ) -> None:
        self.starts = whole("starts", starts, 1, "a number of sequences, at least 1")
        self.lr, self.std, self.betas, self.low, self.high = lr, std, betas, low, high

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
        """``z`` of the starts, ``[*batch_size, N - 1, H, A]``, for the first iteration."""
        if iteration > 0:
            return {}
        return {"z": normal_noise((*batch_size, self.starts - 1), horizon, size, generator)}

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
        """Judge, remember the best, take a step of Adam."""
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
        leader = candidates.take_along_dim(index[..., None, None], -3)
        best, best_value = better_of(plan, leader.squeeze(-3), top.squeeze(-1))
        state = self._stepped(state, candidates, slope)
        is_finite = plan.is_finite & values.isfinite().all(-1)
        return Plan({**state, "mean": best}, best.unsqueeze(-3), torch.ones_like(top), best, best_value, is_finite)

    def _started(self, plan: Plan, noise: Noise, given: Tensor | None) -> dict[str, Tensor]:
        center = plan.params["mean"].unsqueeze(-3)
        parts = [center, center + self.std * noise["z"], *([] if given is None else [given])]
        candidates = within(torch.cat(parts, -3), self.low, self.high)
        zeros = torch.zeros_like(candidates)
        return {"candidates": candidates, "first": zeros, "second": zeros, "steps": candidates.new_zeros(())}

    def _stepped(self, state: dict[str, Tensor], candidates: Tensor, slope: Tensor) -> dict[str, Tensor]:
        """Adam, upwards."""
        one, two = self.betas
        steps = state["steps"] + 1
        first = one * state["first"] + (1 - one) * slope
        second = two * state["second"] + (1 - two) * slope.square()
        step = (first / (1 - one**steps)) / ((second / (1 - two**steps)).sqrt() + 1e-8)
        moved = within(candidates + self.lr * step, self.low, self.high)
        return {"candidates": moved, "first": first, "second": second, "steps": steps}
