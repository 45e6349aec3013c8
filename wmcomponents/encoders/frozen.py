"""Somebody else's trained backbone as an encoder that learns nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from tensordict import NestedKey
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from wmcomponents.component import Component
from wmcomponents.nn import EvalMode, NormalizePixels


def called(backbone: nn.Module, images: Tensor) -> Tensor:
    """Patches of a module that gives them when it is called: tokens ``[B, N, D]`` or a map ``[B, D, h, w]``."""
    return backbone(images)


def dinov2_patches(backbone: nn.Module, images: Tensor) -> Tensor:
    """Patches ``[B, N, D]`` of a DINOv2 as ``torch.hub`` gives it."""
    features = cast(Any, backbone).forward_features(images)
    return _entry(features, "x_norm_patchtokens")


def timm_patches(backbone: nn.Module, images: Tensor) -> Tensor:
    """Patches ``[B, N, D]`` of a vision transformer of timm, without the tokens that stand before them."""
    model = cast(Any, backbone)
    return model.forward_features(images)[:, model.num_prefix_tokens :]


def vit_patches(backbone: nn.Module, images: Tensor) -> Tensor:
    """Patches ``[B, N, D]`` of a :class:`wmcomponents.nn.VisionTransformer`, without the tokens before them."""
    model = cast(Any, backbone)
    return model(images)[:, model.prefix :]


def transformers_patches(prefix: int) -> Callable[[nn.Module, Tensor], Tensor]:
    """Patches ``[B, N, D]`` of a vision model of transformers: its last hidden state.

    Args:
        prefix: tokens that stand before the patches: 1 for a class token, 0 for V-JEPA 2.
    """

    def patches(backbone: nn.Module, images: Tensor) -> Tensor:
        return backbone(images).last_hidden_state[:, prefix:]

    return patches


def still_clip(frames: int = 2) -> Callable[[nn.Module, Tensor], Tensor]:
    """Patches ``[B, N, D]`` of each image by itself out of a backbone of clips: the image is shown so many times over.

    Args:
        frames: of a tubelet.

    Reference: Assran et al., V-JEPA 2 (2025), section 3: V-JEPA 2-AC.
    """

    def patches(backbone: nn.Module, images: Tensor) -> Tensor:
        return backbone(images.unsqueeze(2).expand(-1, -1, frames, -1, -1))

    return patches


class FrozenEncoder(Component):
    """Any module that gives features of patches, with its preprocessing, as an encoder whose weights stay.

    The backbone is run in evaluation mode and without gradients, whatever mode its owner left it in, and is left in
    that mode. It is a part of this module: it moves to its device, and is saved with it.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "pixels" | [*B, H, W, C] | uint8 | read |
        | "embed" | [*B, N, D] | float | written |

    Args:
        backbone: the module, such as one of timm, transformers or ``torch.hub``.
        patches: asks it for patches: :func:`called`, :func:`dinov2_patches`, :func:`timm_patches`,
            :func:`transformers_patches`, :func:`vit_patches`, :func:`still_clip`, or a function of yours (module,
            images ``[B, C, H, W]``) to ``[B, N, D]`` or ``[B, D, h, w]``.
        pixels: how pixels are normalised and resized; by ImageNet's colours if not given.
        layer_norm: whether features pass a layer norm without weights, as V-JEPA 2-AC's do.
        in_keys: the images.
        out_keys: the features.

    Raises:
        ValueError: on call, if the channels are not last.
        TypeError: on call, if the backbone does not give features of patches.

    Reference: Zhou et al., DINO-WM (2025); Assran et al., V-JEPA 2 (2025).

    Example:
        >>> backbone = nn.Conv2d(3, 8, 4, 4)
        >>> FrozenEncoder(backbone)(pixels=torch.zeros(5, 16, 16, 3, dtype=torch.uint8)).shape
        torch.Size([5, 16, 8])
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        patches: Callable[[nn.Module, Tensor], Tensor] = called,
        pixels: NormalizePixels | None = None,
        layer_norm: bool = False,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("embed",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.backbone, self.patches, self.layer_norm = backbone, patches, layer_norm
        self.pixels = NormalizePixels() if pixels is None else pixels
        self._evaluating = EvalMode(backbone)

    def compute(self, pixels: Tensor) -> Tensor:
        """``[*B, H, W, C]``, from 0 to 255, to ``[*B, N, D]``."""
        x = self.pixels(pixels)
        lead = x.shape[:-3]
        with torch.no_grad(), self._evaluating:
            features = self.patches(self.backbone, x.reshape(-1, *x.shape[-3:]))
        name = type(self.backbone).__name__
        if not isinstance(features, Tensor) or features.ndim not in (3, 4) or not features.is_floating_point():
            got = f"a tensor {[*features.shape]}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise TypeError(
                f"{name} gives {got}, and no features of patches [B, N, D] or [B, D, h, w]: give patches=, a function "
                f"that asks it for them, such as timm_patches or dinov2_patches."
            )
        tokens = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features
        if self.layer_norm:
            tokens = layer_norm(tokens, tokens.shape[-1:])
        return tokens.reshape(*lead, *tokens.shape[1:])


def _entry(features: Any, key: str) -> Tensor:
    if not isinstance(features, Mapping) or key not in features:
        raise TypeError(f"expected an entry {key!r} of what the backbone gives; got a {type(features).__name__}.")
    return features[key]
