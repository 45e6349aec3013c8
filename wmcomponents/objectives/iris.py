"""The losses of IRIS (Micheli et al., 2023): the tokenizer's, and the transformer's on its tokens."""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from wmcomponents.dynamics import TokenTransformer
from wmcomponents.nn import code_counts, perplexity
from wmcomponents.objectives.arrivals import check_sequences
from wmcomponents.objectives.model_loss import StagedModelLoss, Terms
from wmcomponents.optim import ClippedAdamW, decayed_names
from wmcomponents.tokenizers.image import network_image
from wmcomponents.world_model import WorldModel

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance ``[N]`` of pictures in [-1, 1] ``[N, C, H, W]``."""

MAX_NORM, DECAY = 10.0, 0.01


class Segments(NamedTuple):
    """Pieces of sequences that fit into the transformer's context.

    Attributes:
        tokens: int64 ``[P, M, K]``.
        action: int64 ``[P, M]``.
        reward: class of r_{t+1}, its sign + 1, int64 ``[P, M]``.
        terminated: of t + 1, int64 ``[P, M]``.
        weight: ``[P, M]``; 0 for padding and behind the end of an episode.
    """

    tokens: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor


class IRISLoss(StagedModelLoss):
    r"""Objective of IRIS on TorchRL-layout sequences, in two stages.

    *Tokenizer*: every frame by itself, in [-1, 1].

    .. math::
        L = a \overline{|x - \hat x|} + b \overline{(x - \hat x)^2}
        + LPIPS(x, \hat x) + \overline{(sg(z) - e)^2} + \beta\, \overline{(z - sg(e))^2}

    *Transformer*: three mean cross entropies on the tokens of the tokenizer as it is, which gets no gradient: of all
    tokens but the first frame's first one, of the sign of r_{t+1}, of terminated_{t+1}.

    The stage follows from the step alone (:meth:`before_update`): the tokenizer for the first ``tokenizer_steps``; then
    the transformer, with the tokenizer again at every ``tokenizer_every``-th update. Outside a training loop, say which
    with :attr:`stage`.

    Sequences may be longer than the context, and cross from episode to episode: they are cut into pieces of the
    context's length, each of which counts up to its first end of an episode. The rest of that piece is left out.

    Keys read (rename with ``set_keys``): the picture, ``action``, ``is_init``; under ``next`` the picture, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the tokenizer's stage ``loss_reconstruction``, ``loss_commitment``, where they count
    ``loss_squared`` and ``loss_perceptual``, and ``perplexity`` detached, of the batch's codes; in the other
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
        perceptual: distance of pictures, such as :class:`~wmcomponents.nn.LPIPS`; left out if not given.
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

    absolute: Tensor
    squared: Tensor

    stages = ("tokenizer", "transformer")

    def __init__(
        self,
        world_model: WorldModel,
        *,
        tokenizer_steps: int,
        tokenizer_every: int = 0,
        tokenizer_frames: int = 256,
        tokenizer_rate: float = 1e-4,
        transformer_rate: float = 1e-4,
        absolute: float = 1.0,
        squared: float = 0.0,
        perceptual: Perceptual | nn.Module | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if not isinstance(getattr(world_model, "dynamics", None), TokenTransformer):
            raise TypeError(
                f"this loss trains a tokenizer and a token transformer (models.IRIS); {type(world_model).__name__} has "
                f"none: use its own objective()."
            )
        if min(tokenizer_steps, tokenizer_every, tokenizer_frames) < 0 or tokenizer_every == 1:
            raise ValueError(
                f"counts are at least 0, and tokenizer_every leaves the transformer its turns: 0 or at least 2; got "
                f"tokenizer_steps={tokenizer_steps}, tokenizer_every={tokenizer_every}, "
                f"tokenizer_frames={tokenizer_frames}."
            )
        self.tokenizer_steps, self.tokenizer_every = tokenizer_steps, tokenizer_every
        self.tokenizer_frames = tokenizer_frames
        self.rates = {"tokenizer": tokenizer_rate, "dynamics": transformer_rate}
        self._has_perceptual = perceptual is not None
        self._has_squared = squared > 0
        super().__init__(
            world_model, coefficients={"absolute": absolute, "squared": squared}, seed=seed, reduction=reduction
        )
        if isinstance(perceptual, nn.Module):
            perceptual.requires_grad_(False)
        self.perceptual = perceptual

    # -- stages --------------------------------------------------------------------------------------------------------

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        beyond = step - self.tokenizer_steps
        again = self.tokenizer_every and beyond % self.tokenizer_every == self.tokenizer_every - 1
        return "tokenizer" if beyond < 0 or again else "transformer"

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam for the tokenizer; AdamW for the transformer, whose linear maps alone decay by 0.01; norms up to 10.

        Args:
            lr: of both parts; the objective's own rates if not given.
            warmup: steps over which the rates grow from 0; none if not given, as in the paper.
        """
        decays = {f"dynamics.{name}" for name in decayed_names(self.world_model.dynamics)}
        groups: dict[str, list[Tensor]] = {"tokenizer": [], "dynamics": [], "decaying": []}
        for name, parameter in self.world_model_params.flatten_keys(".").items():
            if parameter.requires_grad:
                groups["decaying" if name in decays else name.partition(".")[0]].append(parameter)
        rates = {name: rate if lr is None else lr for name, rate in self.rates.items()}
        tokenizer = {"lr": rates["tokenizer"], "clip": "tokenizer", "weight_decay": 0.0}
        transformer = {"lr": rates["dynamics"], "clip": "transformer", "weight_decay": 0.0}
        return ClippedAdamW(
            [
                {"params": groups["tokenizer"], **tokenizer},
                {"params": groups["dynamics"], **transformer},
                {"params": groups["decaying"], **transformer, "weight_decay": DECAY},
            ],
            max_norm=MAX_NORM,
            warmup=warmup or 0,
        )

    def _written(self) -> list[NestedKey]:
        if self._stage == "tokenizer":
            extra: list[NestedKey] = ["loss_squared"] if self._has_squared else []
            extra += ["loss_perceptual"] if self._has_perceptual else []
            return ["loss_reconstruction", "loss_commitment", *extra, "perplexity"]
        return ["loss_tokens", "loss_reward", "loss_termination", "accuracy"]

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage."""
        if self._stage == "tokenizer":
            pixels, weight = self._frames(tensordict)
            return Terms(*self.tokenizer_terms(pixels), weight.unsqueeze(-1))
        segments = self.segments(tensordict)
        weight = segments.weight
        words = weight.repeat_interleave(segments.tokens.shape[-1], 1)[:, 1:]
        weights = {"tokens": words, "accuracy": words, "reward": weight, "termination": weight}
        return Terms(*self.transformer_terms(segments), weights)

    def tokenizer_terms(self, pixels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and diagnostics of the tokenizer, each ``[N, 1]``.

        Args:
            pixels: uint8 ``[N, H, W, C]``, or such pictures as float in [0, 255].
        """
        tokenizer = self.world_model.tokenizer
        x = network_image(pixels)
        tokens, codes, commitment = tokenizer.tokenize(x)
        image = tokenizer.decode(codes)
        error = x - image
        losses = {"reconstruction": self.absolute * error.abs().mean((1, 2, 3)), "commitment": commitment}
        if self._has_squared:
            losses["squared"] = self.squared * error.square().mean((1, 2, 3))
        if self.perceptual is not None:
            losses["perceptual"] = cast(Perceptual, self.perceptual)(x, image)
        used = perplexity(code_counts(tokens, tokenizer.quantizer.codes)).expand(x.shape[0])
        return {name: value.unsqueeze(-1) for name, value in losses.items()}, {"perplexity": used.unsqueeze(-1)}

    def transformer_terms(self, segments: Segments) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and diagnostics of the transformer, each ``[P, M]``; of the tokens ``[P, M * K - 1]``.

        Nothing came before a piece's first token, so that one is not foretold.
        """
        logits, rewards, ends = self.world_model.dynamics.compute(segments.tokens, segments.action)
        # What is said behind a piece's last action is of a frame that is not there.
        said, meant = logits.flatten(1, 2)[:, :-1], segments.tokens.flatten(1)[:, 1:]
        losses = {
            "tokens": _cross_entropy(said, meant),
            "reward": _cross_entropy(rewards, segments.reward),
            "termination": _cross_entropy(ends, segments.terminated),
        }
        return losses, {"accuracy": (said.argmax(-1) == meant).to(said.dtype)}

    def segments(self, tensordict: TensorDictBase) -> Segments:
        """The pieces of a batch of sequences ``[B, T]``, in tokens of the tokenizer as it is."""
        keys, model = self.tensor_keys, self.world_model
        picture = self.observation_keys[0]
        below = [("next", key) if isinstance(key, str) else ("next", *key) for key in (keys.reward, keys.terminated)]
        over = ("next", keys.done) if isinstance(keys.done, str) else ("next", *keys.done)
        check_sequences(tensordict, [picture, keys.action, keys.is_init, *below, over])
        shape = tensordict.batch_size
        reward, terminated, done, first = (tensordict.get(key).reshape(shape) for key in (*below, over, keys.is_init))
        weight = torch.ones(shape, device=reward.device)
        priority, valid = tensordict.get(keys.priority_weight, None), tensordict.get(keys.mask, None)
        weight = weight if priority is None else weight * priority.reshape(shape)
        weight = weight if valid is None else weight * valid.reshape(shape)
        length = min(model.dynamics.max_frames, shape[1])
        pieces = Segments(
            _pieces(model.tokenizer.tokens(tensordict.get(picture)), length),
            _pieces(model.action_token(tensordict.get(keys.action)), length),
            _pieces(reward.nan_to_num().sign().long() + 1, length),
            _pieces(terminated.long(), length),
            _pieces(weight, length),
        )
        # An end cuts what follows off; so does padding or another episode's start inside a piece.
        cut = _pieces((done | terminated).long(), length)[:, :-1] | _pieces(first.long(), length)[:, 1:]
        cut = cut | (pieces.weight[:, :-1] == 0)
        kept = F.pad(cut.cumsum(1) == 0, (1, 0), value=True)
        return pieces._replace(weight=pieces.weight * kept)

    def _frames(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor]:
        """Frames of the tokenizer's update ``[N, H, W, C]``, and their weights ``[N]``."""
        arrivals = self.arrivals(tensordict)
        pixels, weight = arrivals.observation[self.observation_keys[0]].flatten(0, 1), arrivals.weight.flatten()
        if not 0 < self.tokenizer_frames < weight.shape[0]:
            return pixels, weight
        # Frames that count come first, in random order.
        lot = torch.rand(weight.shape, generator=self.generator, device=weight.device)
        chosen = (lot + (weight == 0)).argsort()[: self.tokenizer_frames]
        return pixels[chosen], weight[chosen]


def _pieces(value: Tensor, length: int) -> Tensor:
    """Sequences ``[B, T, ...]`` cut into pieces ``[P, length, ...]``, the last of each filled up with zeros."""
    missing = -value.shape[1] % length
    value = F.pad(value, (0, 0) * (value.ndim - 2) + (0, missing))
    return value.unflatten(1, (-1, length)).flatten(0, 1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Element by element, ``[*B]``."""
    return F.cross_entropy(logits.movedim(-1, 1), target, reduction="none")
