"""Recorded steps as the checks read them: streams side by side, with episodes told apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs.from_spec import codec_from_spec
from wmcomponents.codecs.observation import ImageCodec, ObservationCodec, VectorCodec
from wmcomponents.data.doctor.finding import UnusableDataError

NOT_OBSERVED = frozenset({"next", "action", "is_init", "reward", "done", "terminated", "truncated", "step_count"})
"""Entries of a step, as environments and readers write them, that are no observations."""
FEWEST = 50
"""Steps that can be judged at all."""
MOST = 6000
"""Steps that regressions read at most: the first of them, in a row."""
SIDE, DIRECTIONS = 12, 40
"""Images are read at this side at most, and whatever is wide by so many principal directions."""
MOVING_SIDE = 20
"""Side of the pictures in which motion is looked for."""


@dataclass(frozen=True)
class Record:
    """All steps of all streams in a row.

    Attributes:
        steps: ``[N]`` in TorchRL's layout.
        streams: the number of the stream of each step, int ``[N]``.
        keys: of the observations.
        kinds: what each of them is.
        action_spec: of one action; ``None`` where none is told.
        observation_spec: likewise.
        notes: what one check has worked out and another asks for.
    """

    steps: TensorDictBase
    streams: Tensor
    keys: tuple[str, ...]
    kinds: dict[str, ObservationCodec]
    action_spec: TensorSpec | None
    observation_spec: Composite | None
    notes: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def shows_places(self) -> bool:
        """Whether an observation is a picture or a board."""
        return any(isinstance(kind, ImageCodec) or len(kind.shape) == 3 for kind in self.kinds.values())

    @classmethod
    def of(cls, streams: Sequence[TensorDictBase], spec: Composite | None) -> "Record":
        """Join streams.

        Args:
            streams: ``[N]`` each, in TorchRL's layout.
            spec: of a step; read off the values if not given.

        Raises:
            UnusableDataError: if there are too few steps, or one lacks what every step needs.
        """
        total = sum(one.batch_size[0] for one in streams)
        if total < FEWEST:
            raise UnusableDataError(f"there are {total} steps, too few to judge; {FEWEST} at least.")
        steps = streams[0] if len(streams) == 1 else cast(TensorDictBase, torch.cat(list(streams)))  # pyright: ignore
        flags = [("next", name) for name in ("reward", "terminated", "truncated", "done")]
        missing = [key for key in ("action", "is_init", *flags) if steps.get(cast(str, key), None) is None]
        keys = tuple(sorted(str(key) for key in steps.keys() if key not in NOT_OBSERVED))
        keys = tuple(key for key in keys if steps.get(("next", key), None) is not None)
        if missing or not keys:
            raise UnusableDataError(
                f"the steps lack {missing or 'an observation that stands under next too'}; import them with "
                f"wmc data import."
            )
        known = None if spec is None else Composite({key: cast(TensorSpec, spec[key]) for key in keys})
        kinds = {key: _kind(steps[key], None if spec is None else cast(TensorSpec, spec[key])) for key in keys}
        number = torch.cat([torch.full((one.batch_size[0],), i) for i, one in enumerate(streams)])
        return cls(steps, number, keys, kinds, None if spec is None else cast(TensorSpec, spec["action"]), known)

    def flag(self, *key: str) -> Tensor:
        """A flag of each step, bool ``[N]``."""
        return cast(Tensor, self.steps.get(key[0] if len(key) == 1 else key)).reshape(-1).bool()

    @property
    def goes_on(self) -> Tensor:
        """Whether the step after this one is of the same stream, bool ``[N]``; it is false for the last."""
        same = torch.zeros(len(self.streams), dtype=torch.bool)
        same[:-1] = self.streams[1:] == self.streams[:-1]
        return same

    @property
    def inside(self) -> Tensor:
        """Whether the step after this one is of the same episode, as the flags have it, bool ``[N]``."""
        begins_next = torch.zeros(len(self.streams), dtype=torch.bool)
        begins_next[:-1] = self.flag("is_init")[1:]
        return self.goes_on & ~self.flag("next", "done") & ~begins_next

    def few(self) -> "Record":
        """The first :data:`MOST` steps."""
        if len(self.streams) <= MOST:
            return self
        steps = cast(TensorDictBase, self.steps[:MOST])
        return Record(steps, self.streams[:MOST], self.keys, self.kinds, self.action_spec, self.observation_spec)

    def actions(self) -> Tensor:
        """Actions as numbers, ``[N, A]``; choices as one number each class."""
        action = cast(Tensor, self.steps["action"])
        if not action.is_floating_point() and action.dtype != torch.bool:
            flat = action.reshape(len(action), -1)
            is_one_hot = flat.shape[1] > 1 and bool((flat.sum(1) == 1).all()) and bool((flat >= 0).all())
            if not is_one_hot and int(flat.max()) < 64 and int(flat.min()) >= 0:
                return torch.cat([torch.nn.functional.one_hot(column.long()) for column in flat.unbind(1)], 1).double()
            return flat.double()
        return action.reshape(len(action), -1).double()

    def numbers(self) -> tuple[Tensor, Tensor]:
        """Observations here and after the step as numbers of order one, ``[N, D]`` each: small images, directions."""
        here, after = (
            torch.cat([_flat(cast(Tensor, part[key]), self.kinds[key]) for key in self.keys], 1)
            for part in (self.steps, cast(TensorDictBase, self.steps["next"]))
        )
        here, after = (torch.nan_to_num(part, 0.0, 0.0, 0.0) for part in (here, after))
        mean, spread = here.mean(0), here.std(0)
        varies = spread > 1e-6 * (1.0 + mean.abs())
        if not bool(varies.any()):
            return here[:, :0], after[:, :0]
        here, after = (((part - mean) / spread.clamp_min(1e-12))[:, varies] for part in (here, after))
        if here.shape[1] > DIRECTIONS:
            if any(not isinstance(self.kinds[key], VectorCodec) for key in self.keys):
                here, after = (part * spread[varies] for part in (here, after))  # pixels share a unit
            sample = here[:: max(1, len(here) // 2000)]
            directions = torch.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][:DIRECTIONS].T
            here, after = here @ directions, after @ directions
            # One scale for all directions: those in which little happens would be mostly noise.
            scale = here.std(0).square().mean().sqrt().clamp_min(1e-12)
            here, after = here / scale, after / scale
        return here, after

    def motion(self) -> Tensor:
        """How far what is in pictures and boards moves in each step, ``[N, M]``.

        First moments of the change, of each channel, row and column: what moves by one place changes them alike
        wherever it stands.
        """
        parts = []
        for key in self.keys:
            if isinstance(self.kinds[key], ImageCodec) or len(self.kinds[key].shape) == 3:
                here, after = (_small(part[key], self.kinds[key]) for part in (self.steps, self.steps["next"]))
                parts.append(_moments(after - here))
        return torch.cat(parts, 1)


def _kind(values: Tensor, spec: TensorSpec | None) -> ObservationCodec:
    if spec is not None:
        return codec_from_spec(spec)
    shape = tuple(values.shape[1:])
    if values.dtype == torch.uint8 and len(shape) == 3 and min(shape[:2]) >= 16:
        return ImageCodec(shape, values.dtype, 255.0)
    return VectorCodec(shape, values.dtype)


def _flat(values: Tensor, kind: ObservationCodec) -> Tensor:
    """``[N, ...]`` as ``[N, D]``; images grey and small."""
    if isinstance(kind, ImageCodec):
        parts = []
        for part in values.split(512):
            grey = kind.encode(part).mean(-1)[:, None]
            parts.append(torch.nn.functional.adaptive_avg_pool2d(grey, _size(grey, SIDE)))
        return torch.cat(parts).flatten(1).double()
    return values.reshape(len(values), -1).double()


def _small(values: Tensor, kind: ObservationCodec) -> Tensor:
    """Pictures and boards ``[N, C, H, W]`` of a small side."""
    parts = []
    for part in values.split(512):
        image = kind.encode(part) if isinstance(kind, ImageCodec) else part.float()
        image = image.movedim(-1, 1)
        parts.append(torch.nn.functional.adaptive_avg_pool2d(image, _size(image, MOVING_SIDE)))
    return torch.cat(parts).double()


def _size(image: Tensor, side: int) -> tuple[int, int]:
    """Height and width of images, not more than this side."""
    return min(side, image.shape[-2]), min(side, image.shape[-1])


def _moments(change: Tensor) -> Tensor:
    """First moments of changes ``[N, C, H, W]``: of channels along both axes, and of single rows and columns."""
    height, width = (torch.linspace(-1.0, 1.0, side, dtype=torch.float64) for side in change.shape[-2:])
    rows, columns = change @ width, height @ change  # (N, C, H) and (N, C, W)
    return torch.cat([rows.sum(2), columns.sum(2), rows.flatten(1), columns.flatten(1)], 1)
