"""The autoencoders of ``diffusers``, with the shift and scale that belong to each."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents._extras import require
from wmcomponents.tokenizers.latent import LatentTokenizer


class DiffusersAutoencoder(nn.Module):
    """An autoencoder of images of ``diffusers`` as :class:`wmcomponents.tokenizers.LatentTokenizer` takes one.

    Args:
        net: an ``AutoencoderKL``, ``AutoencoderTiny``, ``AutoencoderDC``, or another object whose ``encode`` gives a
            ``latent_dist`` with mean and log variance, or ``latents``, or a ``latent``, and whose ``decode`` gives a
            ``sample``. It is used as it is: neither copied nor frozen.

    Raises:
        TypeError: if it has no ``encode`` and ``decode``, or is no module. On call, if it gives nothing of the kind.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not isinstance(net, nn.Module) or not all(
            callable(getattr(net, name, None)) for name in ("encode", "decode")
        ):
            raise TypeError(f"an autoencoder of diffusers has encode and decode; got a {type(net).__name__}.")
        self.net = cast(Any, net)

    def encode(self, image: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent of images in [-1, 1]; one that is certain has the least log variance.

        Args:
            image: channels first.

        Raises:
            TypeError: if the autoencoder gives nothing that is known here.
        """
        found = self.net.encode(image)
        spread = getattr(found, "latent_dist", None)
        if spread is not None:
            return spread.mean, spread.logvar
        latent = getattr(found, "latents", None)
        latent = getattr(found, "latent", None) if latent is None else latent
        if latent is None:
            raise TypeError(
                f"{type(self.net).__name__}.encode gives a latent_dist, latents or a latent in diffusers; got a "
                f"{type(found).__name__}."
            )
        return latent, torch.full_like(latent, -30.0)

    def decode(self, latent: Float[Tensor, "n l h w"]) -> Float[Tensor, "n c h w"]:
        """Images about in [-1, 1] of latents.

        Args:
            latent: channels first.
        """
        return self.net.decode(latent).sample


def latent_scale(config: Any) -> tuple[list[float], list[float]]:
    r"""Shift and scale of the latents of an autoencoder of ``diffusers``: :math:`latent = (z - shift) \cdot scale`.

    ``scaling_factor`` and ``shift_factor`` are one number for all channels; ``latents_mean`` and ``latents_std``, which
    later ones have, are one for each, and count besides.

    Args:
        config: of the autoencoder, with these as attributes or keys; what is absent or None does nothing.

    Returns:
        The shift, and the scale, of one or of all channels.

    Raises:
        ValueError: if a number is not finite, a factor or deviation is 0, or there are not as many means as deviations.

    >>> latent_scale({"scaling_factor": 0.18215})
    ([0.0], [0.18215])
    """
    shift = _numbers(config, "shift_factor", 0.0)[0]
    factor = _numbers(config, "scaling_factor", 1.0)[0]
    mean, deviation = _numbers(config, "latents_mean", 0.0), _numbers(config, "latents_std", 1.0)
    if len(mean) != len(deviation):
        if 1 not in (len(mean), len(deviation)):
            raise ValueError(f"each channel has a mean and a deviation; got {len(mean)} and {len(deviation)}.")
        channels = max(len(mean), len(deviation))
        mean, deviation = (one * (channels // len(one)) for one in (mean, deviation))
    if not factor or not all(deviation):
        raise ValueError(f"what divides or scales is not 0; got a factor of {factor} and deviations {deviation}.")
    return [shift + one for one in mean], [factor / one for one in deviation]


def diffusers_tokenizer(source: str | nn.Module, **details: Any) -> LatentTokenizer:
    """An autoencoder of ``diffusers`` with its own shift and scale.

    Args:
        source: a loaded autoencoder; or a folder, or a name on the Hub, which needs the extra ``video``.
        **details: for ``diffusers.AutoModel.from_pretrained``, such as ``subfolder="vae"``.

    Raises:
        MissingExtraError: if ``diffusers`` is needed and not installed.
        TypeError: if it is no autoencoder, or details are given for one that is loaded already.
        ValueError: see :func:`latent_scale`.
    """
    if isinstance(source, str):
        net = require("diffusers", extra="video").AutoModel.from_pretrained(source, **details)
    elif details:
        raise TypeError(f"an autoencoder that is loaded already takes no {', '.join(details)}.")
    else:
        net = source
    part = DiffusersAutoencoder(net)
    shift, scale = latent_scale(getattr(net, "config", {}))
    return LatentTokenizer(part, scale=scale, shift=shift)


def _numbers(config: Any, name: str, otherwise: float) -> list[float]:
    value = config.get(name) if hasattr(config, "get") else getattr(config, name, None)
    if value is None:
        return [otherwise]
    found = [float(one) for one in value] if isinstance(value, Sequence) else [float(value)]
    if not found or not all(map(math.isfinite, found)):
        raise ValueError(f"{name} of an autoencoder is a finite number, or some; got {value!r}.")
    return found
