"""Policies of which an environment and a dream of it are asked alike: what do they earn?"""

from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, MultiCategorical, MultiOneHot, OneHot, TensorSpec

from wmcomponents.dream.starts import model_device
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import State, WorldModel

WIDEST = 32
"""Numbers that a policy reads at most; of more it reads random mixtures."""


class View:
    """What the policies read: numbers of order one, ``[N, D]``, off observations or off the model's features.

    Args:
        examples: what they read, raw, ``[N, ...]`` by key, of real steps; scales are taken from it.
        seed: of the mixtures.
    """

    def __init__(self, examples: dict[str, Tensor], seed: int = 0) -> None:
        self.keys = sorted(examples)
        flat = self._flat(examples)
        generator = torch.Generator().manual_seed(seed)
        width = min(flat.shape[1], WIDEST)
        self._mix = None
        if flat.shape[1] > WIDEST:
            self._mix = torch.randn(flat.shape[1], width, generator=generator) / flat.shape[1] ** 0.5
            flat = flat @ self._mix
        self._mean, self._spread = flat.mean(0), flat.std(0).clamp_min(1e-6)
        self.size = width

    def __call__(self, shown: dict[str, Tensor]) -> Tensor:
        """Raw ``[N, ...]`` by key as numbers ``[N, D]``."""
        flat = self._flat(shown)
        flat = flat if self._mix is None else flat @ self._mix
        return ((flat - self._mean) / self._spread).clamp(-5.0, 5.0)

    def _flat(self, shown: dict[str, Tensor]) -> Tensor:
        return torch.cat([shown[key].cpu().float().flatten(1) for key in self.keys], 1)


def scores(spec: TensorSpec) -> int | None:
    """How many numbers choose an action; ``None`` for kinds of actions that these policies do not know."""
    if isinstance(spec, (MultiOneHot, MultiCategorical)):
        return None
    if isinstance(spec, OneHot):
        return int(spec.shape[-1])
    if isinstance(spec, Categorical):
        return int(spec.n) if not spec.shape else None
    is_box = isinstance(spec, Bounded) and spec.dtype.is_floating_point
    return int(torch.Size(spec.shape).numel()) if is_box and _is_finite(spec) else None


def acted(spec: TensorSpec, values: Tensor) -> Tensor:
    """Actions ``[N, ...]`` from scores ``[N, A]``."""
    if isinstance(spec, OneHot):
        return torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1]).to(spec.dtype)
    if isinstance(spec, Categorical):
        return values.argmax(-1).to(spec.dtype)
    box = cast(Any, spec.space)
    low, high = box.low.cpu(), box.high.cpu()
    span = (values.tanh().reshape(-1, *spec.shape) + 1.0) / 2.0
    return (low + span * (high - low)).to(spec.dtype)


def drawn(count: int, inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Weights of linear policies, ``[count, inputs + 1, outputs]``: from still to nervous, each with a bias.

    Args:
        count: how many policies.
        inputs: D of what they read.
        outputs: scores.
        generator: of the draws.
    """
    weights = torch.randn(count, inputs + 1, outputs, generator=generator)
    size = torch.linspace(-1.0, 1.0, count).exp().reshape(-1, 1, 1)
    return size * weights / (inputs + 1) ** 0.5 * 2.0


def answered(weights: Tensor, numbers: Tensor) -> Tensor:
    """Scores ``[N, A]`` of row i by policy i: weights ``[N, D + 1, A]``, numbers ``[N, D]``."""
    return torch.einsum("ij,ijk->ik", numbers, weights[:, :-1]) + weights[:, -1]


class RowPolicy:
    """In a dream: row i acts by policy i.

    Args:
        weights: ``[N, D + 1, A]``.
        view: reads what the dream shows.
        spec: of an action.
    """

    def __init__(self, weights: Tensor, view: View, spec: TensorSpec) -> None:
        self._weights, self._view, self._spec = weights, view, spec

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action`` of ``[N]`` rows."""
        shown = {key: cast(Tensor, tensordict[key]) for key in self._view.keys}
        action = acted(self._spec, answered(self._weights, self._view(shown)))
        return tensordict.set("action", action.to(tensordict.device))


class RealPolicy:
    """In a real environment without batch dimension; a policy that reads features has the model filter first.

    Args:
        weights: ``[D + 1, A]``.
        view: reads observations, or features.
        model: filters, where features are read; ``None`` for observations.
        spec: of an action.
    """

    def __init__(self, weights: Tensor, view: View, model: WorldModel | None, spec: TensorSpec) -> None:
        self._weights, self._view, self._model, self._spec = weights[None], view, model, spec
        self._state: State = {}
        self._action: Tensor | None = None

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action`` of ``[]``."""
        if self._model is None:
            shown = {key: cast(Tensor, tensordict[key])[None] for key in self._view.keys}
        else:
            shown = {"latent": self._filtered(self._model, tensordict)}
        action = acted(self._spec, answered(self._weights, self._view(shown)))
        self._action = action
        return tensordict.set("action", action[0])

    def _filtered(self, model: WorldModel, tensordict: TensorDictBase) -> Tensor:
        device = model_device(model)
        is_init = cast(Tensor, tensordict["is_init"]).reshape(1, 1).to(device)
        if self._action is None or bool(is_init):
            self._state, self._action = model.initial_state((1,), device), model.null_action((1,), device)
        seen = {str(key): cast(Tensor, tensordict[key])[None].to(device) for key in model.observation_spec.keys()}
        with EvalMode(model), torch.no_grad():
            self._state = model.observe(self._state, self._action.to(device), seen, is_init, None)
            return model.features(self._state)


def _is_finite(spec: TensorSpec) -> bool:
    box = cast(Any, spec.space)
    return bool(box.low.isfinite().all() and box.high.isfinite().all() and (box.high - box.low < 1e6).all())
