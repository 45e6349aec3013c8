"""What a filter remembers of past observations, and how it is put before a network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchrl.data import Bounded, TensorSpec, Unbounded

from wmcomponents.codecs.action_planes import ActionPlanes
from wmcomponents.functional.broadcast import aligned, keep_where

Memory = dict[str, Tensor]


class History(nn.Module, ABC):
    """A stack of frames ``[*B, C, *space]``: an image has the space (H, W), a vector is one frame ``[1, F]``.

    Args:
        channels: of the stacked frames.
        past: how many observations back it reaches; 0 remembers nothing.
    """

    def __init__(self, channels: int, past: int) -> None:
        super().__init__()
        self.channels, self.past = channels, past

    @abstractmethod
    def specs(self) -> dict[str, TensorSpec]:
        """What passes from step to step, for one row."""

    @abstractmethod
    def step(
        self, memory: Mapping[str, Tensor], action: Tensor, frame: Tensor, is_init: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Memory]:
        """Take one observation in.

        Args:
            memory: before it, ``[*B, ...]``.
            action: vector of the action that led to it, ``[*B, A]``.
            frame: it, ``[*B, C, *space]``.
            is_init: whether it begins its episode, ``[*B, 1]``; the memory is erased there.

        Returns:
            The frames to stack, the numbers that fill planes (behind each of the last frames, ``[*B, P]``; or none),
            and the memory after it.
        """


class NoHistory(History):
    """The observation alone.

    Args:
        frame: shape of one, (C, *space).
    """

    def __init__(self, frame: Sequence[int]) -> None:
        super().__init__(frame[0], 0)

    def specs(self) -> dict[str, TensorSpec]:
        """Nothing."""
        return {}

    def step(
        self, memory: Mapping[str, Tensor], action: Tensor, frame: Tensor, is_init: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Memory]:
        """The frame ``[*B, C, *space]`` alone; see :meth:`History.step`."""
        return [frame], [], {}


class FrameHistory(History):
    """The last frames, oldest first; an episode's first frame stands for those before it (EfficientZero).

    Args:
        frame: shape of one, (C, *space).
        frames: how many, the current one among them.
        dtype: of a frame.
    """

    def __init__(self, frame: Sequence[int], frames: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(frame[0] * frames, frames - 1)
        self.frame, self.dtype = tuple(frame), dtype

    def specs(self) -> dict[str, TensorSpec]:
        """``frames``: those before the next one, oldest first."""
        return {"frames": frame_spec((self.past, *self.frame), self.dtype)}

    def step(
        self, memory: Mapping[str, Tensor], action: Tensor, frame: Tensor, is_init: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Memory]:
        """Past frames and this one, ``[*B, frames * C, *space]``; see :meth:`History.step`."""
        axis = frame.ndim - len(self.frame)
        first = frame.unsqueeze(axis).expand(memory["frames"].shape)
        past = torch.where(aligned(is_init, first), first, memory["frames"])
        frames = torch.cat([past, frame.unsqueeze(axis)], axis)
        return [frames.flatten(axis, axis + 1)], [], {"frames": frames.narrow(axis, 1, self.past).clone()}


class FrameActionHistory(History):
    """This frame, then each past frame, newest first, followed by the action taken there (MuZero; muzero-general).

    Before an episode's first frame both are zero.

    Args:
        frame: shape of one, (C, *space).
        past: how many frames besides the current one.
        action_planes: of actions, each number of which fills a plane.
        action_size: length of an action's vector.
        dtype: of a frame.
    """

    def __init__(
        self,
        frame: Sequence[int],
        past: int,
        action_planes: ActionPlanes,
        action_size: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(frame[0] + past * (frame[0] + action_planes.planes), past)
        self.frame, self.action_planes, self.action_size, self.dtype = tuple(frame), action_planes, action_size, dtype

    def specs(self) -> dict[str, TensorSpec]:
        """``frames``, the last ones, and ``actions``, the vectors of the actions before each; newest first."""
        return {
            "frames": frame_spec((self.past, *self.frame), self.dtype),
            "actions": Unbounded(torch.Size([self.past, self.action_size])),
        }

    def step(
        self, memory: Mapping[str, Tensor], action: Tensor, frame: Tensor, is_init: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Memory]:
        """This frame and past ones, each ``[*B, C, *space]``, and the actions taken there, each ``[*B, P]``."""
        axis = frame.ndim - len(self.frame)
        past, actions = memory["frames"], torch.cat([action.unsqueeze(-2), memory["actions"][..., :-1, :]], -2)
        past = keep_where(past, ~is_init)
        actions = keep_where(actions, ~is_init)
        frames = torch.cat([frame.unsqueeze(axis), past.narrow(axis, 0, self.past - 1)], axis)
        return (
            [frame, *past.unbind(axis)],
            list(self.action_planes(actions).unbind(-2)),
            {"frames": frames, "actions": actions},
        )


def with_planes(frames: Sequence[Tensor], numbers: Sequence[Tensor], space: int) -> Tensor:
    """Frames and planes of numbers in the order of :meth:`History.step`, along the channels.

    Args:
        frames: ``[*B, C, *space]``, floats.
        numbers: ``[*B, P]``, each behind one of the last frames.
        space: dimensions of space.
    """
    alone = len(frames) - len(numbers)
    parts = list(frames[:alone])
    for frame, number in zip(frames[alone:], numbers, strict=True):
        plane = aligned(number, frame).expand(*number.shape, *frame.shape[frame.ndim - space :])
        parts += [frame, plane]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -space - 1)


def frame_spec(shape: Sequence[int], dtype: torch.dtype) -> TensorSpec:
    """Spec of stored frames: images keep their 8 bits."""
    if dtype == torch.uint8:
        return Bounded(0, 255, torch.Size(shape), dtype=torch.uint8)
    return Unbounded(torch.Size(shape), dtype=dtype)
