"""How unlike two images look: distance between the features of a network that was trained on photographs."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents._extras import MissingExtraError

VGG16_CHANNELS = (64, 128, 256, 512, 512)
"""Of relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""

NETS = ("vgg", "alex", "squeeze")


class LPIPS(nn.Module):
    r"""Learned perceptual distance of images in [-1, 1].

    .. math:: \sum_l \frac{1}{H_l W_l} \sum_{h, w} w_l \cdot (\hat f_l(x) - \hat f_l(y))^2

    Features :math:`\hat f` have unit length over channels at every pixel. Nothing here is trained. Weights are not part
    of this library: :meth:`trained` takes them from the packages ``lpips`` or ``torchmetrics``, and without those the
    feature network is the user's.

    Args:
        backbone: from images ``[N, 3, H, W]``, shifted and scaled, to a sequence of features ``[N, C_l, H_l, W_l]``,
            such as those of VGG16 before each pooling.
        channels: :math:`C_l`.

    Reference: Zhang et al., The Unreasonable Effectiveness of Deep Features (2018), eq. 1; shift and scale of its code.

    The reference code drops half of the features in training mode, which IRIS's tokenizer therefore trains with. Here
    the distance is the same in both modes.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        backbone: Callable[[Tensor], Sequence[Tensor]] | nn.Module,
        channels: Sequence[int] = VGG16_CHANNELS,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.weights = nn.ParameterList(nn.Parameter(torch.full((size,), 1.0 / size)) for size in channels)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.requires_grad_(False)

    @classmethod
    def trained(cls, net: str = "vgg") -> "LPIPS":
        """The published distance, with networks and weights of the package ``lpips``, or else of ``torchmetrics``.

        Either needs torchvision, which fetches the network's weights when they are used for the first time.

        Args:
            net: ``"vgg"``, which IRIS and Delta-IRIS train with; ``"alex"`` or ``"squeeze"``.

        Raises:
            ValueError: for another network.
            MissingExtraError: if neither package is installed, or torchvision is not.
        """
        if net not in NETS:
            raise ValueError(f"the networks of LPIPS are {', '.join(NETS)}; got {net!r}.")
        theirs = _published(net)
        made = cls(theirs.net, theirs.chns)
        with torch.no_grad():
            for weight, linear in zip(cast("Sequence[Tensor]", made.weights), theirs.lins, strict=True):
                weight.copy_(linear.model[-1].weight.flatten())
        return made.requires_grad_(False)

    def forward(self, x: Float[Tensor, "n 3 h w"], y: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Distance of each pair.

        Args:
            x: images in [-1, 1].
            y: those that they are compared with, in [-1, 1].
        """
        return self.distance(self.backbone(self.scaled(x)), self.backbone(self.scaled(y)))

    def scaled(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Images as the feature network was trained on them."""
        return (x - self.shift) / self.scale

    def distance(self, f: Sequence[Tensor], g: Sequence[Tensor]) -> Float[Tensor, " n"]:
        """Distance of features, level by level ``[N, C_l, H_l, W_l]``."""
        levels = zip(f, g, cast("Sequence[Tensor]", self.weights), strict=True)
        return torch.stack([self.level_distance(a, b, w) for a, b, w in levels]).sum(0)

    @staticmethod
    def level_distance(
        f: Float[Tensor, "n c h w"], g: Float[Tensor, "n c h w"], weight: Float[Tensor, " c"]
    ) -> Float[Tensor, " n"]:
        """One term of the sum."""
        apart = (_unit(f) - _unit(g)).square()
        return (apart * weight.view(-1, 1, 1)).sum(1).mean((-2, -1))


def _unit(f: Tensor) -> Tensor:
    return f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _published(net: str) -> Any:
    """A package's own distance: its feature network ``net``, the sizes ``chns`` and the linear maps ``lins``."""
    try:
        return importlib.import_module("lpips").LPIPS(net=net, verbose=False)
    except ModuleNotFoundError:
        pass
    try:
        return importlib.import_module("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity(net).net
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "This needs the weights of LPIPS, which come with the package 'lpips' or 'torchmetrics', and torchvision; "
            "run: pip install lpips torchvision. A feature network of your own goes in as LPIPS(backbone)."
        ) from error
