"""The beginnings of a dream's episodes: which there were, and the states they get."""

import torch
from torch import Tensor

from wmcomponents.dream.checks import Layout, check_finite_states, check_layout
from wmcomponents.dream.starts import Starts
from wmcomponents.world_model import State, WorldModel


class Beginnings:
    """Draws start states for a dream's rows, counts episodes for sources that are taken in order, and checks both.

    Args:
        model: the world model, for the words of an error.
        starts: the source.
        layout: of the states of all rows.
        device: where episodes are counted.

    Attributes:
        episodes: how many were begun, int64.
    """

    def __init__(self, model: WorldModel, starts: Starts, layout: Layout, device: torch.device) -> None:
        self.starts, self.layout, self._model = starts, layout, model
        self._rows = next(iter(layout.values()))[0][0]
        self.episodes = torch.zeros((), dtype=torch.int64, device=device)

    def seed(self) -> None:
        """Count from 0 again."""
        self.episodes = torch.zeros_like(self.episodes)

    def begin(self, generator: torch.Generator) -> State:
        """States in which all rows begin, ``[N, ...]``.

        Raises:
            NotFiniteError: if they hold a NaN or an infinity (on a CPU).
            ValueError: if they are not the model's.
        """
        fresh = self.draw(self._rows, None, generator)
        check_layout(fresh, self.layout, "the start states", self._model)
        if self.episodes.device.type == "cpu":
            check_finite_states(fresh, "the start state", "begin elsewhere, or with a model whose weights are finite.")
        return fresh

    def restart(self, mask: Tensor, generator: torch.Generator) -> State:
        """States ``[N, ...]`` of which those of the rows in a mask, bool ``[N, 1]``, are beginnings.

        Raises:
            ValueError: if they are not the model's.
        """
        fresh = self.draw(self._rows, mask, generator)
        check_layout(fresh, self.layout, "the start states", self._model)
        return fresh

    def draw(self, count: int, mask: Tensor | None, generator: torch.Generator) -> State:
        """Start states ``[count, ...]`` for the rows in a mask, bool ``[count, 1]``, or all; the others get some."""
        if not self.starts.ordered:
            return self.starts.sample(count, generator)
        if mask is None:
            rows = self.episodes + torch.arange(count, device=self.episodes.device)
            self.episodes = self.episodes + count
        else:
            begins = mask.reshape(count)
            ahead = begins.cumsum(0)
            rows = torch.where(begins, self.episodes + ahead - 1, -1)
            self.episodes = self.episodes + ahead[-1]
        return self.starts.sample(count, generator, rows)
