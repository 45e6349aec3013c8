"""The TensorDict layer of every part: names around a pure tensor function."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from tensordict import NestedKey, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModuleBase, dispatch
from torch import Tensor


class Component(TensorDictModuleBase):
    """A part with names: subclasses write :meth:`compute` on tensors, this class reads and writes the keys.

    The forward is deliberately lean (get, compute, set): the stock ``TensorDictModule`` spends several times the cost
    of a small layer on wrapping each output. Because it is a ``TensorDictModuleBase`` it works wherever one does:
    alone, in a ``TensorDictSequential``, in front of a collector's policy, as a replay-buffer transform, inside a
    ``LossModule``; called with tensors (positional or by key) instead of a TensorDict it returns tensors;
    ``select_out_keys`` applies.

    Args:
        in_keys: keys read, one for each positional argument of :meth:`compute`.
        out_keys: keys written, one for each tensor that :meth:`compute` returns.
        optional_keys: those of ``in_keys`` that may be absent; :meth:`compute` then receives ``None`` in that place.

    Raises:
        KeyError: on call, if a key of ``in_keys`` that is not optional is missing from the input.
    """

    def __init__(
        self,
        in_keys: Sequence[NestedKey],
        out_keys: Sequence[NestedKey],
        optional_keys: Sequence[NestedKey] = (),
    ) -> None:
        super().__init__()
        self.in_keys = cast(Any, [unravel_key(key) for key in in_keys])
        self.out_keys = cast(Any, [unravel_key(key) for key in out_keys])
        self.optional_keys = [unravel_key(key) for key in optional_keys]
        for keys, name in ((self.in_keys, "in_keys"), (self.out_keys, "out_keys")):
            if len(set(keys)) != len(keys):
                raise ValueError(f"{name} of {type(self).__name__} must be distinct; got {keys}. Rename one of them.")
        strays = [key for key in self.optional_keys if key not in self.in_keys]
        if strays:
            raise ValueError(f"optional_keys must be among in_keys {self.in_keys}; {strays} are not.")

    @abstractmethod
    def compute(self, *tensors: Any) -> Tensor | tuple[Tensor, ...]:
        """The part as a pure function of tensors: no names, free leading dims, nothing mutated."""

    @dispatch(auto_batch_size=False)
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Read ``in_keys``, compute, write ``out_keys`` into the same TensorDict."""
        values = []
        for key in self.in_keys:
            value = tensordict.get(key, None)
            if value is None and key not in self.optional_keys:
                present = sorted(map(str, tensordict.keys(True, True)))
                raise KeyError(
                    f"{type(self).__name__} reads {key!r}, which is not in the input (keys there: {present}). "
                    f"Rename the key when building the component (in_keys=...), or add it upstream."
                )
            values.append(value)
        out = self.compute(*values)
        if isinstance(out, tuple):
            for key, value in zip(self.out_keys_source, out, strict=True):
                tensordict.set(key, value)
        else:
            tensordict.set(self.out_keys_source[0], out)
        return tensordict
