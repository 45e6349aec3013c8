"""Actions drawn at random from any spec."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, MultiCategorical, MultiOneHot, OneHot, TensorSpec, Unbounded

from wmcomponents.functional.broadcast import aligned


class RandomPolicy(TensorDictModuleBase):
    """Uniform random actions, sometimes holding the previous one.

    Repeated actions reach further than independent ones: a pole held to one side, a paddle moved across the screen.

    Args:
        action_spec: spec of the actions, with the environment's batch dims if it has any (``env.action_spec``).
            Choices and bits are uniform; numbers as Gymnasium draws them: uniform between two bounds, exponential
            from a single one on, standard normal without.
        repeat_probability: chance that a step keeps the action before it; never the one of another episode.
        generator: where the draws come from; ``None`` is a new generator seeded from torch's global one.
        action_key: key that is written.

    Keys:
        ========== ============ ===== =====
        key        shape        dtype
        ========== ============ ===== =====
        is_init    ``[*B, 1]``  bool  read if ``repeat_probability`` > 0 and present
        action     as the spec        write
        ========== ============ ===== =====

    Raises:
        ValueError: if the probability is outside [0, 1].
        TypeError: if the spec is of a kind that cannot be drawn from.
    """

    def __init__(
        self,
        action_spec: TensorSpec,
        repeat_probability: float = 0.0,
        generator: torch.Generator | None = None,
        *,
        action_key: NestedKey = "action",
    ) -> None:
        super().__init__()
        if not 0.0 <= repeat_probability <= 1.0:
            raise ValueError(f"repeat_probability must be in [0, 1]; got {repeat_probability}.")
        if not isinstance(action_spec, (OneHot, Categorical, Bounded, Unbounded)):
            raise TypeError(
                f"RandomPolicy draws choices, bits and numbers; got {type(action_spec).__name__}. Pass a policy of "
                f"your own, a callable on TensorDicts."
            )
        self.in_keys: list[NestedKey] = ["is_init"] if repeat_probability > 0 else []
        self.out_keys: list[NestedKey] = [action_key]
        self.action_spec = action_spec.clone()
        self.repeat_probability = repeat_probability
        self.generator = generator if generator is not None else new_generator(None)
        self._previous: Tensor | None = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write an action into ``tensordict`` and return it."""
        action = self._draw()
        if self.repeat_probability > 0:
            keeps = self._keeps(tensordict, action)  # drawn also where there is nothing to keep: as many draws a step
            if self._previous is not None:
                action = torch.where(keeps, self._previous, action)
            self._previous = action
        return tensordict.set(self.out_keys[0], action)

    def _keeps(self, tensordict: TensorDictBase, action: Tensor) -> Tensor:
        """Which rows hold their previous action, shaped to broadcast over the action."""
        keep = self._uniform(tensordict.batch_size) < self.repeat_probability
        is_init = tensordict.get("is_init", None)
        if is_init is not None:
            keep = keep & ~is_init.reshape(keep.shape)
        return aligned(keep, action)

    def _draw(self) -> Tensor:
        spec, shape = self.action_spec, self.action_spec.shape
        if isinstance(spec, MultiOneHot):
            sizes = [box.n for box in cast(Any, spec.space)]
            return torch.cat([self._one_hots((*shape[:-1], size)) for size in sizes], -1)
        if isinstance(spec, OneHot):
            return self._one_hots(shape)
        if isinstance(spec, MultiCategorical):
            return (self._uniform(shape) * spec.nvec.to(spec.device)).to(spec.dtype)
        if isinstance(spec, Categorical):  # Binary among them
            return (self._uniform(shape) * spec.n).to(spec.dtype)
        if not spec.dtype.is_floating_point:
            return self._integers()
        if isinstance(spec, Bounded):
            return self._between(cast(Any, spec.space).low, cast(Any, spec.space).high)
        return self._normal().to(spec.dtype)

    def _one_hots(self, shape: Sequence[int]) -> Tensor:
        index = (self._uniform(shape[:-1]) * shape[-1]).long()
        return nn.functional.one_hot(index, shape[-1]).to(self.action_spec.dtype)

    def _integers(self) -> Tensor:
        spec: Any = self.action_spec
        if spec.dtype is torch.bool:
            return self._uniform(spec.shape) < 0.5
        low, high = spec.space.low.double(), spec.space.high.double()
        draw = torch.rand(spec.shape, dtype=torch.float64, generator=self.generator, device=self.generator.device)
        index = (low + (draw.to(spec.device) * (high - low + 1.0)).floor()).clamp(low, high)
        # The largest integers have no double of their own, and the next one is too large.
        return index.to(spec.dtype).clamp(spec.space.low, spec.space.high)

    def _between(self, low: Tensor, high: Tensor) -> Tensor:
        """Uniform where both bounds are finite; from the finite one of two on as far as exponentials; else normal.

        So does Gymnasium sample a ``Box``.
        """
        draw = self._uniform(self.action_spec.shape)
        has_low, has_high = low.isfinite(), high.isfinite()
        if bool((has_low & has_high).all()):
            return (low + (high - low) * draw).to(self.action_spec.dtype)
        far = -torch.log1p(-draw)  # exponential; the draw is below 1
        span = torch.where(has_low & has_high, high - low, 0.0)
        inside = torch.where(has_low, low, 0.0) + span * draw
        one_sided = torch.where(has_low, torch.where(has_low, low, 0.0) + far, torch.where(has_high, high, 0.0) - far)
        action = torch.where(has_low & has_high, inside, torch.where(has_low | has_high, one_sided, self._normal()))
        return action.to(self.action_spec.dtype)

    def _normal(self) -> Tensor:
        spec = self.action_spec
        normal = torch.randn(spec.shape, generator=self.generator, device=self.generator.device)
        return normal.to(spec.device)

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        draw = torch.rand(tuple(shape), generator=self.generator, device=self.generator.device)
        return draw.to(self.action_spec.device)


def new_generator(seed: int | None) -> torch.Generator:
    """A generator with a seed, or with one drawn from torch's global state."""
    generator = torch.Generator()
    return generator.manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)
