"""The filter of a recurrent state-space model as components, with names."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.dynamics.rssm.rssm import RSSM


class RSSMObserve(Component):
    """One filtering step of an :class:`RSSM`, with names; the parameters are the RSSM's.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, D] | float | read (previous), written |
        | "stoch" | [*B, *latent.shape] | float | read (previous), written |
        | "action" | [*B, A] | float, led to the observation | read |
        | "embed" | [*B, E] | float | read |
        | "is_init" | [*B, 1] | bool | read |
        | "noise" | [*B, *latent.noise_shape] | float | read, may be absent: the mode |
        | "posterior" | [*B, latent.params] | float, raw | written |

    Args:
        rssm: the model.
        in_keys: deter, stoch, action, embed, is_init, noise.
        out_keys: deter, stoch, raw posterior.
    """

    def __init__(
        self,
        rssm: RSSM,
        in_keys: Sequence[NestedKey] = ("deter", "stoch", "action", "embed", "is_init", "noise"),
        out_keys: Sequence[NestedKey] = ("deter", "stoch", "posterior"),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[5:])
        self.rssm = rssm

    def compute(
        self, deter: Tensor, stoch: Tensor, action: Tensor, embed: Tensor, is_init: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`RSSM.observe_step`: ``deter [*B, D]`` and ``stoch [*B, *latent.shape]`` one step on, raw posterior."""
        return self.rssm.observe_step(deter, stoch, action, embed, is_init, noise)


class RSSMObserveSequence(Component):
    """T filtering steps of an :class:`RSSM`, with names; the parameters are the RSSM's.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | ("initial", "deter") | [*B, D] | float, before the first step | read |
        | ("initial", "stoch") | [*B, *latent.shape] | float, before the first step | read |
        | "action" | [*B, T, A] | float, each led to its observation | read |
        | "embed" | [*B, T, E] | float | read |
        | "is_init" | [*B, T, 1] | bool | read |
        | "noise" | [*B, T, *latent.noise_shape] | float | read, may be absent: the mode |
        | "deter" | [*B, T, D] | float | written |
        | "stoch" | [*B, T, *latent.shape] | float | written |
        | "posterior" | [*B, T, latent.params] | float, raw | written |

    Args:
        rssm: the model.
        in_keys: initial deter, initial stoch, action, embed, is_init, noise.
        out_keys: deter, stoch, raw posterior.
    """

    def __init__(
        self,
        rssm: RSSM,
        in_keys: Sequence[NestedKey] = (
            ("initial", "deter"),
            ("initial", "stoch"),
            "action",
            "embed",
            "is_init",
            "noise",
        ),
        out_keys: Sequence[NestedKey] = ("deter", "stoch", "posterior"),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[5:])
        self.rssm = rssm

    def compute(
        self, deter: Tensor, stoch: Tensor, action: Tensor, embed: Tensor, is_init: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`RSSM.observe_sequence`: ``deter [*B, T, D]``, ``stoch [*B, T, *latent.shape]`` and raw posteriors."""
        return self.rssm.observe_sequence(deter, stoch, action, embed, is_init, noise)
