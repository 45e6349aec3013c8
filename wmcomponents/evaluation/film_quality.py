"""What a world of a film's tokens shows, and whether its actions do what they were inferred from."""

from typing import NamedTuple, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.codecs.image_spec import image_of
from wmcomponents.dream.starts import model_device
from wmcomponents.evaluation.metrics.image_quality import psnr
from wmcomponents.evaluation.open_loop import open_loop
from wmcomponents.models import FilmTokenWorld
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import WorldModel


class DeltaPSNR(NamedTuple):
    """How much nearer to what came dreams are under the actions that were taken than under random ones.

    Attributes:
        taken: PSNR of each dream under the actions taken, in dB, ``[n]``.
        random: under random ones, ``[n]``.
    """

    taken: Tensor
    random: Tensor

    @property
    def delta(self) -> float:
        """Mean of the differences: above 0 where actions do something, and the right thing."""
        return float((self.taken - self.random).mean())


def delta_psnr(
    model: WorldModel, sequences: TensorDictBase, *, at: int = 4, burn_in: int = 1, seed: int = 0
) -> DeltaPSNR:
    r"""Genie's measure of control: PSNR under the actions taken less that under uniformly random ones, t steps on.

    .. math:: \Delta_t PSNR = PSNR(x_t, \hat x_t) - PSNR(x_t, \hat x'_t)

    Both dreams begin in the same real frames, and draw from the same noise. Where a model infers actions, those taken
    are what it tells of the real film (:meth:`WorldModel.relabelled`). Dreams whose real episode ends before are left
    out.

    Args:
        model: decodes one image.
        sequences: real ones ``[B, T]``, T at least ``burn_in - 1 + at``.
        at: t, steps after the last real frame that is seen.
        burn_in: real frames that are seen.
        seed: of the noise and of the random actions.

    Raises:
        CapabilityError: if the model decodes nothing.
        ValueError: if its observation is not one image, the sequences are too short, or all episodes end before.

    Reference: Bruce et al., Genie (2024), section 3.
    """
    model.require("decode", driver="delta PSNR", remedy="choose a model that decodes images.")
    key, _ = image_of(model.observation_spec, "delta_psnr")
    real = model.relabelled(sequences.to(model_device(model)))
    other = real.clone(False)
    other["action"] = _random_actions(model, real["action"], seed)
    first, second = (_psnr_at(model, one, key, at, burn_in, seed) for one in (real, other))
    if not len(first):
        raise ValueError(f"all real episodes end within {at} steps: give longer ones, or a smaller at=.")
    return DeltaPSNR(first, second)


@torch.no_grad()
def tokenizer_psnr(model: FilmTokenWorld, sequences: TensorDictBase) -> Tensor:
    """PSNR of what a tokenizer makes of real films, frame by frame, in dB, ``[B, W]`` of the first W frames.

    Args:
        model: a world of a film's tokens.
        sequences: real ones ``[B, T]`` of one episode each; not more than the window's frames are looked at.
    """
    pixels = sequences[model.image_key][:, : model.window].to(model_device(model))
    with EvalMode(model):
        shown = model.tokenizer.pixels(model.tokenizer.tokens(pixels))
    return psnr(_planar(shown), _planar(pixels)).view(pixels.shape[:2])


def _psnr_at(model: WorldModel, sequences: TensorDictBase, key: str, at: int, burn_in: int, seed: int) -> Tensor:
    generator = torch.Generator(model_device(model)).manual_seed(seed)
    *_, last = open_loop(model, sequences, burn_in=burn_in, horizon=at, generator=generator)
    assert last.observation is not None
    return psnr(_planar(last.observation[key]), _planar(cast(Tensor, last.transition["next", key])))[last.alive]


def _random_actions(model: WorldModel, like: Tensor, seed: int) -> Tensor:
    """Uniform actions in the shape of those taken; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.action_spec.cpu().clone().rand(like.shape[:2]).to(like)


def _planar(pixels: Tensor) -> Tensor:
    return pixels.reshape(-1, *pixels.shape[-3:]).movedim(-1, 1).float() / 255.0
