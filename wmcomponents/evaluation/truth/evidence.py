"""The real steps that a model is judged by, cut into sequences that know which episode they are of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.evaluation.metrics.bootstrap import bootstrap_counts

FEWEST_EPISODES = 5
"""Below so many episodes a band is drawn over sequences, and says less than it seems to."""


@dataclass(frozen=True)
class Evidence:
    """Real sequences, and where they come from.

    Attributes:
        sequences: ``[B, T]`` in TorchRL's layout.
        episodes: the episode that each dream begins in, int ``[B]``.
        steps: real steps that the sequences were cut from.
    """

    sequences: TensorDictBase
    episodes: Tensor
    steps: int

    @property
    def number_of_episodes(self) -> int:
        """Of how many episodes there are sequences."""
        return len(self.episodes.unique())

    @property
    def by_episode(self) -> bool:
        """Whether bands are drawn over episodes: there are enough of them."""
        return self.number_of_episodes >= FEWEST_EPISODES

    def counts(self, seed: int) -> Tensor:
        """Resamples for the bands, ``[resamples, B]``."""
        clusters = self.episodes if self.by_episode else torch.arange(len(self.episodes))
        return bootstrap_counts(clusters, seed=seed)

    def few(self, rows: int) -> "Evidence":
        """Not more than so many of the sequences, evenly spread."""
        if rows >= len(self.episodes):
            return self
        chosen = torch.linspace(0, len(self.episodes) - 1, rows).long()
        return Evidence(cast(TensorDictBase, self.sequences[chosen]), self.episodes[chosen], self.steps)

    def halves(self) -> tuple["Evidence", "Evidence"]:
        """The sequences of the first episodes and of the last, so that no episode is in both."""
        numbers = self.episodes.unique()
        first = torch.isin(self.episodes, numbers[: max(1, len(numbers) // 2)])
        if not bool((~first).any()):  # one long episode: the two halves of its time
            first = torch.arange(len(self.episodes)) < len(self.episodes) // 2
        parts = [
            Evidence(cast(TensorDictBase, self.sequences[where]), self.episodes[where], self.steps)
            for where in (first, ~first)
        ]
        return parts[0], parts[1]


def evidence_from(streams: Sequence[TensorDictBase], *, burn_in: int, horizon: int, rows: int) -> Evidence:
    """Evenly spaced sequences, not more than ``rows``, of steps in a row.

    Args:
        streams: ``[N]`` each, in TorchRL's layout, in the order in which they were taken.
        burn_in: real observations before a dream; sequences are preferred in which they are of one episode.
        horizon: steps of a dream.
        rows: how many sequences at most.

    Raises:
        ValueError: if no stream is long enough.
    """
    length, first = burn_in - 1 + horizon, 0
    starts, episodes, offset, kept = [], [], 0, []
    for steps in streams:
        number = steps.batch_size[0]
        if number < length:
            offset += number
            kept.append(steps)
            continue
        begins = steps["is_init"].reshape(-1).cpu().clone()
        begins[0] = True
        begins[1:] |= steps["next", "done"].reshape(-1).cpu()[:-1]
        episode = begins.long().cumsum(0) + first
        first = int(episode[-1])
        possible = torch.arange(number - length + 1)
        unbroken = episode[possible] == episode[possible + burn_in - 1]
        possible = possible[unbroken] if bool(unbroken.any()) else possible
        starts.append(possible + offset)
        episodes.append(episode[possible + burn_in - 1])
        offset += number
        kept.append(steps)
    if not starts:
        longest = max((steps.batch_size[0] for steps in streams), default=0)
        raise ValueError(
            f"a burn-in of {burn_in} and a horizon of {horizon} need {length} steps in a row; there are {longest}. "
            f"Collect more, or shorten the horizon."
        )
    start, of = torch.cat(starts), torch.cat(episodes)
    chosen = torch.linspace(0, len(start) - 1, min(rows, len(start))).long()
    steps = kept[0] if len(kept) == 1 else cast(TensorDictBase, torch.cat(kept))  # pyright: ignore
    index = start[chosen][:, None] + torch.arange(length)
    return Evidence(cast(TensorDictBase, steps[index]), of[chosen], offset)
