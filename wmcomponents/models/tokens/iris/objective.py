"""The losses of IRIS (Micheli et al., 2023): the tokenizer's, and the transformer's on its tokens."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from wmcomponents._global_batch import global_rows
from wmcomponents.dynamics import TokenTransformer
from wmcomponents.functional import cross_entropy
from wmcomponents.models.tokens.base import CachedTransformerModel
from wmcomponents.models.tokens.config import TokenOptimizerConfig
from wmcomponents.models.tokens.iris.config import IRISLossConfig
from wmcomponents.models.tokens.objective import TokenWorldLoss, kept_weight, pieces
from wmcomponents.nn import VectorQuantizer, code_counts, farthest_first
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import Terms
from wmcomponents.objectives.weights import placed
from wmcomponents.tokenizers import ImageTokenizer
from wmcomponents.tokenizers.image import network_image

IRISModel = CachedTransformerModel[ImageTokenizer[VectorQuantizer], TokenTransformer]
"""What the losses train: an IRIS, or a model made of the same parts."""

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance ``[N]`` of images in [-1, 1] ``[N, C, H, W]``."""

REVIVAL_EVERY = 10
"""Updates from one revival of unused codes to the next."""


class TokenPieces(NamedTuple):
    """Pieces of sequences that fit into the transformer's context.

    Attributes:
        tokens: int64 ``[P, M, K]``.
        action: int64 ``[P, M]``.
        reward: r_{t+1}, ``[P, M]``.
        terminated: of t + 1, int64 ``[P, M]``.
        weight: ``[P, M]``; 0 for padding and behind the end of an episode.
    """

    tokens: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor


class IRISLoss(TokenWorldLoss[IRISModel]):
    r"""Objective of IRIS on TorchRL-layout sequences, in two stages.

    *Tokenizer*: every frame by itself, in [-1, 1].

    .. math::
        L = a \overline{|x - \hat x|} + b \overline{(x - \hat x)^2} + c \max (x - \hat x)^2
        + LPIPS(x, \hat x) + \overline{(sg(z) - e)^2} + \beta\, \overline{(z - sg(e))^2}

    with a, b and c called ``absolute``, ``squared`` and ``worst`` in :class:`~wmcomponents.models.IRISLossConfig`.

    *Transformer*: three mean cross entropies on the tokens of the tokenizer as it is, which gets no gradient: of all
    tokens but the first frame's first one, of the sign of r_{t+1}, of terminated_{t+1}.

    The stage follows from the step alone (:meth:`before_update`): the tokenizer for the first ``tokenizer_steps``; then
    the transformer, with the tokenizer again at every ``tokenizer_every``-th update. Outside a training loop, say which
    with :attr:`stage`, and where codes are revived call :meth:`after_update` too.

    Sequences may be longer than the context, and cross from episode to episode: they are cut into pieces of the
    context's length, each of which counts up to its first end of an episode. The rest of that piece is left out.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the tokenizer's stage ``loss_absolute``, ``loss_squared``, ``loss_worst``, ``loss_commitment``,
    with a perceptual distance ``loss_perceptual``, and ``perplexity`` detached, of the batch's codes; in the other
    ``loss_tokens``, ``loss_reward``, ``loss_termination``, and ``accuracy`` of the tokens detached.

    Args:
        world_model: an :class:`~wmcomponents.models.IRIS`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: learning rates; the paper's if not given.
        perceptual: distance of images, such as :class:`~wmcomponents.nn.LPIPS`; left out if not given.
        seed: of the choice of frames.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[frames, 1]`` in the tokenizer's
            stage; in the other ``[P, M]`` of the pieces, of their tokens ``[P, M * K - 1]``). Diagnostics are means.

    Raises:
        TypeError: if the model is not made of these parts, or codes are to be revived that no codebook holds.
        ValueError: for an unknown reduction, or stages that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Micheli et al. (2023), section 2.1, 2.2, appendix A.
    """

    transformer = TokenTransformer

    def __init__(
        self,
        world_model: IRISModel,
        config: IRISLossConfig | None = None,
        *,
        optimizer: TokenOptimizerConfig | None = None,
        perceptual: Perceptual | nn.Module | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        config = loss_part(IRISLossConfig, config)
        optimizer = optimizer_part(TokenOptimizerConfig, optimizer)
        self.revival = config.revival
        self._has_perceptual = perceptual is not None
        super().__init__(world_model, config, optimizer, seed=seed, reduction=reduction)
        quantizer = world_model.tokenizer.quantizer
        if self.revival and not isinstance(quantizer, VectorQuantizer):
            raise TypeError(
                f"codes are revived in the codebook of a VectorQuantizer; {type(quantizer).__name__} has none: set "
                f"revival=0."
            )
        if isinstance(perceptual, nn.Module):
            perceptual.requires_grad_(False)
        self.perceptual = perceptual

    def _written(self) -> list[NestedKey]:
        if self._stage == "tokenizer":
            extra: list[NestedKey] = ["loss_perceptual"] if self._has_perceptual else []
            return ["loss_absolute", "loss_squared", "loss_worst", "loss_commitment", *extra, "perplexity"]
        return ["loss_tokens", "loss_reward", "loss_termination", "accuracy"]

    def after_update(self, step: int) -> None:
        """Give codes that nothing uses to what is described worst."""
        seen = self.seen()
        if seen is None or step >= self.revival or step % REVIVAL_EVERY:
            return
        with torch.no_grad(), placed(self.world_model_params, self.world_model):
            tokenizer = self.world_model.tokenizer
            z = global_rows(tokenizer.encode(network_image(*seen)).flatten(0, 1))
            codebook = tokenizer.quantizer.embedding.weight
            used = code_counts(tokenizer.quantizer.tokens(z), codebook.shape[0]) > 0
            codebook[~used] = farthest_first(z.to(codebook.dtype), int((~used).sum()), codebook[used])

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage, of sequences ``[B, T]``."""
        if self._stage == "tokenizer":
            pixels, weight = self._frames(tensordict)
            if torch.is_grad_enabled() and self.revival:
                self.saw(pixels[weight > 0])
            return self.tokenizer_terms(pixels, weight)
        return self.transformer_terms(self.segments(tensordict))

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

    def transformer_terms(self, segments: TokenPieces) -> Terms:
        """Losses and diagnostics of the transformer, each ``[P, M]``; of the tokens ``[P, M * K - 1]``.

        Nothing came before a piece's first token, so that one is not foretold.

        Args:
            segments: pieces of sequences.
        """
        logits, rewards, ends = self.world_model.dynamics.compute(segments.tokens, segments.action)
        # The logits behind a piece's last action are of a frame that is not there.
        predicted, target = logits.flatten(1, 2)[:, :-1], segments.tokens.flatten(1)[:, 1:]
        losses = {
            "tokens": cross_entropy(predicted, target),
            "reward": self.world_model.rewards.loss(rewards, segments.reward),
            "termination": cross_entropy(ends, segments.terminated),
        }
        each = segments.weight.repeat_interleave(segments.tokens.shape[-1], 1)[:, 1:]
        weights = {
            "tokens": each,
            "accuracy": each,
            "reward": segments.weight,
            "termination": segments.weight,
        }
        return Terms(losses, {"accuracy": (predicted.argmax(-1) == target).to(predicted.dtype)}, weights)

    def segments(self, tensordict: TensorDictBase) -> TokenPieces:
        """The pieces of a batch of sequences ``[B, T]``, in tokens of the tokenizer as it is."""
        model, keys = self.world_model, self.tensor_keys
        steps = self.transitions(tensordict, self.observation_keys)
        length = min(model.dynamics.max_frames, tensordict.batch_size[1])
        return TokenPieces(
            pieces(model.tokenizer.tokens(tensordict.get(self.observation_keys[0])), length),
            pieces(model.action_token(tensordict.get(keys.action)), length),
            pieces(steps.reward, length),
            pieces(steps.terminated.long(), length),
            kept_weight(steps, length),
        )

    def _frames(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor]:
        """Frames of the tokenizer's update ``[N, H, W, C]``, and their weights ``[N]``."""
        arrivals = self.arrivals(tensordict)
        pixels, weight = arrivals.observation[self.observation_keys[0]].flatten(0, 1), arrivals.weight.flatten()
        chosen = self.drawn(weight)
        return pixels[chosen], weight[chosen]
