"""Candidates that a policy proposes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from wmcomponents.world_model import Noise, State


class SequencePolicy(ABC):
    """A policy in the planner's terms: vectors of states."""

    @abstractmethod
    def draw(self, batch_size: Sequence[int], generator: torch.Generator) -> Noise:
        """Noise for one action, ``[*batch_size, ...]``."""

    @abstractmethod
    def act(self, state: State, noise: Noise) -> Tensor:
        """The vectors of actions, ``[*B, A]``, in states ``[*B, ...]``."""
