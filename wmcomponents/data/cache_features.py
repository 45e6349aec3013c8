"""Features of a frozen encoder, kept for every image that a replay buffer has shown, so that none is encoded twice."""

import hashlib
from collections.abc import Callable

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from torch import Tensor
from torchrl.envs.transforms import Transform

from wmcomponents._arguments import whole


class CacheFeatures(Transform):
    """A transform of a replay buffer: beside the images of a batch, their features, encoded once for each image.

    Images are known again by a hash of their bytes: those of the same step under ``next`` and at the root, of steps
    drawn again, and of several epochs are encoded once, and an image that takes another's place in the buffer is
    encoded as it comes. The features are those at the time of encoding: of an encoder that learns they grow stale.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | key, ("next", key) | [*B, *S] | any | read; one of them may be missing |
        | "<key>_features", and under "next" | [*B, *F] | float | written |

    Args:
        encode: features ``[n, *F]`` of images ``[n, *S]``; run without gradient.
        key: of the images.
        most: how many images are kept; the oldest leave first.
        dtype: in which features are kept and given; that of the encoder if not given.
        chunk: images that are encoded at once.

    Attributes:
        encoded: images that were encoded so far.

    Example:
        >>> from tensordict import TensorDict
        >>> batch = TensorDict({"pixels": torch.zeros(2, 3, 8, 8, 3, dtype=torch.uint8)}, [2, 3])
        >>> cache = CacheFeatures(lambda images: images.flatten(1).float(), "pixels")
        >>> cache(batch)["pixels_features"].shape, cache.encoded
        (torch.Size([2, 3, 192]), 1)
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        key: NestedKey,
        *,
        most: int = 100_000,
        dtype: torch.dtype | None = None,
        chunk: int = 256,
    ) -> None:
        super().__init__()
        self.encode, self.key, self.dtype = encode, key, dtype
        self.most = whole("most", most, 1, "a number of images, at least 1")
        self.chunk = whole("chunk", chunk, 1, "a number of images, at least 1")
        self.encoded = 0
        self._slots: dict[bytes, int] = {}  # in the order of their coming
        self._table: Tensor | None = None

    def forward(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        """Write the features of the images that are there."""
        tensordict = next_tensordict
        places = [place for place in (self.key, unravel_key(("next", self.key))) if place in tensordict.keys(True)]
        if not places:
            raise KeyError(f"features are those of {self.key!r}, which the batch lacks.")
        axes = tensordict.ndim
        images = [tensordict.get(place) for place in places]
        flat = torch.cat([one.reshape(-1, *one.shape[axes:]) for one in images])
        features = self._features(flat).split([one.shape[:axes].numel() for one in images])
        for place, one, found in zip(places, images, features, strict=True):
            tensordict.set(features_key(place), found.reshape(*one.shape[:axes], *found.shape[1:]))
        return tensordict

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """Of images ``[n, *S]``, ``[n, *F]``."""
        rows = images.detach().to("cpu").contiguous().flatten(1).view(torch.uint8).numpy()
        names = [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
        first = {name: index for index, name in reversed(list(enumerate(names))) if name not in self._slots}
        fresh = self._encoded(images, list(first.values()))
        place = {name: index for index, name in enumerate(first)}
        like = fresh if self._table is None else self._table
        found = like.new_empty(len(names), *like.shape[1:])
        known = [index for index, name in enumerate(names) if name not in place]
        if known and self._table is not None:
            found[known] = self._table[[self._slots[names[index]] for index in known]]
        new = [index for index, name in enumerate(names) if name in place]
        if new:
            found[new] = fresh[[place[names[index]] for index in new]]
            self._keep(list(first), fresh)
        return found

    def _encoded(self, images: Tensor, index: list[int]) -> Tensor:
        """Features of some of the images, ``[k, *F]``."""
        if not index:
            return images.new_empty(0)
        self.encoded += len(index)
        parts = [self.encode(images[index[at : at + self.chunk]]) for at in range(0, len(index), self.chunk)]
        return torch.cat(parts).to(self.dtype or parts[0].dtype)

    def _keep(self, names: list[bytes], features: Tensor) -> None:
        """Put features into the table, in place of the oldest ones where it is full."""
        names, features = names[-self.most :], features[-self.most :]
        for _ in range(len(self._slots) + len(names) - self.most):
            self._slots.pop(next(iter(self._slots)))
        taken = set(self._slots.values())
        room = 0 if self._table is None else len(self._table)
        if room < len(self._slots) + len(names):
            room = min(self.most, max(2 * room, len(self._slots) + len(names)))
            grown = features.new_empty(room, *features.shape[1:])
            if self._table is not None:
                grown[: len(self._table)] = self._table
            self._table = grown
        assert self._table is not None
        free = (slot for slot in range(room) if slot not in taken)
        slots = [next(free) for _ in names]
        self._table[slots] = features
        self._slots.update(zip(names, slots, strict=True))


def features_key(key: NestedKey) -> NestedKey:
    """Where the features of an image lie: beside it, ``pixels_features`` of ``pixels``.

    Args:
        key: of the image.
    """
    return f"{key}_features" if isinstance(key, str) else (*key[:-1], f"{key[-1]}_features")
