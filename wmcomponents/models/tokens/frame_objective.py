"""The losses of a tokenizer of single frames, and of a transformer over its tokens that a family adds."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from wmcomponents._global_batch import global_rows
from wmcomponents.models.tokens.base import CachedTransformerModel
from wmcomponents.models.tokens.codebook import LearnedCodes
from wmcomponents.models.tokens.config import FrameLossConfig, TokenOptimizerConfig
from wmcomponents.models.tokens.objective import TokenWorldLoss
from wmcomponents.nn import code_counts, farthest_first
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import Terms
from wmcomponents.objectives.weights import placed
from wmcomponents.tokenizers.image import network_image

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance ``[N]`` of images in [-1, 1] ``[N, C, H, W]``."""

REVIVAL_EVERY = 10
"""Updates from one revival of unused codes to the next."""

W = TypeVar("W", bound=CachedTransformerModel)


class FrameTokenLoss(TokenWorldLoss[W]):
    """Base of losses whose tokenizer sees every frame by itself: its stage is here, the transformer's is a family's.

    A family names its numbers in ``config_class``, its transformer in ``transformer``, and writes
    :meth:`transformer_elements`.

    Args:
        world_model: a model of such a tokenizer and transformer.
        config: numbers of the losses; the paper's if not given.
        optimizer: learning rates; the paper's if not given.
        perceptual: distance of images, such as :class:`~wmcomponents.nn.LPIPS`; left out if not given.
        seed: of the choice of frames.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``. Diagnostics are means.

    Raises:
        TypeError: if the model is not made of these parts, or codes are to be revived that no codebook holds.
        ValueError: for an unknown reduction, or stages that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    config_class: ClassVar[type[FrameLossConfig]]

    def __init__(
        self,
        world_model: W,
        config: FrameLossConfig | None = None,
        *,
        optimizer: TokenOptimizerConfig | None = None,
        perceptual: Perceptual | nn.Module | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        config = loss_part(self.config_class, config)
        optimizer = optimizer_part(TokenOptimizerConfig, optimizer)
        self.revival = config.revival
        self._has_perceptual = perceptual is not None
        coefficients = self.further(config)
        super().__init__(world_model, config, optimizer, coefficients=coefficients, seed=seed, reduction=reduction)
        quantizer = world_model.tokenizer.quantizer
        if self.revival and not isinstance(quantizer, LearnedCodes):
            raise TypeError(
                f"codes are revived in a codebook that learns by gradient; {type(quantizer).__name__} has none: set "
                f"revival=0."
            )
        if isinstance(perceptual, nn.Module):
            perceptual.requires_grad_(False)
        self.perceptual = perceptual

    def further(self, config: Any) -> dict[str, float]:
        """Numbers of a family's own, kept as buffers under their names; none here."""
        return {}

    def _of_tokenizer(self) -> list[NestedKey]:
        """What the tokenizer's stage writes."""
        extra: list[NestedKey] = ["loss_perceptual"] if self._has_perceptual else []
        return ["loss_absolute", "loss_squared", "loss_worst", "loss_commitment", *extra, "perplexity"]

    def after_update(self, step: int) -> None:
        """Give codes that nothing uses to what is described worst."""
        seen = self.seen()
        if seen is None or step >= self.revival or step % REVIVAL_EVERY:
            return
        with torch.no_grad(), placed(self.world_model_params, self.world_model):
            tokenizer = self.world_model.tokenizer
            quantizer, codebook = tokenizer.quantizer, tokenizer.quantizer.codebook
            z = global_rows(quantizer.compared(tokenizer.encode(network_image(*seen))).flatten(0, 1))
            used = code_counts(quantizer.tokens(z), codebook.shape[0]) > 0
            codebook[~used] = farthest_first(z.to(codebook.dtype), int((~used).sum()), codebook[used])

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage, of sequences ``[B, T]``."""
        if self._stage == "tokenizer":
            pixels, weight = self._frames(tensordict)
            if torch.is_grad_enabled() and self.revival:
                self.saw(pixels[weight > 0])
            return self.tokenizer_terms(pixels, weight)
        return self.transformer_elements(tensordict)

    def tokenizer_terms(self, pixels: Tensor, weight: Tensor) -> Terms:
        """Losses and diagnostics of the tokenizer, each ``[N, 1]``.

        Args:
            pixels: uint8 ``[N, H, W, C]``, or such images as float in [0, 255].
            weight: ``[N]``; 0 for padding.
        """
        tokenizer = self.world_model.tokenizer
        x = network_image(pixels)
        tokens, codes, commitment = tokenizer.tokenize(x)
        image = tokenizer.decode(codes)
        losses = {**self.image_errors(x, image), "commitment": commitment}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(x, image)
        return self.tokenizer_scores(losses, tokens, weight)

    @abstractmethod
    def transformer_elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the transformer's stage, of sequences ``[B, T]``."""

    def _frames(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor]:
        """Frames of the tokenizer's update ``[N, H, W, C]``, and their weights ``[N]``."""
        arrivals = self.arrivals(tensordict)
        pixels, weight = arrivals.observation[self.observation_keys[0]].flatten(0, 1), arrivals.weight.flatten()
        chosen = self.drawn(weight)
        return pixels[chosen], weight[chosen]
