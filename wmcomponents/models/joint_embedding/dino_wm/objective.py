"""What DINO-WM minimises: squared errors of the next frame's features and proprioception."""

from collections.abc import Mapping
from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import AdamW, Optimizer

from wmcomponents.dynamics import DINOWMPredictor, FrameParts
from wmcomponents.functional import channel_std
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.objectives import ModelLoss, Terms, TrainableModel, check_model
from wmcomponents.objectives.windows import cut_windows


class FrozenFeatureModel(TrainableModel, Protocol):
    """What the objective reads of a :class:`wmcomponents.models.DINOWM`, which imports the objective.

    Attributes:
        predictor: of the next frame.
    """

    predictor: DINOWMPredictor

    def encode(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features of the patches ``[*B, N, D]``, and embedded proprioception ``[*B, E]``."""
        ...

    def embedded_action(self, action: Tensor) -> Tensor:
        """An action as the predictor reads it, ``[*B, E]``."""
        ...


class DINOWMLoss(ModelLoss[FrozenFeatureModel]):
    """DINO-WM's loss: each frame of a window out of the real ones before it, a mean over features and proprioception.

    Targets get no gradient, though the proprioception's encoder is learned; the action is no part of them. Sequences
    ``[B, T]`` are cut into windows of as many transitions as the predictor reads; those in which another episode begins
    are left out.

    Keys read: as every model loss. Keys written: ``loss_prediction``; detached ``visual_error``, ``proprio_error`` and
    ``feature_std``.

    Args:
        world_model: the model.
        seed: of the noise, of which there is none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (``[N, H]``).

    Raises:
        TypeError: if the model is of another kind.

    Reference: Zhou et al., DINO-WM (2025), eq. 2, and its code.
    """

    def __init__(self, world_model: FrozenFeatureModel, *, seed: int = 0, reduction: str = "mean") -> None:
        check_model(world_model, FrozenFeatureModel, type(self))
        super().__init__(world_model, seed=seed, reduction=reduction)

    def _written(self) -> list[NestedKey]:
        return ["loss_prediction", "visual_error", "proprio_error", "feature_std"]

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW at 5e-4 of the predictor, with torch's decay and no warm-up; the encoder rests.

        Args:
            lr: learning rate; the paper's if not given.
            warmup: not used.
        """
        weights = self.world_model_params.get("predictor").flatten_keys(".").values()
        return AdamW([p for p in weights if p.requires_grad], 5e-4 if lr is None else lr)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``: ``[N, H]`` each."""
        model, after = self.world_model, {key: ("next", key) for key in self.observation_keys}
        transitions = self.transitions(tensordict, [*self.observation_keys, *after.values()])
        windows = cut_windows(
            transitions,
            {key: keep_where(tensordict.get(key), transitions.real) for key in self.observation_keys},
            {key: keep_where(tensordict.get(place), transitions.real) for key, place in after.items()},
            keep_where(tensordict.get(self.tensor_keys.action), transitions.real),
            model.predictor.frames,
        )
        frames = {
            key: torch.cat([value[:, :1], windows.following[key]], 1) for key, value in windows.observation.items()
        }
        visual, proprio = model.encode(frames)
        action = model.embedded_action(windows.action)
        joining = model.predictor.joining
        now = joining.join(FrameParts(visual[:, :-1], proprio[:, :-1], action))
        then = joining.join(FrameParts(visual[:, 1:], proprio[:, 1:], torch.zeros_like(action))).detach()
        found = model.predictor.transformer(now)
        error = (joining.predicted(found) - joining.predicted(then)).square().mean((-2, -1))
        ours, theirs = joining.part(found.detach()), joining.part(then)
        whole = ~windows.begins[:, 1:].any(1, keepdim=True)
        info = {
            "visual_error": (ours.visual - theirs.visual).square().mean((-2, -1)),
            "proprio_error": (ours.proprio - theirs.proprio).square().mean(-1),
            "feature_std": channel_std(visual.flatten(0, 2)).expand_as(error),
        }
        return Terms({"prediction": error}, info, windows.weight * whole)
