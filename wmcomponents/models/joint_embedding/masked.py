"""What models share that learn by predicting hidden patches, and what their losses do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Composite

from wmcomponents.encoders import ViTEncoder
from wmcomponents.functional.patch_masks import Masks
from wmcomponents.nn import NormalizePixels, VisionTransformer
from wmcomponents.objectives import ModelLoss


class MaskedModel(nn.Module):
    """A vision transformer that sees some patches, beside the part that predicts the others.

    It has no time and no actions, and is no world model: its encoder can become a part of one.

    Args:
        encoder: sees the context.
        image_size: (height, width) of the images.
        channels: of the images.
        pixels: how pixels are normalised and resized; by ImageNet's colours if not given.
        image_key: key of the images.
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        image_size: Sequence[int],
        *,
        channels: int = 3,
        pixels: NormalizePixels | None = None,
        image_key: str = "pixels",
    ) -> None:
        super().__init__()
        self.encoder, self.image_key = encoder, image_key
        self.pixels = NormalizePixels() if pixels is None else pixels
        shape = torch.Size([*image_size, channels])
        self.observation_spec = Composite({image_key: Bounded(0, 255, shape=shape, dtype=torch.uint8)})

    def as_encoder(self, **options: Any) -> ViTEncoder:
        """The encoder as a part that reads pixels, with these weights and not a copy of them.

        Args:
            **options: of :class:`wmcomponents.encoders.ViTEncoder`.
        """
        return ViTEncoder(self.encoder, pixels=self.pixels, in_keys=[self.image_key], **options)


M = TypeVar("M", bound=MaskedModel)


class MaskedLoss(ModelLoss[M]):
    """Base of the losses of hidden patches: images or clips, and masks beside them, in; ``loss_*`` scalars out.

    Keys read: the images ``[B, T, H, W, C]``, and ``("masks", i, "context")`` ``[B, T, K]`` and
    ``("masks", i, "target")`` ``[B, T, M, L]`` for the i-th kind of masks, as
    :class:`wmcomponents.data.DrawMasks` puts them into what a replay buffer gives. The masks of clips are the same at
    every step.

    Args:
        world_model: the model to train.
        kinds: how many kinds of masks there are.
        **options: of :class:`ModelLoss`.
    """

    @dataclass
    class _AcceptedKeys(ModelLoss._AcceptedKeys):
        masks: NestedKey = "masks"

    tensor_keys: _AcceptedKeys
    default_keys = _AcceptedKeys

    def __init__(self, world_model: M, *, kinds: int = 1, **options: Any) -> None:
        self.kinds = kinds
        super().__init__(world_model, **options)
        # TorchRL would warn of a target network without an updater of its own; the training loop's hooks update it.
        self._has_update_associated = dict.fromkeys(self._has_update_associated, True)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Keys read."""
        return [*self.observation_keys, *(key for kind in range(self.kinds) for key in self._mask_keys(kind))]

    @in_keys.setter
    def in_keys(self, value: Any) -> None:
        raise AttributeError("in_keys follow from the model and set_keys().")

    def _mask_keys(self, kind: int) -> tuple[NestedKey, NestedKey]:
        root = self.tensor_keys.masks
        root = (root,) if isinstance(root, str) else tuple(root)
        return (*root, str(kind), "context"), (*root, str(kind), "target")

    def read(self, tensordict: TensorDictBase) -> tuple[Tensor, list[Masks]]:
        """The images ``[B, T, H, W, C]``, and the masks of each kind ``[B, T, ...]``.

        Raises:
            ValueError: if the batch is not ``[B, T]``.
            KeyError: if images or masks are missing.
        """
        if tensordict.ndim != 2:
            raise ValueError(f"images have the batch [B, T]; got {list(tensordict.batch_size)}: reshape it.")
        lacking = [key for key in self.in_keys if tensordict.get(key, None) is None]
        if lacking:
            raise KeyError(
                f"{type(self).__name__} reads {lacking}, which the data lack: append DrawMasks to the replay buffer "
                f"(replay.append_transform), or rename with set_keys()."
            )
        masks = [Masks(*(tensordict.get(key) for key in self._mask_keys(kind))) for kind in range(self.kinds)]
        return tensordict.get(self.observation_keys[0]), masks
