"""Masks of patches, drawn for each batch that a replay buffer gives."""

from collections.abc import Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs.transforms import Transform

from wmcomponents.functional.patch_masks import PatchMasks


class DrawMasks(Transform):
    """A transform of a replay buffer: beside the images of a batch ``[B, T]``, which patches are seen and predicted.

    Masks of images are drawn for each of them, masks of clips (on a grid with time) for each sequence. They are drawn
    from torch's global generator, so that a run that is resumed draws on where it was stopped.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | ("masks", i, "context") | [B, T, K] | int64 | written, for each kind i of masks |
        | ("masks", i, "target") | [B, T, M, L] | int64 | written; those of clips are the same at every step |
        | ("masks", i, "grid") | [B, T, A] | int64 | written: the patches along each axis |

    Args:
        masks: one kind of masks, or several.
        key: under which they are written.

    Raises:
        ValueError: if there is no kind. On call, if the batch is not ``[B, T]``.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from wmcomponents.functional import RandomMasks
        >>> batch = DrawMasks(RandomMasks((4, 4)))(TensorDict({"pixels": torch.zeros(2, 3, 32, 32, 3)}, [2, 3]))
        >>> batch["masks", "0", "context"].shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, masks: PatchMasks | Sequence[PatchMasks], key: str = "masks") -> None:
        super().__init__()
        self.kinds = (masks,) if isinstance(masks, PatchMasks) else tuple(masks)
        self.key = key
        if not self.kinds:
            raise ValueError("expected at least one kind of masks; got none.")

    def forward(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        """Draw masks, and write them."""
        tensordict = next_tensordict
        if tensordict.ndim != 2:
            raise ValueError(
                f"masks are drawn for batches [B, T]; got {list(tensordict.batch_size)}: sample sequences, of one step "
                f"for single images."
            )
        rows, steps = tensordict.batch_size
        for kind, masks in enumerate(self.kinds):
            is_clip = len(masks.grid) == 3
            drawn = masks.draw(rows if is_clip else rows * steps)
            for name, index in zip(drawn._fields, drawn, strict=True):
                index = cast(Tensor, index).to(tensordict.device)
                spread = index.unsqueeze(1).expand(-1, steps, *index.shape[1:])
                tensordict.set((self.key, str(kind), name), spread if is_clip else index.unflatten(0, (rows, steps)))
            grid = torch.tensor(masks.grid, device=tensordict.device).expand(rows, steps, -1)
            tensordict.set((self.key, str(kind), "grid"), grid)
        return tensordict
