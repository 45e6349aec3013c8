"""The losses of GAIA-1 (Hu et al., 2023): the tokenizer's, and the transformer's on the codes of images."""

from typing import NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from wmcomponents.dynamics import TextImageActionTransformer
from wmcomponents.encoders import FrozenEncoder
from wmcomponents.functional import cross_entropy
from wmcomponents.models.tokens.config import TokenOptimizerConfig
from wmcomponents.models.tokens.frame_objective import FrameTokenLoss, Perceptual
from wmcomponents.models.tokens.gaia1.config import GAIA1LossConfig
from wmcomponents.models.tokens.gaia1.world import TextImageActionModel
from wmcomponents.models.tokens.objective import kept_weight, pieces
from wmcomponents.objectives.model_loss import Terms
from wmcomponents.tokenizers.image import network_image


class Film(NamedTuple):
    """Pieces of sequences that fit into the transformer's context.

    Attributes:
        tokens: int64 ``[P, M, K]``.
        action: vectors, ``[P, M, A]``; NaN, or no choice, where hidden.
        text: ``[P, M, tokens, width]``, zeros where hidden; ``None`` where there are no texts.
        weight: ``[P, M]``; 0 for padding and behind the end of an episode.
    """

    tokens: Tensor
    action: Tensor
    text: Tensor | None
    weight: Tensor


class GAIA1Loss(FrameTokenLoss[TextImageActionModel]):
    r"""Objective of GAIA-1 on TorchRL-layout sequences, in two stages.

    *Tokenizer*: every frame by itself, in [-1, 1].

    .. math::
        L = a \overline{|x - \hat x|} + b \overline{(x - \hat x)^2} + c\, LPIPS(x, \hat x)
        + \overline{\|sg(z) - e\|^2} + \beta\, \overline{\|z - sg(e)\|^2} + d\, (1 - \cos(W e, f(x)))

    with a frozen backbone f, such as DINO, where one is given: codes then tell what is there rather than textures. The
    paper's GAN term is left out.

    *Transformer*: the mean cross entropy of the codes of images, of the tokenizer as it is, which gets no gradient.
    Texts and actions are read and not foretold. Of each piece both may be hidden, its texts, or its actions, by the
    shares of the configuration, so that a dream can do without either, and texts can be guided towards.

    Sequences may be longer than the context, and cross from episode to episode: they are cut into pieces of the
    context's length, each of which counts up to its first end of an episode. The rest of that piece is left out.

    The stage follows from the step alone (:meth:`before_update`). Outside a training loop, say which with
    :attr:`stage`, and where codes are revived call :meth:`after_update` too.

    Keys read (rename with ``set_keys``): the observation's, ``action``, ``is_init``; under ``next`` the observation's,
    ``reward`` (which is not looked at), ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and
    ``priority_weight``.

    Keys written: in the tokenizer's stage ``loss_absolute``, ``loss_squared``, ``loss_worst``, ``loss_commitment``,
    with a perceptual distance ``loss_perceptual``, with a backbone ``loss_distillation``, and ``perplexity`` detached;
    in the other ``loss_tokens``, and ``accuracy`` detached.

    Args:
        world_model: a :class:`~wmcomponents.models.GAIA1`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: learning rates; the paper's if not given.
        perceptual: distance of images, such as :class:`~wmcomponents.nn.LPIPS`; left out if not given.
        backbone: what the codes are to tell too; left out if not given.
        seed: of the choice of frames, and of what is hidden.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[frames, 1]`` in the tokenizer's
            stage, ``[P, M * K]`` in the other). Diagnostics are means.

    Raises:
        TypeError: if the model is not made of these parts, or the backbone is no :class:`FrozenEncoder`.
        ValueError: for an unknown reduction, stages or shares that cannot be, or a backbone of a model whose codes tell
            no features; on call, if the sequences have no batch ``[B, T]``, or features or texts are of another size.
        KeyError: on call, if a key is missing.

    Reference: Hu et al., GAIA-1: A Generative World Model for Autonomous Driving (2023), section 2.2, 2.3, 4.
    """

    transformer = TextImageActionTransformer
    config_class = GAIA1LossConfig
    decay = 0.1
    max_norms = {"tokenizer": 1.0, "transformer": 1.0}
    betas = {"tokenizer": (0.5, 0.9), "transformer": (0.9, 0.95)}
    perceptual_scale: Tensor
    distillation_scale: Tensor

    def __init__(
        self,
        world_model: TextImageActionModel,
        config: GAIA1LossConfig | None = None,
        *,
        optimizer: TokenOptimizerConfig | None = None,
        perceptual: Perceptual | nn.Module | None = None,
        backbone: FrozenEncoder | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if backbone is not None and not isinstance(backbone, FrozenEncoder):
            raise TypeError(f"the backbone is a FrozenEncoder; got a {type(backbone).__name__}: wrap it in one.")
        self._has_backbone = backbone is not None
        super().__init__(
            world_model, config, optimizer=optimizer, perceptual=perceptual, seed=seed, reduction=reduction
        )
        if backbone is not None:
            if not world_model.tokenizer.distilled:
                raise ValueError(
                    "codes tell a backbone's features if they know their size: build the model with distilled=."
                )
            backbone.requires_grad_(False)
        self.backbone = backbone

    def further(self, config: GAIA1LossConfig) -> dict[str, float]:
        """Factors of perceptual distance and distillation; shares of what is hidden are looked at."""
        shares = config.unconditioned, config.action_only, config.text_only
        if min(shares) < 0 or sum(shares) > 1 + 1e-6:
            raise ValueError(
                f"unconditioned, action_only and text_only are shares, which are at least 0 and at most 1 together; "
                f"got {shares}."
            )
        self.shares = shares
        return {"perceptual_scale": config.perceptual, "distillation_scale": config.distillation}

    def _written(self) -> list[NestedKey]:
        if self._stage == "tokenizer":
            extra: list[NestedKey] = ["loss_distillation"] if self._has_backbone else []
            return [*self._of_tokenizer()[:-1], *extra, "perplexity"]
        return ["loss_tokens", "accuracy"]

    # -- the losses ----------------------------------------------------------------------------------------------------

    def tokenizer_terms(self, pixels: Tensor, weight: Tensor) -> Terms:
        """Losses and diagnostics of the tokenizer, each ``[N, 1]``.

        Args:
            pixels: uint8 ``[N, H, W, C]``, or such images as float in [0, 255].
            weight: ``[N]``; 0 for padding.
        """
        tokenizer, x = self.world_model.tokenizer, network_image(pixels)
        tokens, codes, commitment = tokenizer.tokenize(x)
        image = tokenizer.decode(codes)
        losses = {**self.image_errors(x, image), "commitment": commitment}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual_scale * self.perceptual(x, image)
        if self.backbone is not None:
            told = tokenizer.distillation(codes, self.backbone.compute(pixels))
            losses["distillation"] = self.distillation_scale * told
        return self.tokenizer_scores(losses, tokens, weight)

    def transformer_elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the transformer's stage, of sequences ``[B, T]``."""
        return self.transformer_terms(self.hidden(self.segments(tensordict)))

    def transformer_terms(self, segments: Film) -> Terms:
        """Losses and diagnostics of the transformer, each ``[P, M * K]``.

        Args:
            segments: pieces of sequences.
        """
        s = segments
        predicted = self.world_model.dynamics.compute(s.tokens, s.action, s.text).flatten(1, 2)
        target = s.tokens.flatten(1)
        hits = (predicted.argmax(-1) == target).to(predicted.dtype)
        weight = s.weight.repeat_interleave(s.tokens.shape[-1], 1)
        return Terms({"tokens": cross_entropy(predicted, target)}, {"accuracy": hits}, weight)

    def hidden(self, segments: Film) -> Film:
        """Pieces without what an example is to do without, each by its own lot.

        Args:
            segments: pieces of sequences.
        """
        s, (neither, action, text) = segments, self.shares
        lot = torch.rand(len(s.tokens), 1, 1, generator=self.generator, device=s.tokens.device)
        is_text_hidden = lot < neither + action
        is_action_hidden = (lot < neither) | (~is_text_hidden & (lot < neither + action + text))
        said = None if s.text is None else s.text.masked_fill(is_text_hidden.unsqueeze(-1), 0.0)
        nothing = 0.0 if self.world_model.dynamics.action.are_choices else float("nan")
        return s._replace(action=s.action.masked_fill(is_action_hidden, nothing), text=said)

    def segments(self, tensordict: TensorDictBase) -> Film:
        """The pieces of a batch of sequences ``[B, T]``, in codes of the tokenizer as it is."""
        model, keys = self.world_model, self.tensor_keys
        steps = self.transitions(tensordict, self.observation_keys)
        length = min(model.dynamics.max_frames, tensordict.batch_size[1])
        return Film(
            pieces(model.tokenizer.tokens(tensordict.get(model.image_key)), length),
            pieces(model.action_vector(tensordict.get(keys.action)), length),
            None if model.text_key is None else pieces(tensordict.get(model.text_key).float(), length),
            kept_weight(steps, length),
        )
