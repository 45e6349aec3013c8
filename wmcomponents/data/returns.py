"""What a policy earns in an environment, real or dreamt."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torchrl.envs import EnvBase

from wmcomponents.data.acting import TensorDictPolicy, acted


class EndlessEpisodeError(RuntimeError):
    """An episode does not end, and whoever waits for its end would wait for ever."""


@dataclass(frozen=True)
class Returns:
    """Undiscounted returns of whole episodes.

    Attributes:
        returns: one number an episode.
        lengths: its number of steps.
    """

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean return."""
        return statistics.fmean(self.returns)

    @property
    def median(self) -> float:
        """Median return."""
        return statistics.median(self.returns)

    @property
    def min(self) -> float:
        """Worst return."""
        return min(self.returns)

    @property
    def max(self) -> float:
        """Best return."""
        return max(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean number of steps."""
        return statistics.fmean(self.lengths)

    def __len__(self) -> int:
        return len(self.returns)

    def to_json(self) -> dict[str, Any]:
        """JSON-able summary."""
        summary = {name: round(getattr(self, name), 4) for name in ("mean", "median", "min", "max", "mean_length")}
        return {"episodes": len(self), **summary, "returns": [round(value, 4) for value in self.returns]}


def evaluate_policy(
    env: EnvBase,
    policy: TensorDictPolicy,
    episodes: int = 20,
    seed: int | None = None,
    *,
    max_steps: int = 100_000,
    progress: Callable[[int], Any] | None = None,
) -> Returns:
    """Returns of whole episodes in a TorchRL environment, real or dreamt.

    A batched environment shares the episodes out evenly among its rows beforehand: taking whichever end first would
    favour short ones. The episodes must end by themselves: give a dream a horizon, or ``StepCounter(max_steps)``.

    Args:
        env: batch size ``[]`` or ``[N]``.
        policy: writes ``action`` into the TensorDict it is given; on any device.
        episodes: how many.
        seed: of the environment; left as it is if not given.
        max_steps: how long an episode may last before it is given up.
        progress: called with the number of episodes that just ended.

    Raises:
        EndlessEpisodeError: if an episode has not ended after ``max_steps``.
        ValueError: if ``episodes`` is below 1.
    """
    if episodes < 1:
        raise ValueError(f"episodes is at least 1; got {episodes}.")
    if seed is not None:
        env.set_seed(seed)
    rows = env.batch_size.numel()
    wanted = torch.tensor([episodes // rows + (row < episodes % rows) for row in range(rows)])
    total, length = torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.int64)
    out = Returns()
    with torch.no_grad():
        tensordict = env.reset()
        while bool((wanted > 0).any()):
            stepped, tensordict = env.step_and_maybe_reset(acted(policy, tensordict))
            total += stepped["next", "reward"].reshape(rows).cpu()
            length += 1
            if int(length.max()) > max_steps:
                raise EndlessEpisodeError(
                    f"an episode has not ended after {max_steps} steps: give the dream a horizon, or end episodes by "
                    f"StepCounter(max_steps); where they are so long, pass max_steps=."
                )
            done = stepped["next", "done"].reshape(rows).cpu()
            if bool(done.any()):
                counted = done & (wanted > 0)
                out.returns.extend(total[counted].tolist())
                out.lengths.extend(length[counted].tolist())
                wanted -= counted.long()
                total[done], length[done] = 0.0, 0
                if progress is not None:
                    progress(int(counted.sum()))
    return out
