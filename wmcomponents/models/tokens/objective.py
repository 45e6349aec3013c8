"""What losses of a tokenizer and a transformer over its tokens share: stages, optimisers, pieces of sequences."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from wmcomponents._global_batch import global_sum
from wmcomponents.component import Component
from wmcomponents.models.tokens.base import CachedTransformerModel
from wmcomponents.models.tokens.config import TokenLossConfig, TokenOptimizerConfig
from wmcomponents.nn import code_counts, perplexity
from wmcomponents.objectives.arrivals import Transitions
from wmcomponents.objectives.model_loss import Terms, check_model
from wmcomponents.objectives.staged import StagedModelLoss
from wmcomponents.optim import ClippedAdamW, decayed_names

MAX_NORM, DECAY = 10.0, 0.01
PARTS = {"tokenizer": "tokenizer", "dynamics": "transformer"}
"""Name of the stage that trains a part of the model, by the part's."""

W = TypeVar("W", bound=CachedTransformerModel)


class TokenWorldLoss(StagedModelLoss[W]):
    """Base of losses in two stages: the tokenizer for the first steps, then the transformer.

    A family says over which kind of transformer, in ``transformer``; and numbers of its optimiser where they are not
    IRIS's: the transformer's weight ``decay``, and by stage ``max_norms`` of gradients and ``betas``.

    Args:
        world_model: a model of a tokenizer and such a transformer.
        config: when which part is trained, and factors on the errors of an image.
        optimizer: learning rate of each part.
        tokenizer_decay: weight decay of the tokenizer's linear maps.
        coefficients: further numbers of the objective.
        **options: of :class:`~wmcomponents.objectives.ModelLoss`.

    Raises:
        TypeError: for a model of another kind.
        ValueError: for stages that cannot be.
    """

    transformer: ClassVar[type[Component]]
    decay: ClassVar[float] = DECAY
    max_norms: ClassVar[Mapping[str, float]] = {"tokenizer": MAX_NORM, "transformer": MAX_NORM}
    betas: ClassVar[Mapping[str, tuple[float, float]]] = {"tokenizer": (0.9, 0.999), "transformer": (0.9, 0.999)}
    stages = ("tokenizer", "transformer")
    absolute: Tensor
    squared: Tensor
    worst: Tensor

    def __init__(
        self,
        world_model: W,
        config: TokenLossConfig,
        optimizer: TokenOptimizerConfig,
        *,
        tokenizer_decay: float = 0.0,
        coefficients: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        check_model(world_model, CachedTransformerModel, type(self))
        if not isinstance(world_model.dynamics, self.transformer):
            raise TypeError(
                f"{type(self).__name__} trains a model over a {self.transformer.__name__}; that of "
                f"{type(world_model).__name__} is a {type(world_model.dynamics).__name__}: use the loss that its own "
                f"objective() makes."
            )
        c = config
        if min(c.tokenizer_steps, c.tokenizer_every, c.tokenizer_frames) < 0 or c.tokenizer_every == 1:
            raise ValueError(
                f"counts are at least 0, and tokenizer_every leaves the transformer its turns: 0 or at least 2; got "
                f"tokenizer_steps={c.tokenizer_steps}, tokenizer_every={c.tokenizer_every}, "
                f"tokenizer_frames={c.tokenizer_frames}."
            )
        self.tokenizer_steps, self.tokenizer_every = c.tokenizer_steps, c.tokenizer_every
        self.tokenizer_frames = c.tokenizer_frames
        self.rates = {"tokenizer": optimizer.tokenizer_rate, "dynamics": optimizer.transformer_rate}
        self.decays = {"tokenizer": tokenizer_decay, "dynamics": self.decay}
        self._seen: list[tuple[Tensor, ...]] = []
        self._is_updating = False
        factors = {"absolute": c.absolute, "squared": c.squared, "worst": c.worst}
        super().__init__(world_model, coefficients={**factors, **(coefficients or {})}, **options)

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        beyond = step - self.tokenizer_steps
        again = self.tokenizer_every and beyond % self.tokenizer_every == self.tokenizer_every - 1
        return "tokenizer" if beyond < 0 or again else "transformer"

    def before_update(self, step: int) -> None:
        """Enter the stage of this step."""
        super().before_update(step)
        self._seen, self._is_updating = [], True

    def saw(self, *seen: Tensor) -> None:
        """Keep what a batch of the tokenizer showed, tensors ``[N, ...]``, for :meth:`after_update`: of all batches."""
        self._seen = [*self._seen, seen] if self._is_updating else [seen]

    def seen(self) -> tuple[Tensor, ...] | None:
        """What the update showed, its batches behind one another; ``None`` if nothing. It is forgotten then."""
        batches, self._seen, self._is_updating = self._seen, [], False
        return tuple(torch.cat(parts) for parts in zip(*batches, strict=True)) if batches else None

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """The tokenizer's updates before those of the transformer."""
        return (self.tokenizer_steps,)

    @stage_steps.setter
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        (self.tokenizer_steps,) = steps

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW; only weights of linear maps decay; each part's norm is clipped.

        Args:
            lr: of both parts; the objective's own rates if not given.
            warmup: steps over which the rates grow from 0; none if not given, as in the papers.
        """
        named = [(name, p) for name, p in self.world_model_params.flatten_keys(".").items() if p.requires_grad]
        parts: dict[str, nn.Module] = {"tokenizer": self.world_model.tokenizer, "dynamics": self.world_model.dynamics}
        groups = []
        for part, stage in PARTS.items():
            decay = self.decays[part]
            linear = decayed_names(parts[part], (nn.Linear,)) if decay > 0 else set()
            own = [(name.removeprefix(f"{part}."), p) for name, p in named if name.startswith(f"{part}.")]
            rest = {"lr": self.rates[part] if lr is None else lr, "clip": stage, "betas": self.betas[stage]}
            rest["max_norm"] = self.max_norms[stage]
            groups.append({"params": [p for name, p in own if name not in linear], "weight_decay": 0.0, **rest})
            if decay > 0:
                shrunk = [p for name, p in own if name in linear]
                groups.append({"params": shrunk, "weight_decay": decay, **rest})
        return ClippedAdamW(groups, warmup=warmup or 0)

    def image_errors(
        self, shown: Float[Tensor, "n c h w"], made: Float[Tensor, "n c h w"]
    ) -> dict[str, Float[Tensor, " n"]]:
        """What images cost: their mean absolute and squared errors, and the worst squared one, with their factors.

        Args:
            shown: real images, ``[N, C, H, W]``.
            made: what the decoder makes of them, ``[N, C, H, W]``.

        Returns:
            Costs ``[N]`` by name.
        """
        error = shown - made
        return {
            "absolute": self.absolute * error.abs().mean((1, 2, 3)),
            "squared": self.squared * error.square().mean((1, 2, 3)),
            "worst": self.worst * error.square().amax((1, 2, 3)),
        }

    def tokenizer_scores(
        self, losses: Mapping[str, Float[Tensor, " n"]], tokens: Int[Tensor, "n k"], weight: Float[Tensor, " n"]
    ) -> Terms:
        """Terms of an update of the tokenizer, each ``[N, 1]``, with the perplexity of the codes that it used.

        Args:
            losses: costs ``[N]`` by name.
            tokens: the codes used, int64 ``[N, K]``.
            weight: of the elements, ``[N]``.
        """
        codes = self.world_model.tokenizer.quantizer.codes
        used = perplexity(global_sum(code_counts(tokens, codes, weight.unsqueeze(-1).expand_as(tokens))))
        columns = {name: value.unsqueeze(-1) for name, value in losses.items()}
        return Terms(columns, {"perplexity": used.expand(len(weight), 1)}, weight.unsqueeze(-1))

    def drawn(self, weight: Tensor) -> Tensor:
        """Which elements an update of the tokenizer takes: those that count come first, in random order.

        Args:
            weight: of the elements, ``[N]``.

        Returns:
            Their numbers, int64 ``[min(N, tokenizer_frames)]``.
        """
        if not 0 < self.tokenizer_frames < weight.shape[0]:
            return torch.arange(weight.shape[0], device=weight.device)
        lot = torch.rand(weight.shape, generator=self.generator, device=weight.device)
        return (lot + (weight == 0)).argsort()[: self.tokenizer_frames]


def pieces(value: Tensor, length: int) -> Tensor:
    """Sequences cut into pieces, the last of each filled up with zeros.

    Args:
        value: ``[B, T, ...]``.
        length: of a piece.

    Returns:
        ``[P, length, ...]``, the pieces of a sequence behind one another.
    """
    missing = -value.shape[1] % length
    value = F.pad(value, (0, 0) * (value.ndim - 2) + (0, missing))
    return value.unflatten(1, (-1, length)).flatten(0, 1)


def kept_weight(steps: Transitions, length: int) -> Tensor:
    """Weights of pieces ``[P, length]``: 0 behind a piece's first end, padding, or start of another episode.

    Args:
        steps: sequences ``[B, T]``.
        length: of a piece.
    """
    return pieces(steps.weight, length) * (episodes_of(steps, length) == 0)


def episodes_of(steps: Transitions, length: int) -> Tensor:
    """Number of the episode of each step in its piece, int64 ``[P, length]``: from 0, one more behind each end.

    Args:
        steps: sequences ``[B, T]``.
        length: of a piece.
    """
    real = pieces(steps.real, length)
    cut = pieces(steps.ends.long(), length)[:, :-1] | pieces(steps.begins.long(), length)[:, 1:]
    return F.pad((cut | ~real[:, :-1]).long().cumsum(1), (1, 0))
