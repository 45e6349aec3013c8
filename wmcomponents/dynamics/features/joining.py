"""How proprioception and actions stand beside the patches of a frame: in every patch's channels, or as tokens."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor


class FrameParts(NamedTuple):
    """What a frame's tokens hold.

    Attributes:
        visual: features of the patches, ``[..., N, D]``.
        proprio: embedded proprioception, ``[..., P]``; of no numbers where there is none.
        action: embedded action, ``[..., A]``.
    """

    visual: Tensor
    proprio: Tensor
    action: Tensor


class Joining(ABC):
    """Interface: three parts of a frame as one block of tokens, and apart again.

    Args:
        visual: D, size of a patch's features.
        proprio: P, size of the embedded proprioception; 0 for none.
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

    @abstractmethod
    def acted(self, predicted: Tensor, action: Tensor) -> Tensor:
        """Tokens ``[..., M, K]`` of what :meth:`predicted` left of a frame and of an action ``[..., A]``."""

    @abstractmethod
    def apart(self, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`predicted` left of a frame, or an error of it, as what is visual and what is proprioception."""

    def with_action(self, tokens: Tensor, action: Tensor) -> Tensor:
        """Tokens ``[..., M, K]`` with another action ``[..., A]``; all else stays as it is."""
        return self.acted(self.predicted(tokens), action)


class InChannels(Joining):
    """Each patch's channels are ``[visual | proprio | action]``; the same proprioception and action in all patches.

    What a prediction says of them is read from the first patch.

    Args:
        visual: D, size of a patch's features.
        proprio: P, size of the embedded proprioception; 0 for none.
        action: A, size of the embedded action.
        proprio_repeats: how many times over the proprioception stands in the channels.
        action_repeats: how many times over the action does.

    Reference: Zhou et al., DINO-WM (2025), appendix, and its code: ``concat_dim = 1``.
    """

    def __init__(
        self, visual: int, proprio: int, action: int, *, proprio_repeats: int = 1, action_repeats: int = 1
    ) -> None:
        super().__init__(visual, proprio, action)
        self.proprio_repeats, self.action_repeats = proprio_repeats, action_repeats
        self.sizes = [visual, proprio * proprio_repeats, action * action_repeats]

    @property
    def dim(self) -> int:
        """Size of a token."""
        return sum(self.sizes)

    def count(self, patches: int) -> int:
        """As many as patches."""
        return patches

    def join(self, parts: FrameParts) -> Tensor:
        """See :meth:`Joining.join`."""
        proprio = self._in_patches(parts.proprio, parts.visual, self.proprio_repeats)
        return self.acted(torch.cat([parts.visual, proprio], -1), parts.action)

    def part(self, tokens: Tensor) -> FrameParts:
        """See :meth:`Joining.part`."""
        visual, proprio, action = tokens.split(self.sizes, -1)
        return FrameParts(visual, proprio[..., 0, : self.proprio], action[..., 0, : self.action])

    def predicted(self, tokens: Tensor) -> Tensor:
        """See :meth:`Joining.predicted`."""
        return tokens[..., : sum(self.sizes[:2])]

    def acted(self, predicted: Tensor, action: Tensor) -> Tensor:
        """See :meth:`Joining.acted`: the proprioception of each patch stays as it was predicted there."""
        return torch.cat([predicted, self._in_patches(action, predicted, self.action_repeats)], -1)

    def apart(self, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Joining.apart`."""
        visual, proprio = predicted.split(self.sizes[:2], -1)
        return visual, proprio

    def _in_patches(self, value: Tensor, patches: Tensor, repeats: int) -> Tensor:
        """``[..., S]``, the same in each of ``[..., N, D]`` and so many times over: ``[..., N, repeats S]``."""
        return torch.cat([value.unsqueeze(-2).expand(*patches.shape[:-1], -1)] * repeats, -1)


class AsTokens(Joining):
    """The patches, then a token of proprioception, if there is any, then one of the action; all of one size.

    Raises:
        ValueError: if the sizes differ.

    Reference: Zhou et al., DINO-WM (2025), and its code: ``concat_dim = 0``.
    """

    def __init__(self, visual: int, proprio: int, action: int) -> None:
        super().__init__(visual, proprio, action)
        if action != visual or proprio not in (0, visual):
            raise ValueError(f"tokens have one size; got {visual}, {proprio} and {action}.")
        self.beside = 2 if proprio else 1

    @property
    def dim(self) -> int:
        """Size of a token."""
        return self.visual

    def count(self, patches: int) -> int:
        """Two more than patches, or one where there is no proprioception."""
        return patches + self.beside

    def join(self, parts: FrameParts) -> Tensor:
        """See :meth:`Joining.join`."""
        proprio = [parts.proprio.unsqueeze(-2)] if self.proprio else []
        return torch.cat([parts.visual, *proprio, parts.action.unsqueeze(-2)], -2)

    def part(self, tokens: Tensor) -> FrameParts:
        """See :meth:`Joining.part`."""
        visual = tokens[..., : -self.beside, :]
        return FrameParts(visual, tokens[..., -self.beside, : self.proprio], tokens[..., -1, :])

    def predicted(self, tokens: Tensor) -> Tensor:
        """See :meth:`Joining.predicted`."""
        return tokens[..., :-1, :]

    def acted(self, predicted: Tensor, action: Tensor) -> Tensor:
        """See :meth:`Joining.acted`."""
        return torch.cat([predicted, action.unsqueeze(-2)], -2)

    def apart(self, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Joining.apart`."""
        patches = predicted.shape[-2] - (self.beside - 1)
        return predicted[..., :patches, :], predicted[..., patches:, :]
