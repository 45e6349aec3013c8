"""The TensorDict form of a world model's verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from tensordict import NestedKey
from torch import Tensor
from torchrl.data import Composite

from wmcomponents.component import Component
from wmcomponents.world_model.noise import Noise
from wmcomponents.world_model.spec_checks import keys_of

if TYPE_CHECKING:
    from wmcomponents.world_model.protocol import WorldModel


class VerbModule(Component):
    """A verb of a world model as a TensorDict module.

    ========= ========================================================================== =============================
    verb      reads                                                                      writes
    ========= ========================================================================== =============================
    observe   state keys, ``prev_action``, observation keys, ``is_init``, ``("noise", k)`` state keys
    imagine   state keys, ``action``, ``("noise", k)``                                   the same under ``next``, with
                                                                                         ``("next", "reward")`` and
                                                                                         ``("next", "continue")``
    decode    state keys                                                                 observation keys
    features  state keys                                                                 ``latent``
    value     state keys                                                                 ``state_value``
    ========= ========================================================================== =============================

    The noise is optional: without it the verb takes the mode. All keys can be renamed with ``in_keys``/``out_keys``.

    Args:
        model: the world model; its parameters become this module's.
        verb: which verb.
        in_keys: replaces the keys read, in the order above.
        out_keys: replaces the keys written, in the order above.
    """

    def __init__(
        self,
        model: WorldModel,
        verb: str,
        in_keys: Sequence[NestedKey] | None = None,
        out_keys: Sequence[NestedKey] | None = None,
    ) -> None:
        states, observations = keys_of(model.state_spec), keys_of(model.observation_spec)
        noises = keys_of(cast(Composite, model.noise_spec[verb])) if verb in ("observe", "imagine") else []
        heads = [key for key in ("reward", "continue") if key in model.capabilities]
        layouts: dict[str, tuple[list[NestedKey], list[NestedKey]]] = {
            "observe": ([*states, "prev_action", *observations, "is_init", *(("noise", k) for k in noises)], [*states]),
            "imagine": (
                [*states, "action", *(("noise", k) for k in noises)],
                [("next", k) for k in [*states, *heads]],
            ),
            "decode": ([*states], [*observations]),
            "features": ([*states], ["latent"]),
            "value": ([*states], ["state_value"]),
        }
        if verb not in layouts:
            raise ValueError(f"a world model has the verbs {', '.join(layouts)}; got {verb!r}.")
        if verb in ("decode", "features", "value"):
            model.require(verb, driver=f"module({verb!r})", remedy="choose another verb or give the model this part.")
        reads, writes = layouts[verb]
        chosen = list(in_keys or reads)
        if len(chosen) != len(reads) or (out_keys is not None and len(out_keys) != len(writes)):
            raise ValueError(f"{verb} reads {reads} and writes {writes}; give new names one for one, in this order.")
        super().__init__(chosen, out_keys or writes, optional_keys=chosen[len(chosen) - len(noises) :])
        self.model = model
        self.verb = verb
        self._states, self._observations, self._noises = states, observations, noises

    def compute(self, *tensors: Any) -> Tensor | tuple[Tensor, ...]:
        """The verb on tensors ``[*B, ...]`` in the order of ``in_keys``; gives those of ``out_keys``, ``[*B, ...]``."""
        values = list(tensors)
        state = {key: values.pop(0) for key in self._states}
        if self.verb == "decode":
            decoded = self.model.decode(state)
            return tuple(decoded[key] for key in self._observations)
        if self.verb == "features":
            return self.model.features(state)
        if self.verb == "value":
            return self.model.value(state)
        action = values.pop(0)
        if self.verb == "observe":
            observation = {key: values.pop(0) for key in self._observations}
            is_init = values.pop(0)
            state = self.model.observe(state, action, observation, is_init, self._noise(values))
            return tuple(state[key] for key in self._states)
        state, reward, cont = self.model.imagine(state, action, self._noise(values))
        heads = tuple(value for value in (reward, cont) if value is not None)
        return tuple(state[key] for key in self._states) + heads

    def _noise(self, values: list[Tensor | None]) -> Noise | None:
        if any(value is None for value in values):
            return None
        return {key: cast(Tensor, value) for key, value in zip(self._noises, values, strict=True)}
