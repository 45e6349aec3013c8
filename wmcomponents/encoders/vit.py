"""A vision transformer as an encoder of images or clips."""

from collections.abc import Callable, Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.nn import NormalizePixels, VisionTransformer


def patch_tokens(tokens: Tensor, prefix: int) -> Tensor:
    """The patches of ``[B, prefix + N, D]``, ``[B, N, D]``."""
    return tokens[:, prefix:]


def class_token(tokens: Tensor, prefix: int) -> Tensor:
    """The class token of ``[B, prefix + N, D]``, ``[B, D]``.

    Raises:
        ValueError: if no token stands before the patches.
    """
    if not prefix:
        raise ValueError("this network has no class token: read patch_tokens or mean_of_patches.")
    return tokens[:, 0]


def mean_of_patches(tokens: Tensor, prefix: int) -> Tensor:
    """The mean of the patches of ``[B, prefix + N, D]``, ``[B, D]``."""
    return tokens[:, prefix:].mean(1)


class ViTEncoder(Component):
    """A vision transformer that reads images, or clips, as environments show them.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C], or [*B, T, H, W, C] for tubelets | uint8 | read |
        | "embed" | [*B, N, D], or [*B, D] | float | written |

    Args:
        network: makes tokens; :func:`wmcomponents.nn.timm_vit` and its kin build those of the papers.
        read: which of the tokens are written: :func:`patch_tokens`, :func:`class_token` or :func:`mean_of_patches`.
        pixels: how pixels are normalised and resized; by ImageNet's colours if not given.
        in_keys: the images.
        out_keys: the features.

    Raises:
        ValueError: on call, if the channels are not last, patches do not fill the images, or frames the tubelets.

    Reference: Dosovitskiy et al., ViT (2021).

    Example:
        >>> import torch
        >>> from wmcomponents.nn import ViTSize, vjepa2_vit
        >>> net = vjepa2_vit(ViTSize(16, 1, 2, 32), patch=(2, 8, 8))
        >>> ViTEncoder(net)(pixels=torch.zeros(5, 4, 16, 16, 3, dtype=torch.uint8)).shape
        torch.Size([5, 8, 16])
    """

    def __init__(
        self,
        network: VisionTransformer,
        *,
        read: Callable[[Tensor, int], Tensor] = patch_tokens,
        pixels: NormalizePixels | None = None,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.network, self.read = network, read
        self.pixels = NormalizePixels() if pixels is None else pixels
        self.out_features = network.dim

    def compute(self, pixels: Tensor) -> Tensor:
        """``[*B, H, W, C]`` or ``[*B, T, H, W, C]``, from 0 to 255, to ``[*B, N, D]`` or ``[*B, D]``."""
        axes = 1 + len(self.network.patches.patch)
        if pixels.ndim < axes:
            raise ValueError(f"expected {axes} dimensions at least, channels last; got {[*pixels.shape]}.")
        lead = pixels.shape[: pixels.ndim - axes]
        x = self.pixels(pixels)
        x = x.reshape(-1, *x.shape[len(lead) :])
        features = self.read(self.network(x.transpose(1, 2) if axes == 4 else x), self.network.prefix)
        return features.view(*lead, *features.shape[1:])
