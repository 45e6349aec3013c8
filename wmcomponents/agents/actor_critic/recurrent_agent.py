"""A recurrent actor-critic as an agent: it learns in dreams behind real sequences, and acts on frames."""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

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

    def __init__(self, loss: RecurrentImaginationLoss, *, optimizer: Optimizer | None = None) -> None:
        self.needs.check(loss.world_model, "a recurrent actor-critic")
        self.loss = loss
        self.optimizer = loss.make_optimizer() if optimizer is None else optimizer
        self.updates = self._dreamed = 0

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
        """One update on dreams from the last frames of a batch of sequences.

        Args:
            experience: gives the sequences.

        Raises:
            DivergedError: if a number is not finite; the weights are those of the update before.
        """
        sequences = experience.sequences()
        found = take_step(self.loss(sequences), self.optimizer, self.updates)
        self.loss.after_update(self.updates)
        self.updates += 1
        self._dreamed += sequences.batch_size[0] * self.loss.horizon
        return found

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
