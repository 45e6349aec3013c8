"""What a person's hands may do: an action spec as buttons, switches and sliders, and back as actions."""

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchrl.data import TensorSpec

from wmcomponents.codecs.from_spec import codec_from_spec
from wmcomponents.codecs.observation import BinaryCodec, DiscreteCodec, VectorCodec
from wmcomponents.play.errors import PlayError

Kind = Literal["choice", "choices", "bits", "numbers"]

WIDEST_SLIDER = 1e6
"""A bound beyond it says "any number": its slider reaches from -1 to 1."""

MOST_ALTERNATIVES = 18
"""Actions that are tried beside each other, at most."""

_BUTTONS = re.compile("UP|DOWN|LEFT|RIGHT|FIRE")
_IDLE = ("NOOP", "NONE", "NOTHING", "COAST", "IDLE", "STAY")


def buttons_of(name: str) -> list[str] | None:
    """The buttons of a joystick that stand for an action of this name; ``None`` where the name says nothing of them.

    Example:
        >>> buttons_of("UPRIGHTFIRE"), buttons_of("NOOP"), buttons_of("push left"), buttons_of("pick up")
        (['up', 'right', 'fire'], [], ['left'], None)
    """
    plain = re.sub("[^A-Z]", "", name.upper().removeprefix("PUSH").removeprefix("MOVE"))
    if plain in _IDLE:
        return []
    found = _BUTTONS.findall(plain)
    return [each.lower() for each in found] if found and "".join(found) == plain else None


class Controls:
    """An action as a page shows it, in plain JSON, and as the model takes it.

    ======== ================================== ========================================
    kind     spec                               value
    ======== ================================== ========================================
    choice   one choice                         its number, from 0
    choices  several choices                    their numbers
    bits     switches                           0 or 1 each
    numbers  numbers, whole or not              the numbers, clipped to their bounds
    ======== ================================== ========================================

    Args:
        spec: of one action.
        names: of the alternatives, the switches or the numbers; numbers from 0 if not given.
        device: where actions go.

    Attributes:
        kind: see above.
        names: one list for each choice; else a single one.

    Raises:
        PlayError: for actions that are laid out in planes.

    Example:
        >>> from torchrl.data import OneHot
        >>> Controls(OneHot(3), ["left", "stay", "right"]).read(2)
        tensor([[False, False,  True]])
    """

    def __init__(
        self, spec: TensorSpec, names: Sequence[str] | None = None, device: torch.device | str = "cpu"
    ) -> None:
        codec = codec_from_spec(spec)
        self.spec, self._codec, self._device = spec, codec, torch.device(device)
        if isinstance(codec, DiscreteCodec):
            sizes = list(codec.classes)
            self.kind: Kind = "choice" if len(sizes) == 1 else "choices"
        elif isinstance(codec, BinaryCodec | VectorCodec):
            sizes = [codec.size]
            self.kind = "bits" if isinstance(codec, BinaryCodec) else "numbers"
        else:
            raise PlayError(f"actions of shape {tuple(spec.shape)} are a board, and no controls show one.")
        known = names is not None and len(sizes) == 1 and len(names) == sizes[0]
        self.names = [list(names)] if known and names else [[str(i) for i in range(size)] for size in sizes]
        self._low, self._high = self._sliders(codec) if isinstance(codec, VectorCodec) else ([], [])

    @property
    def idle(self) -> Any:
        """What is done where no hand does anything: the action of no button, switches off, sliders in the middle."""
        if self.kind == "choice":
            return next((i for i, name in enumerate(self.names[0]) if buttons_of(name) == []), 0)
        if self.kind == "numbers":
            return [(low + high) / 2 for low, high in zip(self._low, self._high, strict=True)]
        return [0] * len(self.names if self.kind == "choices" else self.names[0])

    def describe(self) -> dict[str, Any]:
        """What a page needs to draw them, in plain JSON."""
        told: dict[str, Any] = {"kind": self.kind, "names": self.names, "idle": self.idle}
        if self.kind == "choice":
            buttons = [buttons_of(name) for name in self.names[0]]
            return {**told, "buttons": buttons, "has_idle": [] in buttons}
        if self.kind == "numbers":
            whole = not self.spec.dtype.is_floating_point
            return {**told, "low": self._low, "high": self._high, "whole": whole}
        return told

    def read(self, value: Any) -> Tensor:
        """An action ``[1, *shape]`` of a value.

        Raises:
            PlayError: if it is none of these actions.
        """
        vector = self._vector(value)
        return self._codec.decode(torch.tensor([vector], dtype=torch.float32)).to(self._device)

    def alternatives(self) -> Tensor:
        """Actions as unlike each other as can be, ``[A, *shape]``: every choice, every switch, both ends of numbers."""
        if self.kind == "choice":
            values = list(range(len(self.names[0])))
        elif self.kind == "numbers":
            values = [self.idle]
            for place in range(len(self._low)):
                for end in (self._low, self._high):
                    values.append([*self.idle[:place], end[place], *self.idle[place + 1 :]])
        else:
            sizes = [len(names) for names in self.names] if self.kind == "choices" else [2] * len(self.names[0])
            idle = self.idle
            values = [idle] + [[*idle[:i], k, *idle[i + 1 :]] for i, size in enumerate(sizes) for k in range(1, size)]
        return torch.cat([self.read(value) for value in values[:MOST_ALTERNATIVES]])

    def words(self, value: Any) -> str:
        """An action as a person reads it."""
        if self.kind == "choice":
            return self.names[0][value]
        if self.kind == "choices":
            return ", ".join(names[i] for names, i in zip(self.names, value, strict=True))
        return ", ".join(f"{number:.3g}" for number in value)

    def value_of(self, action: Tensor) -> Any:
        """The value of one action of the model's, ``[*shape]``: the inverse of :meth:`read`."""
        vector = self._codec.encode(action.cpu()[None])[0]
        if isinstance(self._codec, DiscreteCodec):
            picked = [int(part.argmax()) for part in vector.split(self._codec.classes)]
            return picked[0] if self.kind == "choice" else picked
        return [int(x) if self.kind == "bits" else float(x) for x in vector]

    def _vector(self, value: Any) -> list[float]:
        if self.kind == "choice":
            return self._hot(value, self.names[0])
        count = len(self.names) if self.kind == "choices" else len(self.names[0])
        if not isinstance(value, list) or len(value) != count:
            raise PlayError(f"an action is a list of {count} numbers; got {value!r:.80}.")
        if self.kind == "choices":
            return [x for one, names in zip(value, self.names, strict=True) for x in self._hot(one, names)]
        if not all(type(x) in (int, float) and math.isfinite(x) for x in value):
            raise PlayError(f"an action is {count} finite numbers; got {value!r:.80}.")
        if self.kind == "bits":
            return [float(x > 0.5) - 0.5 for x in value]
        return [min(max(x, low), high) for x, low, high in zip(value, self._low, self._high, strict=True)]

    def _hot(self, value: Any, names: list[str]) -> list[float]:
        if type(value) is not int or not 0 <= value < len(names):
            raise PlayError(f"an action is a number from 0 to {len(names) - 1}; got {value!r:.80}.")
        return [float(i == value) for i in range(len(names))]

    def _sliders(self, codec: VectorCodec) -> tuple[list[float], list[float]]:
        """Where each slider begins and ends."""
        ends = []
        for bound, usual in ((codec.low, -1.0), (codec.high, 1.0)):
            flat = [math.nan] * codec.size if bound is None else bound.flatten().tolist()
            ends.append([float(x) if math.isfinite(x) and abs(x) < WIDEST_SLIDER else usual for x in flat])
        return ends[0], ends[1]
