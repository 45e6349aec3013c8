"""How alike dreamt pictures are to real ones, by horizon, and as a whole to a network of the user's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wmcomponents.codecs.observation import ImageCodec
from wmcomponents.evaluation.metrics import FrechetFeatures, lpips, psnr, ssim
from wmcomponents.evaluation.metrics.frechet import Backbone
from wmcomponents.evaluation.metrics.perceptual import FeatureMaps
from wmcomponents.evaluation.open_loop import OpenLoopStep

CLIP = 16
"""Frames of a clip, as most papers' FVD takes."""


@dataclass(frozen=True)
class Backbones:
    """Networks of the user's, by what they are asked; what is missing is not measured.

    Attributes:
        lpips: images ``[N, C, H, W]`` in [-1, 1] to feature maps.
        lpips_weights: of the depths, ``[F]`` each; ones if not given.
        fid: images ``[N, C, H, W]`` in [0, 1] to features ``[N, F]``: Inception-v3 for what papers call FID.
        fvd: clips ``[N, C, T, H, W]`` in [0, 1] to features ``[N, F]``: I3D for what papers call FVD.
        names: of the networks, for the page.
    """

    lpips: FeatureMaps | None = None
    lpips_weights: Sequence[Tensor] | None = None
    fid: Backbone | None = None
    fvd: Backbone | None = None
    names: str = "networks of the user's"


class PictureTally:
    """PSNR, SSIM and LPIPS of one image by horizon, beside those of the last image seen; FID and FVD of all of it.

    Args:
        key: of the observation.
        codec: reads its values.
        last: the last image that the filter saw, ``[B, ...]``.
        samples: dreams of each sequence.
        backbones: networks, where there are any.
    """

    def __init__(self, key: str, codec: ImageCodec, last: Tensor, samples: int, backbones: Backbones) -> None:
        self.key, self._codec, self._samples, self._backbones = key, codec, samples, backbones
        self._last = self._image(last)
        self._rows: dict[str, list[Tensor]] = {}
        self._fid = None if backbones.fid is None else FrechetFeatures(backbones.fid)
        self._clips: list[tuple[Tensor, Tensor]] = []
        self._through: Tensor | None = None

    def add(self, step: OpenLoopStep) -> None:
        """One imagined step."""
        assert step.observation is not None
        alive = step.alive.cpu()
        truth = self._image(step.transition["next", self.key])
        shown = self._image(step.observation[self.key])
        for name, measure in self._measures().items():
            ours = measure(shown, truth.repeat_interleave(self._samples, 0)).reshape(-1, self._samples).mean(1)
            both = torch.stack([ours, measure(self._last, truth)]).double()
            self._rows.setdefault(name, []).append(torch.where(alive, both, float("nan")))
        first = shown.unflatten(0, (-1, self._samples))[:, 0]
        if self._fid is not None and bool(alive.any()):
            self._fid.add(truth[alive], first[alive])
        if self._backbones.fvd is not None and step.k <= CLIP:
            self._clips.append((truth, first))
            self._through = alive

    def rows(self) -> dict[str, Tensor]:
        """By metric: of the model and of copying, ``[2, B, K]``; NaN once an episode has ended."""
        return {name: torch.stack(values, -1) for name, values in self._rows.items()}

    def distances(self) -> dict[str, Any]:
        """FID and FVD, each with what it is of; those without a network are left out."""
        found: dict[str, Any] = {}
        if self._fid is not None and self._fid.samples > 1:
            found["FID"] = {"distance": self._fid.distance(), "images": self._fid.samples}
        through = self._through
        if self._backbones.fvd is not None and through is not None and int(through.sum()) > 1:
            features = FrechetFeatures(self._backbones.fvd)
            features.add(*(torch.stack([pair[i][through] for pair in self._clips], 2) for i in (0, 1)))
            found["FVD"] = {"distance": features.distance(), "clips": features.samples, "frames": len(self._clips)}
        return found

    def _measures(self) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "PSNR": psnr,
            "SSIM": ssim,  # whatever is an image here has room for a window
        }
        network, weights = self._backbones.lpips, self._backbones.lpips_weights
        if network is not None:
            measures["LPIPS"] = lambda shown, truth: lpips(network, shown, truth, weights).cpu()
        return measures

    def _image(self, raw: Tensor) -> Tensor:
        return self._codec.encode(raw).movedim(-1, -3).cpu()
