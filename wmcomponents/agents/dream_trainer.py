"""Behaviour that is learned in a frozen world model alone."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch.optim import Optimizer

from wmcomponents._arguments import whole
from wmcomponents.agents.actor_critic.imagination import ImaginationLoss
from wmcomponents.agents.actor_critic.recurrent_imagination import RecurrentImaginationLoss
from wmcomponents.agents.actor_critic.step import take_step
from wmcomponents.dream.starts import Starts


class DreamTrainer:
    """Improves an actor and a critic in dreams that begin in given states; the world model is never changed.

    The policy that comes out is ``loss.actor``: behind a filter (``integrations.torchrl.LatentPolicy``) it acts in
    reality. That of a :class:`RecurrentImaginationLoss` is ``loss.real_policy``, which reads frames by itself.

    Args:
        loss: the actor-critic's objective in its world model.
        starts: where dreams begin: of replay (``ReplayStarts``), of a saved model (``PoolStarts``), or the model's own
            (``PriorStarts``). For a recurrent actor-critic, whose memory begins in real frames, a function that draws
            real sequences ``[B, T]``, such as ``replay.sample``.
        batch_size: dreams of each update; of sequences, as many as are drawn.
        optimizer: over actor and critic; the paper's (``loss.make_optimizer()``) if not given.
        seed: of the starts that are drawn; the dreams' own seed is the loss's.

    Raises:
        TypeError: if dreams of this loss do not begin in such starts.
        ValueError: if ``batch_size`` is below 1.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.agents.actor_critic import dreamer_v3_loss
        >>> from wmcomponents.dream.starts import PriorStarts
        >>> from wmcomponents.models import DreamerV3, DreamerV3Config
        >>> model = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> trainer = DreamTrainer(dreamer_v3_loss(model, units=16, horizon=3), PriorStarts(model), batch_size=8)
        >>> sorted(trainer.train(2))[:3]
        ['dream_length', 'entropy', 'loss_actor']
    """

    def __init__(
        self,
        loss: ImaginationLoss | RecurrentImaginationLoss,
        starts: Starts | Callable[[], TensorDictBase],
        *,
        batch_size: int = 256,
        optimizer: Optimizer | None = None,
        seed: int = 0,
    ) -> None:
        in_frames = isinstance(loss, RecurrentImaginationLoss)
        if in_frames is isinstance(starts, Starts) or not (isinstance(starts, Starts) or callable(starts)):
            wanted = "a function that draws real sequences, such as replay.sample" if in_frames else "ReplayStarts(...)"
            raise TypeError(f"dreams of a {type(loss).__name__} begin in {wanted}; got a {type(starts).__name__}.")
        self.loss, self.starts = loss, starts
        self.batch_size = whole("batch_size", batch_size, 1, "a number of dreams, at least 1")
        self.optimizer = loss.make_optimizer() if optimizer is None else optimizer
        self.updates = self._dreams = 0
        self._generator = torch.Generator(loss.generator.device).manual_seed(seed)

    @property
    def dreamed_steps(self) -> int:
        """Steps that were dreamt in all."""
        return self._dreams * self.loss.horizon

    def train(
        self, updates: int, progress: Callable[[int, Mapping[str, float]], None] | None = None
    ) -> dict[str, float]:
        """Take so many updates.

        Args:
            updates: how many more.
            progress: called after each update with its number and its losses and diagnostics.

        Returns:
            Means of the losses and diagnostics over these updates.

        Raises:
            DivergedError: if a number is not finite; the update that would have spread it was not taken.
        """
        sums: dict[str, float] = defaultdict(float)
        for _ in range(whole("updates", updates, 1, "a number of updates, at least 1")):
            found = self.update()
            for name, value in found.items():
                sums[name] += value
            if progress is not None:
                progress(self.updates, found)
        return {name: value / updates for name, value in sums.items()}

    def update(self) -> dict[str, float]:
        """One update: dream, and step both optimiser and slow critic."""
        starts = self._drawn()
        found = take_step(self.loss(starts), self.optimizer, self.updates)
        self.loss.after_update(self.updates)
        self.updates += 1
        self._dreams += starts.batch_size[0]
        return found

    def _drawn(self) -> TensorDictBase:
        if isinstance(self.starts, Starts):
            return TensorDict(dict(self.starts.sample(self.batch_size, self._generator)), [self.batch_size])
        return self.starts()

    def state_dict(self) -> dict[str, Any]:
        """Everything that makes a later update: weights, statistics, optimiser, generators, counts."""
        return {
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "dreams": self._dreams,
            "generators": [self._generator.get_state(), self.loss.generator.get_state()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken: on a CPU to the bit, if the starts, or sequences, are the same."""
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates, self._dreams = int(state["updates"]), int(state["dreams"])
        for generator, saved in zip((self._generator, self.loss.generator), state["generators"], strict=True):
            generator.set_state(saved)
