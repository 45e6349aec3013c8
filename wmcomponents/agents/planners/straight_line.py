"""Straight lines over the ground as candidates: equal steps, then a turn."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchrl.data import TensorSpec

from wmcomponents.agents.planners.gaussian import sample_std
from wmcomponents.agents.planners.plan import Params
from wmcomponents.agents.planners.proposal import Proposal, weighted_mean
from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.observation import VectorCodec
from wmcomponents.functional import straight_line, wrapped_angle
from wmcomponents.world_model import Noise


class StraightLine(Proposal):
    """A Gaussian over straight lines: how long each of their equal steps is, and how far one turns at their end.

    With actions of two numbers, moves on a map, a line is one move again and again. With three (forward, left, turn in
    radians), in a robot's own axes, it turns where it goes in the first step, goes straight on, and turns in the last
    step by a number times π.

    Parameters: ``line`` and ``line_std``, two numbers or three, the first two in units of the actions' bounds; and
    ``mean``, the sequence that the line is. Noise: ``z``, standard normal ``[*B, N, 2 or 3]``.

    Args:
        spec: spec of one action.
        std: standard deviation before the first iteration, of each of the two or three.
        as_published: as the authors' code has it: later steps go along the axes that the first one began in, and the
            turn that elites end with is taken times π once more.

    Raises:
        ValueError: if actions are not two or three numbers between bounds, or have not as many deviations.

    Reference: Bar et al., Navigation World Models (2024), section 3.3, and its code.
    """

    center: Tensor
    radius: Tensor

    def __init__(self, spec: TensorSpec, std: Sequence[float], *, as_published: bool = False) -> None:
        vector = ActionVector(spec)
        if not isinstance(vector.codec, VectorCodec) or vector.size not in (2, 3) or vector.center is None:
            raise ValueError(
                f"straight lines are planned in two numbers (moves on a map), or three (forward, left, turn in "
                f"radians), between bounds; got {spec}."
            )
        if len(std) != vector.size:
            raise ValueError(f"a line of {vector.size} numbers has as many deviations; got {tuple(std)}.")
        assert vector.radius is not None
        self.size, self.std, self.as_published = vector.size, tuple(std), as_published
        self.center, self.radius = vector.center.clone(), vector.radius.clone()

    def begin(self, center: Tensor) -> Params:
        """Around the line that a sequence ``[*B, H, A]`` begins and ends like."""
        line = self._line_of(center, 1.0 / math.pi)
        return self._params(line, torch.zeros_like(line) + line.new_tensor(self.std), center.shape[-2])

    def draw(self, batch_size: Sequence[int], horizon: int, size: int, generator: torch.Generator) -> Noise:
        """``z``, ``[*batch_size, 2 or 3]``."""
        return {"z": torch.randn(*batch_size, self.size, generator=generator, device=generator.device)}

    def sample(self, params: Params, noise: Noise) -> Tensor:
        """Lines, ``[*B, N, H, A]``."""
        lines = params["line"].unsqueeze(-2) + params["line_std"].unsqueeze(-2) * noise["z"]
        return self.sequence(lines, params["mean"].shape[-2])

    def fit(self, params: Params, elites: Tensor, weights: Tensor) -> Params:
        """Mean and unbiased deviation of the elites' lines."""
        lines = self._line_of(elites, 1.0 if self.as_published else 1.0 / math.pi).unsqueeze(-2)
        mean = weighted_mean(lines, weights)
        std = sample_std(lines, weights, mean)
        return self._params(mean.squeeze(-2), std.squeeze(-2), elites.shape[-2])

    def sequence(self, line: Tensor, horizon: int) -> Tensor:
        """The steps of lines ``[*B, 2 or 3]``, as vectors ``[*B, H, A]``.

        Args:
            line: see the class.
            horizon: H.
        """
        if self.size == 2:
            return line.unsqueeze(-2).expand(*line.shape[:-1], horizon, 2).clone()
        center, radius = self.center.to(line), self.radius.to(line)
        step = center[:2] + radius[:2] * line[..., :2]
        plan = straight_line(step, horizon)
        if not self.as_published:
            straight_on = torch.stack([step.norm(dim=-1), torch.zeros_like(step[..., 0])], -1)
            rest = straight_on.unsqueeze(-2).expand(*step.shape[:-1], horizon - 1, 2)
            plan = torch.cat([plan[..., :1, :], torch.cat([rest, plan[..., 1:, 2:]], -1)], -2)
        end = torch.zeros_like(plan)
        end[..., -1, 2] = math.pi * line[..., 2]
        plan = plan + end
        plan = torch.cat([plan[..., :2], wrapped_angle(plan[..., 2:])], -1)
        return (plan - center) / radius

    def _line_of(self, sequence: Tensor, share: float) -> Tensor:
        """The lines of sequences ``[*B, H, A]``: the first step, and a share of the last one's turn."""
        step = sequence[..., 0, :2]
        if self.size == 2:
            return step
        center, radius = self.center.to(step), self.radius.to(step)
        turn = center[2] + radius[2] * sequence[..., -1, 2]
        if sequence.shape[-2] == 1:  # it turns there to where it goes, too
            forward, left = (center[:2] + radius[:2] * step).unbind(-1)
            turn = wrapped_angle(turn - torch.atan2(left, forward))
        return torch.cat([step, share * turn.unsqueeze(-1)], -1)

    def _params(self, line: Tensor, std: Tensor, horizon: int) -> Params:
        return {"mean": self.sequence(line, horizon), "line": line, "line_std": std}
