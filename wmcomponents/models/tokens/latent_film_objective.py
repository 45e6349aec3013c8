"""The losses of worlds of a film's tokens whose actions are inferred from the films themselves."""

from typing import Protocol

import torch
from tensordict import NestedKey
from torch import Tensor

from wmcomponents._global_batch import global_sum
from wmcomponents.functional import rolled_images
from wmcomponents.models.tokens.film_config import FilmLossConfig, FilmOptimizerConfig
from wmcomponents.models.tokens.film_objective import FilmModel, FilmTokenLoss, Led, frame_errors
from wmcomponents.nn import Quantizer, code_counts, perplexity
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.films import Films
from wmcomponents.objectives.model_loss import check_model
from wmcomponents.tokenizers import LatentActionModel
from wmcomponents.tokenizers.video import film_patches

MOVED = 0.05
"""Difference from the frame before, of a range of 1, from which a number counts as changed."""


class LatentFilmModel(FilmModel, Protocol):
    """What the losses train where actions are inferred from films, such as a :class:`~wmcomponents.models.Genie`.

    Attributes:
        action_model: tells what led from frame to frame.
    """

    action_model: LatentActionModel


class FilmLoss(FilmTokenLoss[LatentFilmModel]):
    r"""Objective of a Genie on TorchRL-layout sequences, whose actions are not looked at.

    *Tokenizer*, for the first ``tokenizer_steps`` updates: see :class:`FilmTokenLoss`. *Dynamics*, from then on: the
    action model learns to foretell the next frame from the frames so far and its codes,

    .. math:: L_a = \overline{m (x_{t+1} - \hat x_{t+1})^2} + w_a \max m (x_{t+1} - \hat x_{t+1})^2 + c\, L_{VQ}

    with the weights m = 1 + ``action_moving`` where a number changed, 1 elsewhere,

    and beside it the dynamics learn from these codes, which get no gradient of theirs. What the config has beyond the
    paper keeps codes for what was done: see ``action_moving``, ``withheld``, ``rolled``, ``pairs`` and
    ``action_codebook``.

    Sequences may be longer than the window and cross from episode to episode: they are cut into films of the window's
    length, each of which counts up to its first end of an episode.

    Keys read (rename with ``set_keys``): the image, ``action`` (not used), ``is_init``; under ``next`` the image,
    ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the tokenizer's stage ``loss_squared``, ``loss_worst``, ``loss_codebook``, and detached ``psnr``
    and ``perplexity``; in the other ``loss_tokens``, ``loss_action_squared``, ``loss_action_worst``,
    ``loss_action_codebook``, and detached ``accuracy`` and ``action_perplexity``; ``loss_reward`` and
    ``loss_termination`` where the model foretells them.

    Args:
        world_model: a :class:`~wmcomponents.models.Genie`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: numbers of the optimiser; the paper's if not given.
        seed: of what is masked.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"``.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction, or numbers that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Bruce et al., Genie: Generative Interactive Environments (2024), section 2.
    """

    def __init__(
        self,
        world_model: LatentFilmModel,
        config: FilmLossConfig | None = None,
        *,
        optimizer: FilmOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, LatentFilmModel, type(self))
        config, optimizer = loss_part(FilmLossConfig, config), optimizer_part(FilmOptimizerConfig, optimizer)
        super().__init__(world_model, config, optimizer, seed=seed, reduction=reduction)

    def led(self, films: Films) -> Led:
        """Codes that the action model tells, and its losses."""
        part, weight = self.world_model.action_model, films.weight[:, 1:]
        patches = film_patches(films.pixels, part.patch)
        z = self._encoded(films.pixels)
        codes, tokens, loss = part.quantizer(z)
        self._saw("action_model", z, weight)
        if self._withholds:
            codes, loss = 0.0 * codes, 0.0 * loss
        before, after = patches[:, :-1], patches[:, 1:]
        weights = 1.0 + self.action_moving * ((after - before).abs() > MOVED).to(after.dtype)
        errors = frame_errors(part.predict(before, codes), after, self.action_worst, weights)
        used = perplexity(global_sum(code_counts(tokens, part.quantizer.codes, weight)))
        losses = {
            **{f"action_{name}": value for name, value in errors.items()},
            "action_codebook": self.action_codebook * loss,
        }
        return Led(codes, losses, {"action_perplexity": used.expand_as(loss)})

    def _encoded(self, pixels: Tensor) -> Tensor:
        """What the action model's encoder makes of films ``[P, T, H, W, C]``, or of their pairs: ``[P, T - 1, E]``."""
        part, (rows, frames) = self.world_model.action_model, pixels.shape[:2]
        if self.pairs:
            pixels = torch.stack([pixels[:, :-1], pixels[:, 1:]], 2).flatten(0, 1)
        if self.rolled:
            size, most = (len(pixels), 1, 2), self.rolled
            shift = torch.randint(-most, most + 1, size, generator=self.generator, device=pixels.device)
            pixels = rolled_images(pixels, shift.expand(*pixels.shape[:2], 2))
        return part.encode(film_patches(pixels, part.patch)).reshape(rows, frames - 1, -1)

    def _written_of_actions(self) -> list[NestedKey]:
        return ["loss_action_squared", "loss_action_worst", "loss_action_codebook", "action_perplexity"]

    def _parts(self) -> tuple[str, ...]:
        tokenizer, *rest = super()._parts()
        return (tokenizer, "action_model", *rest)

    def _quantizers(self) -> dict[str, Quantizer]:
        return {**super()._quantizers(), "action_model": self.world_model.action_model.quantizer}
