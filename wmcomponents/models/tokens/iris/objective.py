"""The losses of IRIS (Micheli et al., 2023): the tokenizer's, and the transformer's on its tokens."""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from wmcomponents.dynamics import TokenTransformer
from wmcomponents.functional import cross_entropy
from wmcomponents.models.tokens.objective import DECAY, TokenWorldLoss, kept_weight, pieces
from wmcomponents.nn import code_counts, farthest_first
from wmcomponents.objectives.model_loss import Terms
from wmcomponents.objectives.weights import placed
from wmcomponents.tokenizers.image import network_image
from wmcomponents.world_model import WorldModel

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


class IRISLoss(TokenWorldLoss):
    r"""Objective of IRIS on TorchRL-layout sequences, in two stages.

    *Tokenizer*: every frame by itself, in [-1, 1].

    .. math::
        L = a \overline{|x - \hat x|} + b \overline{(x - \hat x)^2} + c \max (x - \hat x)^2
        + LPIPS(x, \hat x) + \overline{(sg(z) - e)^2} + \beta\, \overline{(z - sg(e))^2}

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
        tokenizer_steps: updates of the tokenizer before those of the transformer.
        tokenizer_every: then, every how many updates the tokenizer is trained again; 0 for never, at least 2.
        tokenizer_frames: frames of an update of the tokenizer, drawn from the batch; 0 takes all.
        tokenizer_rate: the tokenizer's learning rate.
        transformer_rate: the transformer's.
        absolute: a, factor on the absolute error; the paper's is 1.
        squared: b, factor on the squared error, which the paper does not have: where few pixels are not the background,
            the absolute error is content with the background for long. Delta-IRIS has a = 0.1 and b = 1.
        worst: c, factor on the squared error of a frame's worst number, which the paper does not have either: a mean
            hardly sees a ball of one pixel. Delta-IRIS has c = 0.01.
        revival: updates in which codes that the tokenizer's frames do not use are replaced now and then by vectors of
            these frames that lie far from the used ones; the paper has none. At high rates vectors move away from their
            codes fast, and a code that is not used does not follow.
        perceptual: distance of images, such as :class:`~wmcomponents.nn.LPIPS`; left out if not given.
        seed: of the choice of frames.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[frames, 1]`` in the tokenizer's
            stage; in the other ``[P, M]`` of the pieces, of their tokens ``[P, M * K - 1]``). Diagnostics are means.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction, or stages that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Micheli et al. (2023), section 2.1, 2.2, appendix A.
    """

    def __init__(
        self,
        world_model: WorldModel,
        *,
        tokenizer_steps: int,
        tokenizer_every: int = 2,
        tokenizer_frames: int = 256,
        tokenizer_rate: float = 1e-4,
        transformer_rate: float = 1e-4,
        absolute: float = 1.0,
        squared: float = 0.0,
        worst: float = 0.0,
        revival: int = 0,
        perceptual: Perceptual | nn.Module | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if not isinstance(getattr(world_model, "dynamics", None), TokenTransformer):
            raise TypeError(
                f"this loss trains a tokenizer and a token transformer (models.IRIS); {type(world_model).__name__} has "
                f"none: use its own objective()."
            )
        self.revival = revival
        self._has_perceptual = perceptual is not None
        super().__init__(
            world_model,
            tokenizer_steps=tokenizer_steps,
            tokenizer_every=tokenizer_every,
            tokenizer_frames=tokenizer_frames,
            rates={"tokenizer": tokenizer_rate, "dynamics": transformer_rate},
            decays={"tokenizer": 0.0, "dynamics": DECAY},
            errors=(absolute, squared, worst),
            seed=seed,
            reduction=reduction,
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
            z = tokenizer.encode(network_image(*seen)).flatten(0, 1)
            codebook = tokenizer.quantizer.embedding.weight
            used = code_counts(tokenizer.quantizer.tokens(z), codebook.shape[0]) > 0
            codebook[~used] = farthest_first(z.to(codebook.dtype), int((~used).sum()), codebook[used])

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage."""
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
            losses["perceptual"] = cast(Perceptual, self.perceptual)(x, image)
        return self.tokenizer_scores(losses, tokens, weight)

    def transformer_terms(self, segments: TokenPieces) -> Terms:
        """Losses and diagnostics of the transformer, each ``[P, M]``; of the tokens ``[P, M * K - 1]``.

        Nothing came before a piece's first token, so that one is not foretold.
        """
        logits, rewards, ends = self.world_model.dynamics.compute(segments.tokens, segments.action)
        # What is said behind a piece's last action is of a frame that is not there.
        said, meant = logits.flatten(1, 2)[:, :-1], segments.tokens.flatten(1)[:, 1:]
        losses = {
            "tokens": cross_entropy(said, meant),
            "reward": self.world_model.rewards.loss(rewards, segments.reward),
            "termination": cross_entropy(ends, segments.terminated),
        }
        words = segments.weight.repeat_interleave(segments.tokens.shape[-1], 1)[:, 1:]
        weights = {"tokens": words, "accuracy": words, "reward": segments.weight, "termination": segments.weight}
        return Terms(losses, {"accuracy": (said.argmax(-1) == meant).to(said.dtype)}, weights)

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
