"""The losses of worlds of a film's tokens: the tokenizer's first, then those of the dynamics."""

from abc import abstractmethod
from typing import NamedTuple, Protocol, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from wmcomponents._global_batch import global_rows, global_sum
from wmcomponents.codecs import ActionVector
from wmcomponents.dynamics import MaskGITDynamics
from wmcomponents.functional import cross_entropy, random_token_mask
from wmcomponents.heads import FilmOutcomeHead
from wmcomponents.models.tokens.film_config import FilmLossConfig, FilmOptimizerConfig
from wmcomponents.nn import LearnedCosineQuantizer, Quantizer, code_counts, farthest_first, perplexity
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.films import Films, films_from
from wmcomponents.objectives.model_loss import M, Terms, TrainableModel, check_model
from wmcomponents.objectives.staged import StagedModelLoss
from wmcomponents.objectives.weights import placed
from wmcomponents.optim import ClippedAdamW, decayed_names
from wmcomponents.tokenizers import VideoTokenizer
from wmcomponents.tokenizers.video import film_patches

BETAS = (0.9, 0.9)
"""Averaging rates of the paper's optimiser."""

REVIVAL_EVERY = 10
"""Updates from one revival of unused codes to the next."""


class FilmModel(TrainableModel, Protocol):
    """What the losses read of a world of a film's tokens.

    Attributes:
        tokenizer: frames to tokens and back.
        dynamics: of the tokens.
        outcomes: of reward and end, or None.
        action_vector: actions as vectors.
        window: frames of a film, at most.
        image_key: of the observation.
    """

    tokenizer: VideoTokenizer
    dynamics: MaskGITDynamics
    outcomes: FilmOutcomeHead | None
    action_vector: ActionVector
    window: int
    image_key: str

    def action_code(self, vector: Tensor) -> Tensor:
        """What the dynamics read of an action's vector."""
        ...


class Led(NamedTuple):
    """What the dynamics are told of actions, and what telling it costs.

    Attributes:
        codes: of what led to each frame but the first, ``[P, T - 1, E]``, without gradient.
        losses: ``[P, T - 1]`` by name.
        info: diagnostics ``[P, T - 1]`` by name.
    """

    codes: Tensor
    losses: dict[str, Tensor]
    info: dict[str, Tensor]


def frame_errors(shown: Tensor, patches: Tensor, worst: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
    """Errors of frames ``[P, T]`` by name: mean squared, and the worst squared one times a factor.

    Args:
        shown: what the model makes of the frames' patches, ``[P, T, N, D]``.
        patches: of the frames.
        worst: the factor.
        weights: of each squared error; 1 if not given.
    """
    error = (shown - patches).square()
    error = (error if weights is None else error * weights).flatten(2)
    return {"squared": error.mean(-1), "worst": worst * error.amax(-1)}


class FilmTokenLoss(StagedModelLoss[M]):
    r"""Base of the losses of worlds of a film's tokens, in two stages.

    *Tokenizer*: :math:`L = \overline{(x - \hat x)^2} + w \max (x - \hat x)^2 + L_{VQ}`.

    *Dynamics*: the mean cross entropy of the tokens that were masked, a share of each film that is uniform between
    ``mask_limit`` and 1, and none of its first frame's; where it is weighted, the expected distance in the tokenizer's
    codebook (:math:`1 - \cos`) between what is foretold and what comes; what a family's actions cost; and where the
    model has a part for them, cross entropies of reward and end of all frames but the first, which reach it alone.

    Args:
        world_model: the model.
        config: numbers of the losses.
        optimizer: numbers of the optimiser.
        seed: of this module's noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if codes are to be revived that no codebook of directions holds.
        ValueError: for stages that cannot be, a share that is none, or factors below 0.

    Reference: Bruce et al., Genie (2024), section 2; Savov et al. (2025), for the distance term.
    """

    stages = ("tokenizer", "dynamics")
    worst: Tensor
    distance_weight: Tensor
    action_worst: Tensor
    action_codebook: Tensor
    action_moving: Tensor

    def __init__(
        self,
        world_model: M,
        config: FilmLossConfig,
        optimizer: FilmOptimizerConfig,
        *,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        counts = {name: getattr(config, name) for name in ("tokenizer_steps", "revival", "withheld", "rolled")}
        if min(counts.values()) < 0 or not 0 <= config.mask_limit < 1:
            told = ", ".join(f"{name}={count}" for name, count in counts.items())
            raise ValueError(
                f"counts are at least 0 and mask_limit is in [0, 1); got {told}, mask_limit={config.mask_limit}."
            )
        self.tokenizer_steps, self.revival, self.mask_limit = config.tokenizer_steps, config.revival, config.mask_limit
        self.withheld, self._withholds = config.withheld, False
        self.rolled, self.pairs = config.rolled, config.pairs
        self.numbers = optimizer
        self._seen: dict[str, list[Tensor]] = {}
        self._measures_distance = config.distance_weight > 0
        coefficients = {
            name: getattr(config, name)
            for name in ("worst", "action_worst", "action_moving", "distance_weight", "action_codebook")
        }
        if min(coefficients.values()) < 0:
            told = ", ".join(f"{name}={value}" for name, value in coefficients.items())
            raise ValueError(f"factors of losses are at least 0; got {told}.")
        super().__init__(world_model, coefficients=coefficients, seed=seed, reduction=reduction)
        for quantizer in self._quantizers().values():
            if self.revival and not isinstance(quantizer, LearnedCosineQuantizer):
                raise TypeError(
                    f"codes are revived in the codebook of a LearnedCosineQuantizer; a {type(quantizer).__name__} has "
                    f"none: set revival=0."
                )

    # -- stages and optimiser ------------------------------------------------------------------------------------------

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        return "tokenizer" if step < self.tokenizer_steps else "dynamics"

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """The tokenizer's updates before those of the dynamics."""
        return (self.tokenizer_steps,)

    @stage_steps.setter
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        (self.tokenizer_steps,) = steps

    def before_update(self, step: int) -> None:
        """Enter the stage of this step."""
        super().before_update(step)
        self._seen, self._withholds = {}, 0 <= step - self.tokenizer_steps < self.withheld

    def after_update(self, step: int) -> None:
        """Give codes that nothing used to what is far from all that were."""
        begun = step if step < self.tokenizer_steps else step - self.tokenizer_steps - self.withheld
        seen, self._seen = self._seen, {}
        if not 0 <= begun < self.revival or begun % REVIVAL_EVERY:
            return
        with torch.no_grad(), placed(self.world_model_params, cast(nn.Module, self.world_model)):
            for name, batches in seen.items():
                quantizer, z = cast(LearnedCosineQuantizer, self._quantizers()[name]), global_rows(torch.cat(batches))
                used = code_counts(quantizer.tokens(z), quantizer.codes) > 0
                if len(z):
                    taken = F.normalize(quantizer.codebook[used], dim=-1)
                    quantizer.codebook[~used] = farthest_first(z.to(taken.dtype), int((~used).sum()), taken)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW; only weights of linear maps decay; each part's norm is clipped.

        Args:
            lr: of all parts; the objective's own rates if not given.
            warmup: updates over which the rates grow from 0; the objective's own if not given.
        """
        n, groups = self.numbers, []
        named = [(name, p) for name, p in self.world_model_params.flatten_keys(".").items() if p.requires_grad]
        for part in self._parts():
            rate = n.tokenizer_rate if part == "tokenizer" else n.dynamics_rate
            rest = {"lr": rate if lr is None else lr, "clip": part}
            linear = decayed_names(getattr(self.world_model, part), (nn.Linear,))
            own = [(name.removeprefix(f"{part}."), p) for name, p in named if name.startswith(f"{part}.")]
            groups.append({"params": [p for name, p in own if name not in linear], "weight_decay": 0.0, **rest})
            decayed = [p for name, p in own if name in linear]
            groups.append({"params": decayed, "weight_decay": n.weight_decay, **rest})
        begins = n.warmup if warmup is None else warmup
        return ClippedAdamW(groups, betas=BETAS, max_norm=n.max_norm, warmup=begins)

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage, of sequences ``[B, T]``."""
        films = self.films(tensordict)
        return self.tokenizer_terms(films) if self._stage == "tokenizer" else self.dynamics_terms(films)

    def films(self, tensordict: TensorDictBase) -> Films:
        """Sequences ``[B, T]`` as films of the window's length side by side; what is left over is not used."""
        return films_from(self.arrivals(tensordict), self.observation_keys[0], self._film_model.window)

    def tokenizer_terms(self, films: Films) -> Terms:
        """Losses and diagnostics of the tokenizer, each ``[P, T]``."""
        tokenizer = self._film_model.tokenizer
        patches = film_patches(films.pixels, tokenizer.patch)
        z = tokenizer.encoder(patches)
        codes, tokens, loss = tokenizer.quantizer(z)
        self._saw("tokenizer", z, films.weight)
        errors = frame_errors(tokenizer.decode(codes), patches, self.worst)
        psnr = -10.0 * errors["squared"].detach().clamp_min(1e-10).log10()
        each = films.weight.unsqueeze(-1).expand_as(tokens)
        used = perplexity(global_sum(code_counts(tokens, tokenizer.quantizer.codes, each)))
        info = {"psnr": psnr, "perplexity": used.expand_as(psnr)}
        return Terms({**errors, "codebook": loss.mean(-1)}, info, films.weight)

    def dynamics_terms(self, films: Films) -> Terms:
        """Losses and diagnostics of dynamics and actions: of tokens ``[P, (T - 1) N]``, of actions ``[P, T - 1]``."""
        model, weight = self._film_model, films.weight[:, 1:]
        led = self.led(films)
        tokens = model.tokenizer.tokens(films.pixels)
        rate = torch.rand(len(tokens), generator=self.generator, device=tokens.device)
        noise = torch.rand(tokens.shape, generator=self.generator, device=tokens.device)
        masked = random_token_mask(self.mask_limit + (1.0 - self.mask_limit) * rate, noise)
        action = F.pad(led.codes.detach(), (0, 0, 1, 0))
        logits = model.dynamics.compute(tokens, masked, action)[:, 1:].flatten(1, 2)
        target = tokens[:, 1:].flatten(1)
        losses, info = {"tokens": cross_entropy(logits, target)}, {}
        if self._measures_distance:
            losses["distance"] = self.distance_weight * self._distances(logits, target)
        info["accuracy"] = (logits.argmax(-1) == target).to(logits.dtype)
        each = (weight.unsqueeze(-1) * masked[:, 1:]).flatten(1)
        further = {**led.losses, **self._outcome_losses(films, tokens, action)}
        weights = dict.fromkeys((*losses, *info), each) | dict.fromkeys((*further, *led.info), weight)
        return Terms({**losses, **further}, {**info, **led.info}, weights)

    def _outcome_losses(self, films: Films, tokens: Tensor, action: Tensor) -> dict[str, Tensor]:
        """Cross entropies of reward and end of each frame but the first, ``[P, T - 1]``, where they are foretold."""
        model = self._film_model
        if model.outcomes is None:
            return {}
        rewards, ends = model.outcomes.compute(model.tokenizer.quantizer.lookup(tokens).detach(), action)
        return {
            "reward": model.outcomes.rewards.loss(rewards[:, 1:], films.reward[:, 1:]),
            "termination": cross_entropy(ends[:, 1:], films.terminated[:, 1:].long()),
        }

    @abstractmethod
    def led(self, films: Films) -> Led:
        """What the dynamics are told of the actions of films."""

    def _written(self) -> list[NestedKey]:
        if self._stage == "tokenizer":
            return ["loss_squared", "loss_worst", "loss_codebook", "psnr", "perplexity"]
        distance: list[NestedKey] = ["loss_distance"] if self._measures_distance else []
        outcomes: list[NestedKey] = ["loss_reward", "loss_termination"] if self._film_model.outcomes is not None else []
        return ["loss_tokens", *distance, *self._written_of_actions(), *outcomes, "accuracy"]

    def _written_of_actions(self) -> list[NestedKey]:
        return []

    def _parts(self) -> tuple[str, ...]:
        return ("tokenizer", "dynamics", *(("outcomes",) if self._film_model.outcomes is not None else ()))

    def _quantizers(self) -> dict[str, Quantizer]:
        return {"tokenizer": self._film_model.tokenizer.quantizer}

    @property
    def _film_model(self) -> FilmModel:
        return cast(FilmModel, self.world_model)

    def _saw(self, name: str, z: Tensor, weight: Tensor) -> None:
        """Keep vectors that were quantised, for :meth:`after_update`."""
        if self.revival and torch.is_grad_enabled():
            self._seen.setdefault(name, []).append(F.normalize(z.detach()[weight > 0], dim=-1).flatten(0, -2))

    def _distances(self, logits: Tensor, target: Tensor) -> Tensor:
        """Expected distance from what comes, ``[P, L]``."""
        quantizer = self._film_model.tokenizer.quantizer
        numbers = torch.arange(quantizer.codes, device=logits.device)
        codes = F.normalize(quantizer.lookup(numbers).detach(), dim=-1)
        apart = 1.0 - codes @ codes.T
        return (apart[target] * logits.softmax(-1)).sum(-1)


class GuidedFilmLoss(FilmTokenLoss[FilmModel]):
    """Objective of a world of a film's tokens that is given the environment's actions, such as GenieRedux-G.

    As :class:`~wmcomponents.models.FilmLoss`, but for the action model: the actions of the sequences lead to the
    frames.

    Keys written: in the tokenizer's stage as there; in the other ``loss_tokens``, ``loss_distance`` where it is
    weighted, ``loss_reward`` and ``loss_termination`` where they are foretold, and ``accuracy`` detached.

    Args:
        world_model: a :class:`~wmcomponents.models.GenieReduxG`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: numbers of the optimiser; the paper's if not given.
        seed: of what is masked.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction, or numbers that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Kazemi et al., GenieRedux (2024); Savov et al. (2025).
    """

    def __init__(
        self,
        world_model: FilmModel,
        config: FilmLossConfig | None = None,
        *,
        optimizer: FilmOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, FilmModel, type(self))
        config, optimizer = loss_part(FilmLossConfig, config), optimizer_part(FilmOptimizerConfig, optimizer)
        super().__init__(world_model, config, optimizer, seed=seed, reduction=reduction)

    def led(self, films: Films) -> Led:
        """The actions of the films."""
        vector = self.world_model.action_vector(films.action[:, 1:])
        return Led(self.world_model.action_code(vector), {}, {})
