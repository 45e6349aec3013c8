"""V-JEPA 2-AC's predictor: features of patches of frames, the pose and the step of a gripper as tokens beside them."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.dynamics.features.window import one_batch
from wmcomponents.functional.patches import grid_coordinates
from wmcomponents.nn import TiledAxialRoPE, ViTBlock, frame_causal_mask, rescale_residuals_, vit_init_


class VJEPA2ACPredictor(Component):
    """The next frame's features at every frame, out of features, steps and poses (Assran et al., V-JEPA 2, 2025).

    A frame's tokens are its step, its pose, where given the camera's extrinsics, and its patches; each frame sees all
    tokens of itself and of those before. Patches turn by time, row and column, the others by time alone.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "embed" | [*B, T, N, D] | float | read |
        | "action" | [*B, T, A] | float | read |
        | "pose" | [*B, T, S] | float | read, where ``pose`` is not 0 |
        | "extrinsics" | [*B, T, E] | float | read where present |
        | "predicted" | [*B, T, N, D] | float | written: at t, the features of t + 1 |

    Args:
        grid: rows and columns of patches.
        features: D.
        action: A, numbers of a step.
        pose: S, numbers of a pose; as many as those of a step if not given, 0 for no poses.
        extrinsics: E, numbers that tell where a camera is.
        frames: most frames.
        width: of the predictor.
        depth: number of blocks.
        heads: number of attention heads.
        mlp_ratio: the feed-forward's width over the token's.
        trained_grid: side of the grid on which places are told: others are stretched to it; that of ``grid`` if not
            given.
        in_keys: features, steps, poses, extrinsics.
        out_keys: predicted features.

    Raises:
        ValueError: on call, for more frames than there may be, frames that do not fit together, or a pose where none is
            read.

    Reference: Assran et al., V-JEPA 2 (2025), section 3, and its code.

    Example:
        >>> net = VJEPA2ACPredictor((2, 2), 8, frames=4, width=24, depth=1, heads=2)
        >>> net(torch.zeros(5, 3, 4, 8), torch.zeros(5, 3, 7), torch.zeros(5, 3, 7)).shape
        torch.Size([5, 3, 4, 8])
    """

    place: Tensor
    beside: Tensor

    def __init__(
        self,
        grid: Sequence[int] = (16, 16),
        features: int = 1408,
        *,
        action: int = 7,
        pose: int | None = None,
        extrinsics: int = 6,
        frames: int = 32,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        trained_grid: int | None = None,
        in_keys: Sequence[NestedKey] = ("embed", "action", "pose", "extrinsics"),
        out_keys: Sequence[NestedKey] = ("predicted",),
    ) -> None:
        pose = action if pose is None else pose
        super().__init__(in_keys, out_keys, optional_keys=in_keys[3:] if pose else in_keys[2:])
        rows, columns = grid
        self.frames, self.patches = frames, rows * columns
        self.embed = nn.Linear(features, width)
        self.action_encoder = nn.Linear(action, width)
        self.pose_encoder = nn.Linear(pose, width) if pose else None
        self.extrinsics_encoder = nn.Linear(extrinsics, width)
        rope = TiledAxialRoPE(width // heads)
        self.blocks = nn.ModuleList(ViTBlock(width, heads, int(width * mlp_ratio), rope=rope) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width, 1e-6), nn.Linear(width, features)
        self.apply(vit_init_)
        rescale_residuals_(self.blocks)
        side = torch.tensor([1.0, (trained_grid or rows) / rows, (trained_grid or columns) / columns])
        place = grid_coordinates((frames, rows, columns)) * side
        time = grid_coordinates((frames, 1, 1)) * side
        self.register_buffer("place", place.view(frames, self.patches, 3), persistent=False)
        self.register_buffer("beside", time.view(frames, 1, 3), persistent=False)

    def compute(
        self, embed: Tensor, action: Tensor, pose: Tensor | None = None, extrinsics: Tensor | None = None
    ) -> Tensor:
        """See the table of keys."""
        lead, flat = one_batch(embed, action, pose, extrinsics)
        x, encoders = flat[0], (self.action_encoder, self.pose_encoder, self.extrinsics_encoder)
        if (pose is None) != (self.pose_encoder is None):
            raise ValueError(f"this predictor reads {'no' if self.pose_encoder is None else 'a'} pose of each frame.")
        assert x is not None
        frames = x.shape[1]
        given = [(encode, one) for encode, one in zip(encoders, flat[1:], strict=True) if encode and one is not None]
        tokens = [encode(one).unsqueeze(2) for encode, one in given]
        count = len(tokens)
        mask = frame_causal_mask(frames, count + self.patches, self.frames, x.device)
        x = torch.cat([*tokens, self.embed(x)], 2).flatten(1, 2)
        place = torch.cat([self.beside.expand(-1, count, -1), self.place], 1)[:frames].flatten(0, 1)
        for block in self.blocks:
            x = block(x, mask, place)
        patches = x.view(len(x), frames, count + self.patches, -1)[:, :, count:]
        return self.out(self.norm(patches)).reshape(*lead, frames, self.patches, -1)
