"""What losses of worlds of latents share: the autoencoder is trained first, then the network over its latents."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, TypeVar

import torch
from tensordict import NestedKey, TensorDictBase

from wmcomponents.objectives.model_loss import Terms, TrainableModel
from wmcomponents.objectives.staged import StagedModelLoss
from wmcomponents.tokenizers import LatentTokenizer
from wmcomponents.tokenizers.image import network_image


class LatentModel(TrainableModel, Protocol):
    """A world of latents.

    Attributes:
        tokenizer: images as latents, and back.
        image_key: of the image in an observation.
    """

    tokenizer: LatentTokenizer
    image_key: str


L = TypeVar("L", bound=LatentModel)


class AutoencoderStage(StagedModelLoss[L]):
    r"""Base of losses in two stages, the first of which is the autoencoder's, every image by itself.

    .. math:: L = \overline{(x - \hat x(z))^2} + w \max (x - \hat x(z))^2 + s\, \overline{KL(q(z | x) \| N(0, 1))}

    A family calls :meth:`settle_autoencoder` before this constructor, and :meth:`autoencoder_terms` in that stage.
    """

    stages: ClassVar[tuple[str, ...]] = ("autoencoder", "network")
    autoencoder_written: ClassVar[Sequence[NestedKey]] = ("loss_reconstruction", "loss_kl", "latent_std")

    def settle_autoencoder(self, steps: int, kl_scale: float, worst: float) -> None:
        """Say how long the autoencoder is trained, and how its latents are held together.

        Args:
            steps: updates of the autoencoder before the network's begin.
            kl_scale: s, of the divergence from the standard normal, a mean over the latents' numbers.
            worst: w, factor on the squared error of an image's worst number; a mean hardly sees what is a pixel or two.

        Raises:
            ValueError: if one is below 0.
        """
        if steps < 0 or kl_scale < 0.0 or worst < 0.0:
            raise ValueError(
                f"autoencoder_steps, kl_scale and worst are at least 0; got {steps}, {kl_scale} and {worst}."
            )
        self.autoencoder_steps, self.kl_scale, self.worst = steps, kl_scale, worst

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        return "autoencoder" if step < self.autoencoder_steps else "network"

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Updates of the autoencoder before those of the network."""
        return (self.autoencoder_steps,)

    @stage_steps.setter
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        (self.autoencoder_steps,) = steps

    def autoencoder_terms(self, tensordict: TensorDictBase) -> Terms:
        """Losses of the autoencoder, of each image, ``[B, L]``, with fresh noise."""
        arrivals = self.arrivals(tensordict)
        part, pixels = self.world_model.tokenizer, arrivals.observation[self.world_model.image_key]
        lead, image = pixels.shape[:2], network_image(pixels.flatten(0, 1))
        moments = part.moments(image)
        noise = torch.randn(moments.mean.shape, generator=self.generator, device=image.device, dtype=image.dtype)
        errors = (part.decode(part.scaled(moments.drawn(noise))) - image).square().flatten(1)
        error = errors.mean(1) + self.worst * errors.amax(1) if self.worst else errors.mean(1)
        mean, log_variance = moments
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).flatten(1).mean(1)
        spread = part.scaled(mean.detach()).flatten(1).std(1)
        losses = {"reconstruction": error, "kl": self.kl_scale * kl}
        rows = {key: value.unflatten(0, lead) for key, value in losses.items()}
        return Terms(rows, {"latent_std": spread.unflatten(0, lead)}, arrivals.weight)
