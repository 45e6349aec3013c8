"""How proprioception and actions stand beside the patches of a frame: in every patch's channels, or as tokens."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor


class FrameParts(NamedTuple):
    """What a frame's tokens hold.

    Attributes:
        visual: features of the patches, ``[..., N, D]``.
        proprio: embedded proprioception, ``[..., P]``.
        action: embedded action, ``[..., A]``.
    """

    visual: Tensor
    proprio: Tensor
    action: Tensor


class Joining(ABC):
    """Interface: three parts of a frame as one block of tokens, and apart again.

    Args:
        visual: D, size of a patch's features.
        proprio: P, size of the embedded proprioception.
        action: A, size of the embedded action.
    """

    def __init__(self, visual: int, proprio: int, action: int) -> None:
        self.visual, self.proprio, self.action = visual, proprio, action

    @property
    @abstractmethod
    def dim(self) -> int:
        """Size of a token."""

    @abstractmethod
    def count(self, patches: int) -> int:
        """Tokens of a frame of so many patches."""

    @abstractmethod
    def join(self, parts: FrameParts) -> Tensor:
        """Tokens ``[..., M, K]``."""

    @abstractmethod
    def part(self, tokens: Tensor) -> FrameParts:
        """The three parts of tokens ``[..., M, K]``."""

    @abstractmethod
    def predicted(self, tokens: Tensor) -> Tensor:
        """What a prediction is held to, of tokens ``[..., M, K]``: all but the action."""

    def with_action(self, tokens: Tensor, action: Tensor) -> Tensor:
        """Tokens ``[..., M, K]`` with another action ``[..., A]``; the given ones are left as they are."""
        return self.join(self.part(tokens)._replace(action=action))


class InChannels(Joining):
    """Each patch's channels are ``[visual | proprio | action]``; the same proprioception and action in all patches.

    What a prediction says of them is read from the first patch.

    Reference: Zhou et al., DINO-WM (2025), appendix: ``concat_dim = 1``.
    """

    @property
    def dim(self) -> int:
        """Size of a token."""
        return self.visual + self.proprio + self.action

    def count(self, patches: int) -> int:
        """As many as patches."""
        return patches

    def join(self, parts: FrameParts) -> Tensor:
        """See :meth:`Joining.join`."""
        patches = parts.visual.shape[-2]
        beside = torch.cat([parts.proprio, parts.action], -1).unsqueeze(-2)
        return torch.cat([parts.visual, beside.expand(*beside.shape[:-2], patches, -1)], -1)

    def part(self, tokens: Tensor) -> FrameParts:
        """See :meth:`Joining.part`."""
        visual, proprio, action = tokens.split([self.visual, self.proprio, self.action], -1)
        return FrameParts(visual, proprio[..., 0, :], action[..., 0, :])

    def predicted(self, tokens: Tensor) -> Tensor:
        """See :meth:`Joining.predicted`."""
        return tokens[..., : self.visual + self.proprio]

    def with_action(self, tokens: Tensor, action: Tensor) -> Tensor:
        """See :meth:`Joining.with_action`: the proprioception of each patch stays as it was predicted there."""
        kept = tokens[..., : self.visual + self.proprio]
        return torch.cat([kept, action.unsqueeze(-2).expand(*kept.shape[:-1], -1)], -1)


class AsTokens(Joining):
    """The patches, then a token of proprioception, then one of the action; all of one size.

    Raises:
        ValueError: if the sizes differ.

    Reference: Zhou et al., DINO-WM (2025): ``concat_dim = 0``.
    """

    def __init__(self, visual: int, proprio: int, action: int) -> None:
        super().__init__(visual, proprio, action)
        if not visual == proprio == action:
            raise ValueError(f"tokens have one size; got {visual}, {proprio} and {action}.")

    @property
    def dim(self) -> int:
        """Size of a token."""
        return self.visual

    def count(self, patches: int) -> int:
        """Two more than patches."""
        return patches + 2

    def join(self, parts: FrameParts) -> Tensor:
        """See :meth:`Joining.join`."""
        return torch.cat([parts.visual, parts.proprio.unsqueeze(-2), parts.action.unsqueeze(-2)], -2)

    def part(self, tokens: Tensor) -> FrameParts:
        """See :meth:`Joining.part`."""
        return FrameParts(tokens[..., :-2, :], tokens[..., -2, :], tokens[..., -1, :])

    def predicted(self, tokens: Tensor) -> Tensor:
        """See :meth:`Joining.predicted`."""
        return tokens[..., :-1, :]
