"""EfficientZero's loss (Ye et al., Mastering Atari Games with Limited Data, 2021, eq. 4 and appendix A)."""

import torch
from torch import Tensor

from wmcomponents.functional import scaled_brightness, shifted_images
from wmcomponents.functional.n_step import EpisodeTail
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel
from wmcomponents.models.value_equivalent.efficientzero.config import (
    EfficientZeroLossConfig,
    EfficientZeroOptimizerConfig,
)
from wmcomponents.models.value_equivalent.objective import ValueEquivalentLoss
from wmcomponents.models.value_equivalent.targets import gather_steps
from wmcomponents.objectives.configured import loss_part, optimizer_part


class EfficientZeroLoss(ValueEquivalentLoss):
    """EfficientZero's objective: value prefixes in the place of rewards, and latents that agree with encoded ones.

    The whole is divided by K. What lies beyond an episode's end is masked. Images are augmented: those that an unroll
    begins from and those that it is compared with each get a shift and a brightness of their own, alike for all frames
    of a stack; the value's bootstrap sees them as they are. For everything else see
    :class:`~wmcomponents.models.ValueEquivalentLoss`.

    Args:
        world_model: an EfficientZero.
        config: numbers of the loss.
        optimizer: numbers of :meth:`make_optimizer`.
        seed: of starts, random actions and augmentations.
        reduction: of the losses: ``"mean"``, ``"sum"`` or ``"none"`` (``[B, S]``).
    """

    def __init__(
        self,
        world_model: ValueEquivalentModel,
        config: EfficientZeroLossConfig | None = None,
        *,
        optimizer: EfficientZeroOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        config = loss_part(EfficientZeroLossConfig, config)
        optimizer = optimizer_part(EfficientZeroOptimizerConfig, optimizer)
        self.shift, self.intensity = config.shift, config.intensity
        super().__init__(
            world_model,
            config,
            optimizer=optimizer,
            consistency_scale=config.consistency_scale,
            seed=seed,
            reduction=reduction,
        )

    @property
    def absorbing(self) -> bool:
        """Nothing is learned beyond an episode's end."""
        return False

    def step_weights(self, tail: EpisodeTail) -> Tensor:
        """1 / K for every step, ``[1, 1, K + 1]``.

        Args:
            tail: what is known of the episode after each start, ``[B, S]``; tells the device.
        """
        return torch.full((1, 1, self.unroll + 1), 1.0 / self.unroll, device=tail.steps_remaining.device)

    def augmented(self, stack: Tensor) -> Tensor:
        """Stacks of images ``[*B, C, H, W]``, each moved and brightened by its own noise."""
        lead, device = stack.shape[:-3], self.generator.device
        images = stack.movedim(-3, -1)
        shift = torch.randint(2 * self.shift + 1, (*lead, 2), generator=self.generator, device=device)
        normal = torch.randn(lead, generator=self.generator, device=device)
        moved = shifted_images(images, shift, self.shift)
        return scaled_brightness(moved, normal, self.intensity).movedim(-1, -3)

    def _encode(self, stack: Tensor, starts: Tensor) -> tuple[Tensor | None, Tensor]:
        """With images, those compared with and those begun from are different ones."""
        model = self.world_model
        if not model.frames.is_image or not (self.shift or self.intensity):
            return super()._encode(stack, starts)
        with torch.no_grad():
            compared = model.representation.compute(self.augmented(stack))
        return compared, model.representation.compute(self.augmented(gather_steps(stack, starts)))
