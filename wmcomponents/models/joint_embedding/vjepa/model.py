"""V-JEPA and V-JEPA 2: features of hidden tubes of a clip."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchrl.data import TensorSpec

from wmcomponents.functional.patch_masks import BlockTubeMasks, PatchMasks
from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.joint_embedding.masked import shown_image
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPA
from wmcomponents.models.joint_embedding.vjepa.config import VJEPAConfig, VJEPALossConfig
from wmcomponents.nn import (
    MaskedPredictor,
    TiledAxialRoPE,
    ViTBlock,
    ViTSize,
    clip_positions,
    vit_init_,
    vjepa2_vit,
    vjepa_vit,
)
from wmcomponents.nn.vit.block import rescale_residuals_


class VJEPA(MaskedJEPA):
    """The predictive architectures of clips: V-JEPA (Bardes et al., 2024) and V-JEPA 2 (Assran et al., 2025).

    :meth:`from_config` makes one for an environment or data.

    Example:
        >>> import torch
        >>> from wmcomponents.functional import RandomTubeMasks
        >>> size, small = ViTSize(16, 1, 2, 32), ViTSize(16, 1, 2, 16)
        >>> model = VJEPA.second(size, (4, 32, 32), patch=(2, 8, 8), predictor=small)
        >>> masks = RandomTubeMasks((2, 4, 4), 0.75).draw(3, torch.Generator())
        >>> model.predictions(torch.zeros(3, 3, 4, 32, 32), masks).shape
        torch.Size([3, 1, 24, 16])
    """

    config_class = VJEPAConfig
    config: VJEPAConfig | None

    @classmethod
    def from_config(cls, config: VJEPAConfig | str, observation_spec: TensorSpec) -> "VJEPA":
        """A fresh one for what an environment or data show; it can be saved.

        Args:
            config: its sizes; or a preset's name.
            observation_spec: of one observation, in which there is one image.

        Raises:
            TypeError, ValueError: if there is no such preset, there is not one image, tubelets do not fill the clip, or
                kinds of masks lack a number.
        """
        made = cls.config_from(config)
        n, loss = made.network, made.loss
        if len(loss.blocks) != len(loss.scales) or not loss.blocks:
            raise ValueError(f"each kind of masks has blocks and a scale; got {loss.blocks} and {loss.scales}.")
        shown = shown_image(cls.__name__, observation_spec, n.image_size)
        make = cls.second if n.positions == "rotary" else cls.first
        clip = (n.frames, *shown.pop("image_size"))
        sizes = {"patch": n.patch, "predictor": n.predictor.size, "mask_tokens": n.mask_tokens}
        return make(n.encoder.size, clip, config=made, **sizes, **shown)

    @classmethod
    def first(
        cls,
        size: ViTSize,
        clip_size: Sequence[int] = (16, 224, 224),
        *,
        patch: Sequence[int] = (2, 16, 16),
        channels: int = 3,
        predictor: ViTSize | None = None,
        mask_tokens: int = 2,
        **options: Any,
    ) -> "VJEPA":
        """A fresh V-JEPA, with fixed positions.

        Args:
            size: of the encoder; large or huge in the paper.
            clip_size: (frames, height, width).
            patch: (frames, height, width) of a tubelet.
            channels: of the clips.
            predictor: its size; 12 blocks of 384 with the encoder's heads if not given.
            mask_tokens: how many, one for each kind of masks.
            **options: of :class:`MaskedModel`.

        Raises:
            ValueError: if tubelets do not fill the clip.
        """
        small = ViTSize(384, 12, size.heads, 1536) if predictor is None else predictor
        grid = patch_grid(clip_size, patch)
        blocks = [ViTBlock(small.dim, small.heads, small.hidden) for _ in range(small.depth)]
        table = clip_positions(grid, small.dim)
        net = _begun(MaskedPredictor(size.dim, small.dim, blocks, grid, table, mask_tokens=mask_tokens))
        if "pixels" not in options:  # which no config can tell
            config = VJEPAConfig.of_sizes(size, small, patch, clip_size[0], "fixed", mask_tokens)
            options = {"config": config, **options}
        return cls(vjepa_vit(size, clip_size, patch, channels), net, clip_size[1:], channels=channels, **options)

    @classmethod
    def second(
        cls,
        size: ViTSize,
        clip_size: Sequence[int] = (16, 256, 256),
        *,
        patch: Sequence[int] = (2, 16, 16),
        channels: int = 3,
        predictor: ViTSize | None = None,
        mask_tokens: int = 10,
        **options: Any,
    ) -> "VJEPA":
        """A fresh V-JEPA 2, with rotary positions.

        Args:
            size: of the encoder; large, huge or giant-22 in the paper.
            clip_size: (frames, height, width) on which the predictor tells places; the encoder reads any.
            patch: (frames, height, width) of a tubelet.
            channels: of the clips.
            predictor: its size; 12 blocks of 384 with 12 heads if not given.
            mask_tokens: how many; kinds of masks take them round and round.
            **options: of :class:`MaskedModel`.

        Raises:
            ValueError: if tubelets do not fill the clip, or a head has too few channels for three axes.
        """
        small = ViTSize(384, 12, 12, 1536) if predictor is None else predictor
        grid, rope = patch_grid(clip_size, patch), TiledAxialRoPE(small.dim // small.heads)
        blocks = [ViTBlock(small.dim, small.heads, small.hidden, rope=rope) for _ in range(small.depth)]
        net = _begun(MaskedPredictor(size.dim, small.dim, blocks, grid, mask_tokens=mask_tokens))
        if "pixels" not in options:  # which no config can tell
            config = VJEPAConfig.of_sizes(size, small, patch, clip_size[0], "rotary", mask_tokens)
            options = {"config": config, **options}
        return cls(vjepa2_vit(size, patch, channels), net, clip_size[1:], channels=channels, **options)

    def masks(self) -> list[PatchMasks]:
        """Blocks all through time, of short and of long range; the paper's if no config says otherwise."""
        c = VJEPALossConfig() if self.config is None else self.config.loss
        kinds = zip(c.blocks, c.scales, strict=True)
        return [BlockTubeMasks(self.grid, count, (scale, scale), aspect=c.aspect) for count, scale in kinds]

    def objective(self) -> nn.Module:
        """The paper's loss for this model, with the numbers of its config."""
        from wmcomponents.models.joint_embedding.vjepa.objective import VJEPALoss  # which imports this module

        return VJEPALoss(
            self, optimizer=None if self.config is None else self.config.optimizer, kinds=len(self.masks())
        )


def _begun(net: MaskedPredictor) -> MaskedPredictor:
    net.apply(vit_init_)
    rescale_residuals_(net.blocks)
    return net
