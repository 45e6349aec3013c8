"""How much each level of noise counts in training, by its signal to noise ratio."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wmcomponents.functional.diffusion.targets import PredictionTarget


class SignalToNoise(NamedTuple):
    """Signal to noise ratios for a weight.

    Attributes:
        clipped: what the squared error of the data counts.
        full: the ratio, by which the error of a target is told from that of the data.
    """

    clipped: Tensor
    full: Tensor


def clipped_snr(snr: Float[Tensor, "*batch"], clip: float = 5.0) -> SignalToNoise:
    """Ratios cut off above, so that hardly noisy levels do not rule (min-SNR).

    Args:
        snr: of each level.
        clip: the most that counts; ``math.inf`` for the ratio itself.

    Reference: Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy (2023).
    """
    return SignalToNoise(snr.clamp(max=clip), snr)


def fused_snr(snr: Float[Tensor, "*batch time"], clip: float = 5.0, decay: float = 0.96) -> SignalToNoise:
    r"""Ratios of frames that stand in the light of the frames before them, each with a level of its own.

    .. math::
        c_t &= \min(S_t, S^*) / S^*, \qquad a_t = \gamma a_{t-1} + (1 - \gamma) c_t, \qquad a_0 = c_0 \\
        \tilde C_t &= S^* (1 - (1 - \gamma a_{t-1}) (1 - c_t)), \qquad
        \tilde S_t = S^* (1 - (1 - \gamma a_{t-1}) (1 - S_t / S^*))

    with nothing in place of :math:`a_{-1}`.

    Args:
        snr: of each frame, oldest first.
        clip: S^*.
        decay: gamma, of the past.

    Raises:
        ValueError: unless ``decay`` is in [0, 1] and ``clip`` is positive and finite.

    Reference: Chen et al., Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion (2024), appendix.
    """
    if not (0.0 <= decay <= 1.0 and 0.0 < clip < float("inf")):
        raise ValueError(f"decay is in [0, 1] and clip positive and finite; got decay={decay}, clip={clip}.")
    full = snr / clip
    clipped = full.clamp(max=1.0)
    past, before = clipped[..., 0], [torch.zeros_like(clipped[..., 0])]
    for current in clipped.unbind(-1)[1:]:
        before.append(past)
        past = decay * past + (1.0 - decay) * current
    unseen = 1.0 - decay * torch.stack(before, -1)
    return SignalToNoise(clip * (1.0 - unseen * (1.0 - clipped)), clip * (1.0 - unseen * (1.0 - full)))


def snr_weight(target: PredictionTarget, snr: SignalToNoise) -> Tensor:
    """Weight of a target's squared error, so that the data's counts as much as the clipped ratio.

    Args:
        target: what the network predicts.
        snr: from :func:`clipped_snr` or :func:`fused_snr`.
    """
    return snr.clipped / target.error_ratio(snr.full)
