"""What several actions come to: a displacement from one moment of an episode to another."""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torchrl.data import TensorSpec

from wmcomponents.codecs.action import ActionVector
from wmcomponents.functional.displacement import pose_between, poses_along

MotionName = Literal["sum", "pose"]
"""A kind of :class:`Motion` in a config."""


class Motion(nn.Module):
    """Places that actions lead through, and the displacement from any of them to any other, also an earlier one.

    Actions are vectors, as :class:`ActionVector` gives them, ``[*B, A]``; a displacement has as many numbers, in the
    same units, so that the displacement of a single action is about that action.

    Args:
        spec: spec of one action.
    """

    center: Tensor
    radius: Tensor

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        vector = ActionVector(spec)
        self.size = vector.size
        bounds = {"center": (vector.center, 0.0), "radius": (vector.radius, 1.0)}
        for name, (value, otherwise) in bounds.items():
            found = torch.full((self.size,), otherwise) if value is None else value.clone()
            self.register_buffer(name, found, persistent=False)

    @abstractmethod
    def places(self, action: Tensor) -> Tensor:
        """Before and after each of T actions ``[*B, T, A]``, seen from the first: ``[*B, T + 1, A]``."""

    @abstractmethod
    def between(self, start: Tensor, goal: Tensor) -> Tensor:
        """Displacements from places to places, ``[*B, A]`` each."""

    def of_action(self, action: Tensor, times: int = 1) -> Tensor:
        """The displacement of an action ``[*B, A]``, taken once or several times in a row.

        Args:
            action: vectors.
            times: how often.
        """
        places = self.places(action.unsqueeze(-2).expand(*action.shape[:-1], times, -1))
        return self.between(places[..., 0, :], places[..., -1, :])

    def _numbers(self, action: Tensor) -> Tensor:
        return self.center + self.radius * action


class SummedMotion(Motion):
    """Actions that add up: moves on a map; of choices, how often each was taken.

    Args:
        spec: spec of one action.

    Example:
        >>> from torchrl.data import Bounded
        >>> motion = SummedMotion(Bounded(-2.0, 2.0, (2,)))
        >>> places = motion.places(torch.tensor([[0.5, 0.0], [0.5, 1.0]]))
        >>> motion.between(places[0], places[2])
        tensor([1., 1.])
    """

    def places(self, action: Tensor) -> Tensor:
        """Sums of numbers in the environment's unit."""
        path = self._numbers(action).cumsum(-2)
        return torch.cat([torch.zeros_like(path[..., :1, :]), path], -2)

    def between(self, start: Tensor, goal: Tensor) -> Tensor:
        """Differences, scaled as actions are."""
        return (goal - start - self.center) / self.radius


class PoseMotion(Motion):
    """Steps of a robot in its own axes: forward, left, turn in radians; the displacement is a pose seen from another.

    Forward and left are scaled as actions are, which makes of no displacement the middle of their bounds' vector, and
    not 0 where they lie unevenly; turns are told in radians.

    Args:
        spec: spec of one action, three numbers.

    Raises:
        ValueError: for other actions.

    Reference: Bar et al., Navigation World Models (2024), and its code.
    """

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        if spec.shape != (3,) or not torch.is_floating_point(spec.zero()):
            raise ValueError(
                f"a step of a robot has three numbers, (forward, left, turn in radians); got {spec}: where actions "
                f"simply add up, take motion='sum'."
            )

    def places(self, action: Tensor) -> Tensor:
        """Poses; turns are not wrapped."""
        return poses_along(self._numbers(action))

    def between(self, start: Tensor, goal: Tensor) -> Tensor:
        """A pose in the axes of another, forward and left scaled, the turn between -π and π."""
        seen = pose_between(start, goal)
        return torch.cat([(seen[..., :2] - self.center[:2]) / self.radius[:2], seen[..., 2:]], -1)


MOTIONS: dict[str, type[Motion]] = {"sum": SummedMotion, "pose": PoseMotion}
"""By their names in configs."""


def motion_named(name: str, spec: TensorSpec) -> Motion:
    """What several actions come to.

    Args:
        name: ``"sum"`` or ``"pose"``.
        spec: spec of one action.

    Raises:
        ValueError: for another name, or actions that are no steps of a robot.
    """
    if name not in MOTIONS:
        raise ValueError(f"motion is one of {', '.join(map(repr, MOTIONS))}; got {name!r}.")
    return MOTIONS[name](spec)
