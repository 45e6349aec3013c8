"""What models share that learn by predicting hidden patches, and what their losses do."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec

from wmcomponents.codecs import ObservationGroups
from wmcomponents.encoders import FrozenEncoder, ViTEncoder, still_clip, vit_patches
from wmcomponents.functional.patch_masks import Masks, PatchMasks
from wmcomponents.nn import NormalizePixels, VisionTransformer
from wmcomponents.objectives import ProbedLoss
from wmcomponents.pretrained import PretrainedModule


class MaskedModel(PretrainedModule):
    """A vision transformer that sees some patches, beside the part that predicts the others.

    It has no time and no actions, and is no world model: its encoder can become a part of one (:meth:`as_encoder`,
    :meth:`as_frozen_encoder`).

    Args:
        encoder: sees the context.
        image_size: (height, width) of the images as the encoder sees them.
        channels: of the images.
        pixels: how pixels are normalised and resized; by ImageNet's colours if not given.
        image_key: key of the images.
        shown_size: (height, width) of the images that come, where the pixels are resized; ``image_size`` if not given.
        config: what the parts were built from, if they were; without one the model cannot be saved.
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        image_size: Sequence[int],
        *,
        channels: int = 3,
        pixels: NormalizePixels | None = None,
        image_key: str = "pixels",
        shown_size: Sequence[int] | None = None,
        config: Any = None,
    ) -> None:
        super().__init__()
        self.encoder, self.image_key = encoder, image_key
        self.pixels = NormalizePixels() if pixels is None else pixels
        shape = torch.Size([*(image_size if shown_size is None else shown_size), channels])
        self.observation_spec = Composite({image_key: Bounded(0, 255, shape=shape, dtype=torch.uint8)})
        self.config = config

    @property
    @abstractmethod
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis of what the model is trained on: (rows, columns), of clips (time, rows, columns)."""

    @abstractmethod
    def masks(self) -> list[PatchMasks]:
        """The kinds of masks that the objective reads, for :class:`wmcomponents.data.DrawMasks`."""

    @property
    def frames(self) -> int:
        """Steps of a sequence that the objective reads as one: the frames of a clip; of a model of images 1."""
        return self.grid[0] * self.encoder.patches.patch[0] if len(self.grid) == 3 else 1

    def as_encoder(self, **options: Any) -> ViTEncoder:
        """The encoder as a part that reads pixels, with these weights and not a copy of them.

        Args:
            **options: of :class:`wmcomponents.encoders.ViTEncoder`.
        """
        return ViTEncoder(self.encoder, pixels=self.pixels, in_keys=[self.image_key], **options)

    def as_frozen_encoder(self, **options: Any) -> FrozenEncoder:
        """The encoder as a part that learns nothing and gives features of each image's patches ``[*B, N, D]``.

        An encoder of clips is shown each image as a clip that stands still, one tubelet long. The weights are these and
        not a copy of them.

        Args:
            **options: of :class:`wmcomponents.encoders.FrozenEncoder`.
        """
        of_clips = len(self.encoder.patches.patch) == 3
        patches = still_clip(self.encoder.patches.patch[0]) if of_clips else vit_patches
        return FrozenEncoder(self.encoder, patches=patches, pixels=self.pixels, in_keys=[self.image_key], **options)


def shown_image(family: str, observation_spec: TensorSpec, image_size: int) -> dict[str, Any]:
    """What a masked model takes from the spec of an environment or of data: options of :class:`MaskedModel`.

    Args:
        family: what the model is called, for the errors.
        observation_spec: of one observation, in which there is one image; the rest is not read.
        image_size: side of the square to which images are resized; 0 leaves them as they are.

    Returns:
        ``image_size`` (height, width) as the encoder sees it, and further options by name.

    Raises:
        ValueError: if there is not one image.
    """
    shapes = {}
    if isinstance(observation_spec, Composite):
        groups = ObservationGroups.from_spec(observation_spec)
        shapes = {key: groups.spatial_shapes[key] for key in groups.image_keys}
    if not isinstance(observation_spec, Composite) or len(shapes) != 1:
        shown = list(observation_spec.keys()) if isinstance(observation_spec, Composite) else observation_spec
        raise ValueError(
            f"{family} sees one image of bytes [height, width, channels]; got the observation {shown}: give an "
            f"environment that shows one (make_env(..., from_pixels=True)), or a spec with one."
        )
    ((key, (height, width, channels)),) = shapes.items()
    if tuple(observation_spec[key].shape) != (height, width, channels):
        raise ValueError(
            f"{family} sees images [height, width, channels]; {key!r} is {list(observation_spec[key].shape)}: show the "
            f"channels last."
        )
    size = (image_size, image_size) if image_size else (height, width)
    colours = {} if channels == 3 else {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    return {
        "image_size": size,
        "channels": channels,
        "pixels": NormalizePixels(**colours, size=size if image_size else None),
        "image_key": key,
        "shown_size": (height, width),
    }


M = TypeVar("M", bound=MaskedModel)


class MaskedLoss(ProbedLoss[M]):
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
    class _AcceptedKeys(ProbedLoss._AcceptedKeys):
        masks: NestedKey = "masks"

    tensor_keys: _AcceptedKeys
    default_keys = _AcceptedKeys

    def __init__(self, world_model: M, *, kinds: int = 1, **options: Any) -> None:
        self.kinds, self._was_checked = kinds, False
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

    @property
    def _mask_root(self) -> tuple[str, ...]:
        root = self.tensor_keys.masks
        return (root,) if isinstance(root, str) else cast("tuple[str, ...]", tuple(root))

    def _mask_keys(self, kind: int) -> tuple[NestedKey, NestedKey]:
        return (*self._mask_root, str(kind), "context"), (*self._mask_root, str(kind), "target")

    def read(self, tensordict: TensorDictBase) -> tuple[Tensor, list[Masks]]:
        """The images ``[B, T, H, W, C]``, and the masks of each kind ``[B, T, ...]``.

        Raises:
            ValueError: if the batch is not ``[B, T]``, or images or masks are of another grid than the model's.
            KeyError: if images or masks are missing.
        """
        if tensordict.ndim != 2:
            raise ValueError(f"images have the batch [B, T]; got {list(tensordict.batch_size)}: reshape it.")
        lacking = [key for key in self.in_keys if tensordict.get(key, None) is None]
        if lacking:
            raise KeyError(
                f"{type(self).__name__} reads {lacking}, which the data lack: append DrawMasks to the replay buffer, "
                f"replay.append_transform(DrawMasks(model.masks())), or rename with set_keys()."
            )
        masks = [Masks(*(tensordict.get(key) for key in self._mask_keys(kind))) for kind in range(self.kinds)]
        # Numbers of patches are looked at where that costs nothing; on an accelerator, once.
        if not self._was_checked or masks[0].context.device.type == "cpu":
            for kind, mask in enumerate(masks):
                self._check_masks(mask, tensordict.get((*self._mask_root, str(kind), "grid"), None))
            self._was_checked = True
        return tensordict.get(self.observation_keys[0]), masks

    def _check_masks(self, masks: Masks, grid: Tensor | None) -> None:
        """Refuse masks of another grid than the model's; those that do not tell theirs must lie on it."""
        own, remedy = self.world_model.grid, "draw them by DrawMasks(model.masks())."
        if grid is not None and tuple(grid[0, 0].tolist()) != own:
            raise ValueError(
                f"the masks are of a grid {tuple(grid[0, 0].tolist())} of patches, and the model's is {own}: {remedy}"
            )
        numbers = [index for index in masks if index.numel()]
        least, most = min(int(index.min()) for index in numbers), max(int(index.max()) for index in numbers)
        if least < 0 or most >= math.prod(own):
            raise ValueError(
                f"the masks name patches {least} to {most}, and the model's grid {own} has {math.prod(own)}: {remedy}"
            )

    def checked(self, x: Tensor) -> Tensor:
        """What the encoder is given, ``[N, C, ...]``, if it is cut into the patches that the model is made for.

        Raises:
            ValueError: if it is of another size, number of frames or of channels.
        """
        model = self.world_model
        grid = model.encoder.patches.grid_of(x)
        if grid != model.grid:
            sides = [places * patch for places, patch in zip(model.grid, model.encoder.patches.patch, strict=True)]
            what = "images (height, width)" if len(grid) == 2 else "clips (frames, height, width)"
            raise ValueError(
                f"this {type(model).__name__} is made for {what} of {tuple(sides)}; got {tuple(x.shape[2:])}: sample "
                f"sequences of {model.frames} steps, and build the model from what the data show."
            )
        return x

    def probed(self, tensordict: TensorDictBase) -> Tensor:
        """The mean of the features of each image's, or each clip's, patches, ``[N, D]``."""
        x = self.images(tensordict.get(self.observation_keys[0]))
        return self.world_model.encoder(x)[:, self.world_model.encoder.prefix :].mean(1)

    def images(self, pixels: Tensor) -> Tensor:
        """Images ``[B, T, H, W, C]`` as the encoder reads them, each by itself, ``[B T, C, H, W]``.

        Raises:
            ValueError: if they are of another size or number of channels.
        """
        return self.checked(self.world_model.pixels(pixels.flatten(0, 1)))
