"""A recurrent actor-critic as an agent: it learns in dreams behind real sequences, and acts on frames."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch.optim import Optimizer

from wmcomponents._arguments import whole
from wmcomponents.agents.actor_critic.recurrent_imagination import NEEDS, RecurrentImaginationLoss
from wmcomponents.agents.actor_critic.recurrent_policy import RecurrentPolicy
from wmcomponents.agents.actor_critic.step import take_step
from wmcomponents.agents.agent import LearnsFrom
from wmcomponents.dream.experience import Experience
from wmcomponents.world_model import WorldModel


class RecurrentAgent:
    """The actor-critic of a :class:`RecurrentImaginationLoss`, with its optimiser.

    Args:
        loss: the objective in its world model.
        optimizer: over actor and critic; the paper's (``loss.make_optimizer()``) if not given.
        dreams: dreams of an update, each from a frame drawn evenly among those of the sequences before which there are
            as many as the loss reads; if not given, one from the last frame of each sequence.
        schedule: factor on the learning rates at each update (from 0), such as ``LinearDecay``.

    Raises:
        CapabilityError: if the loss's world model lacks what a recurrent actor-critic needs.
        ValueError: if ``dreams`` is below 1.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded, Composite, OneHot
        >>> from wmcomponents.agents.actor_critic import diamond_loss
        >>> from wmcomponents.models import Diamond, DiamondConfig
        >>> image = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> agent = RecurrentAgent(diamond_loss(Diamond(DiamondConfig.tiny(), image, OneHot(3)), units=16))
        >>> agent.learns_from, agent.dreamed_steps
        ('sequences', 0)
    """

    needs = NEEDS
    learns_from: LearnsFrom = "sequences"

    def __init__(
        self,
        loss: RecurrentImaginationLoss,
        *,
        optimizer: Optimizer | None = None,
        dreams: int | None = None,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.needs.check(loss.world_model, "a recurrent actor-critic")
        self.loss = loss
        self.optimizer = loss.make_optimizer() if optimizer is None else optimizer
        self.dreams = None if dreams is None else whole("dreams", dreams, 1, "a number of dreams, at least 1")
        self.schedule = schedule
        self.updates = self._dreamed = 0
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.loss.world_model

    @property
    def dream_policy(self) -> RecurrentPolicy:
        """Acts on a dream's decoded frames."""
        return self.loss.policy

    @property
    def real_policy(self) -> RecurrentPolicy:
        """Acts on the real environment's frames."""
        return self.loss.real_policy

    @property
    def dreamed_steps(self) -> int:
        """Steps dreamt in all updates."""
        return self._dreamed

    def learn(self, experience: Experience) -> dict[str, float]:
        """One update on dreams from frames of a batch of sequences.

        Args:
            experience: gives the sequences.

        Raises:
            DivergedError: if a number is not finite; the weights are those of the update before.
        """
        if self.schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * self.schedule(self.updates)
        sequences = self._behind(experience)
        found = take_step(self.loss(sequences), self.optimizer, self.updates)
        self.loss.after_update(self.updates)
        self.updates += 1
        self._dreamed += sequences.batch_size[0] * self.loss.horizon
        return found

    def _behind(self, experience: Experience) -> TensorDictBase:
        """Sequences that end in the frames from which the dreams begin."""
        sequences = experience.sequences()
        if self.dreams is None or sequences.ndim != 2:  # the loss says what is wrong with others
            return sequences
        rows, steps = sequences.batch_size
        length = min(steps, self.loss.frames_read(steps))
        generator = experience.generator
        place = torch.randint(rows * (steps - length + 1), (self.dreams,), generator=generator, device=generator.device)
        place = place.to(sequences.device or place.device)
        row, begin = place // (steps - length + 1), place % (steps - length + 1)
        within = begin.unsqueeze(-1) + torch.arange(length, device=place.device)
        return cast(TensorDictBase, sequences.select(*self.loss.in_keys)[row.unsqueeze(-1), within])

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, counts and the dreams' generator."""
        return {
            "loss": dict(self.loss.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "dreamed": self._dreamed,
            "generator": self.loss.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates, self._dreamed = int(state["updates"]), int(state["dreamed"])
        self.loss.generator.set_state(state["generator"])
