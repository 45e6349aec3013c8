"""A small world model with random weights over any specs: what tests dream of when no trained model is needed."""

from collections.abc import Collection
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    TensorSpec,
    Unbounded,
)

from wmcomponents.testing.sampling import bounds
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel

NoiseKind = Literal["none", "uniform", "normal"]
PARTS = ("decode", "features", "reward", "continue", "value")


class ToyWorldModel(WorldModel):
    """A recurrent world model with one tanh layer, for any flat specs; healthy by construction.

    The state is ``memory`` ``[*B, size]``, which carries the past, and ``z`` ``[*B, size]``, the bounded random part.

    Args:
        observation_spec: vectors, images, planes and one-hots.
        action_spec: any discrete or continuous leaf.
        size: width of both parts of the state.
        noise: ``"none"`` for a deterministic model, else the kind of its base noise.
        parts: which capabilities it has, out of :data:`PARTS`.
        seed: of the weights.

    Example:
        >>> model = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), noise="normal")
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'reward', 'value']
    """

    def __init__(
        self,
        observation_spec: Composite,
        action_spec: TensorSpec,
        *,
        size: int = 8,
        noise: NoiseKind = "uniform",
        parts: Collection[str] = PARTS,
        seed: int = 0,
    ) -> None:
        width = torch.Size([size])
        leaf: TensorSpec = Bounded(0, 1, width) if noise == "uniform" else Unbounded(size)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(memory=Bounded(-1, 1, width), z=Bounded(-1, 1, width)),
            noise_spec=Composite() if noise == "none" else Composite(base=leaf),
        )
        self.parts = frozenset(parts)
        self.size = size
        self._centre = 0.5 if noise == "uniform" else 0.0
        generator = torch.Generator().manual_seed(seed)

        def weight(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) * columns**-0.5)

        self.recur = weight(size, 2 * size)
        self.act = weight(size, _width(action_spec))
        self.embed = weight(size, sum(_width(leaf) for _, leaf in observation_spec.items()))
        self.draw = weight(size, size)
        self.shock = weight(size, size)
        self.show = nn.ParameterDict(
            {str(key): weight(_width(leaf), 2 * size) for key, leaf in observation_spec.items()}
        )
        self.heads = weight(3, 2 * size)

    @property
    def capabilities(self) -> frozenset[str]:
        """The parts it was built with."""
        return self.parts

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """Mix the past, the action and the embedded observation."""
        keys = cast("list[str]", list(self.observation_spec.keys()))
        numbers = torch.cat([_numbers(self.observation_spec[key], observation[key]) for key in keys], -1)
        past = self._past(state, action).masked_fill(is_init, 0.0)
        return self._state(past + numbers @ self.embed.T, noise)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same without an observation."""
        after = self._state(self._past(state, action), noise)
        reward, cont, _ = (self._flat(after) @ self.heads.T).split(1, -1)
        return Prediction(
            after,
            reward.clone() if "reward" in self.parts else None,
            torch.sigmoid(cont + 2.0) if "continue" in self.parts else None,
        )

    def decode(self, state: State) -> Observation:
        """A linear map of the state, brought into each entry's space."""
        if "decode" not in self.parts:
            return super().decode(state)
        flat = self._flat(state)
        return {str(key): _inside(leaf, flat @ self.show[str(key)].T) for key, leaf in self.observation_spec.items()}

    def features(self, state: State) -> Tensor:
        """Memory and z, ``[*B, 2 * size]``."""
        return self._flat(state) if "features" in self.parts else super().features(state)

    def value(self, state: State) -> Tensor:
        """A linear map of the state."""
        return self._flat(state) @ self.heads[2:].T if "value" in self.parts else super().value(state)

    def _past(self, state: State, action: Tensor) -> Tensor:
        return self._flat(state) @ self.recur.T + _numbers(self.action_spec, action) @ self.act.T

    def _state(self, drive: Tensor, noise: Noise | None) -> State:
        memory = torch.tanh(drive)
        mean = memory @ self.draw.T
        # A deterministic model is handed None or no entries.
        z = torch.tanh(mean + (noise["base"] - self._centre) @ self.shock.T if noise else mean)
        return {"memory": memory, "z": z}

    @staticmethod
    def _flat(state: State) -> Tensor:
        return torch.cat([state["memory"], state["z"]], -1)


def _width(spec: TensorSpec) -> int:
    """How many numbers describe one value of a spec."""
    if isinstance(spec, MultiCategorical):
        return int(spec.nvec.sum())
    if isinstance(spec, Categorical) and not isinstance(spec, Binary):
        return int(cast(Any, spec.space).n) * spec.shape.numel()
    return spec.shape.numel()


def _numbers(spec: TensorSpec, value: Tensor) -> Tensor:
    """A value as floats near zero, ``[*B, width]``."""
    batch = value.shape[: value.ndim - spec.ndim]
    if isinstance(spec, MultiCategorical):
        sizes = spec.nvec.flatten().tolist()
        hots = [nn.functional.one_hot(value[..., i], size) for i, size in enumerate(sizes)]
        return torch.cat(hots, -1).float()
    if isinstance(spec, Categorical) and not isinstance(spec, Binary):
        return nn.functional.one_hot(value.long(), int(cast(Any, spec.space).n)).reshape(*batch, -1).float()
    numbers = value.reshape(*batch, spec.shape.numel()).float()
    return numbers / 255 if value.dtype is torch.uint8 else numbers


def _inside(spec: TensorSpec, raw: Tensor) -> Tensor:
    """Any real numbers ``[*B, width]`` as a value of the spec."""
    is_choice = isinstance(spec, (OneHot, MultiOneHot, Categorical, MultiCategorical)) and not isinstance(spec, Binary)
    return _chosen(spec, raw) if is_choice else _within(spec, raw.reshape(*raw.shape[:-1], *spec.shape))


def _chosen(spec: TensorSpec, raw: Tensor) -> Tensor:
    """The alternatives with the largest numbers."""
    if isinstance(spec, (OneHot, MultiOneHot)):
        boxes = [box.n for box in cast(Any, spec.space)] if isinstance(spec, MultiOneHot) else [raw.shape[-1]]
        hots = [nn.functional.one_hot(part.argmax(-1), part.shape[-1]) for part in raw.split(boxes, -1)]
        return torch.cat(hots, -1).to(spec.dtype)
    if isinstance(spec, MultiCategorical):
        parts = raw.split(spec.nvec.flatten().tolist(), -1)
        return torch.stack([part.argmax(-1) for part in parts], -1).to(spec.dtype)
    return raw.reshape(*raw.shape[:-1], *spec.shape, -1).argmax(-1).to(spec.dtype)


def _within(spec: TensorSpec, raw: Tensor) -> Tensor:
    """Numbers brought between the bounds of the spec."""
    if isinstance(spec, Binary) or spec.dtype is torch.bool:
        return (raw > 0).to(spec.dtype)
    if isinstance(spec, Bounded):
        low, high = (bound.to(raw.device).float() for bound in bounds(spec))
        span = high - low
        value = torch.where(span.isfinite(), low + span.nan_to_num(posinf=0.0) * torch.sigmoid(raw), raw)
        value = value if spec.dtype.is_floating_point else value.round()
        return torch.minimum(torch.maximum(value, low), high).to(spec.dtype)
    return raw.to(spec.dtype).clone()
