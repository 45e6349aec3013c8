"""What DINO-WM minimises: squared errors of the next frame's features and proprioception, and those of a probe."""

from collections.abc import Mapping
from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer

from wmcomponents.codecs import ObservationGroups
from wmcomponents.decoders import FeatureDecoder
from wmcomponents.dynamics import DINOWMPredictor
from wmcomponents.functional import channel_std
from wmcomponents.models.joint_embedding.dino_wm.config import DINOWMLossConfig, DINOWMOptimizerConfig
from wmcomponents.objectives import ProbedLoss, Terms, TrainableModel, check_model
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.windows import windows_of
from wmcomponents.optim import ClippedAdamW
from wmcomponents.world_model import Observation, State


class FrozenFeatureModel(TrainableModel, Protocol):
    """What the objective reads of a :class:`wmcomponents.models.DINOWM`, which imports the objective.

    Attributes:
        frames: most frames that the predictor reads.
        groups: the observations, by what reads them.
        predictor: of the next frame.
        decoder: of features, or none.
        proprio_decoder: of embedded proprioception, or none.
    """

    frames: int
    groups: ObservationGroups
    predictor: DINOWMPredictor
    decoder: FeatureDecoder | None
    proprio_decoder: nn.Linear | None

    def look(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features of the patches ``[*B, N, D]``, and scaled proprioception ``[*B, P]``."""
        ...

    def frame_of(self, visual: Tensor, proprio: Tensor) -> Tensor:
        """A frame of the window, ``[*B, M, K]``."""
        ...

    def action_numbers(self, action: Tensor) -> Tensor:
        """An action as the predictor reads it, ``[*B, A]``."""
        ...

    def predict(self, window: State, action: Tensor) -> State:
        """What follows each frame of windows ``[*B, T, ...]``."""
        ...

    def shown(self, visual: Tensor) -> Tensor:
        """Features as an image from -1 to 1, ``[*B, H, W, C]``."""
        ...


class DINOWMLoss(ProbedLoss[FrozenFeatureModel]):
    """DINO-WM's loss: each frame of a window out of the real ones before it, a mean over features and proprioception.

    Targets get no gradient, though the proprioception's encoder is learned; the action is no part of them. A decoder
    learns to show the real frames, of which nothing else gets a gradient. Sequences ``[B, T]`` are cut into windows of
    as many transitions as the predictor reads; those in which another episode begins are left out.

    Keys read: as every model loss. Keys written: ``loss_prediction``, and where there is a decoder
    ``loss_reconstruction``; detached ``visual_error``, ``proprio_error`` and ``feature_std``, and where there is a
    decoder ``predicted_image_error``: how far what it shows of predicted features is from the real image.

    Args:
        world_model: the model.
        config: numbers of the objective.
        optimizer: numbers of :meth:`make_optimizer`.
        seed: of the noise, of which there is none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (``[N, H]``).

    Raises:
        TypeError: if the model is of another kind.

    Reference: Zhou et al., DINO-WM (2025), eq. 2, and its code.
    """

    def __init__(
        self,
        world_model: FrozenFeatureModel,
        config: DINOWMLossConfig | None = None,
        *,
        optimizer: DINOWMOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, FrozenFeatureModel, type(self))
        self._decodes = world_model.decoder is not None
        super().__init__(world_model, seed=seed, reduction=reduction)
        self.reconstruction = loss_part(DINOWMLossConfig, config).reconstruction
        self.optimizer_config = optimizer_part(DINOWMOptimizerConfig, optimizer)

    def _written(self) -> list[NestedKey]:
        decoded = ["loss_reconstruction"], ["predicted_image_error"]
        losses, told = decoded if self._decodes else ([], [])
        return ["loss_prediction", *losses, "visual_error", "proprio_error", "feature_std", *told]

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW of the predictor, and of the decoder at its own rate and without decay; the encoder rests.

        Args:
            lr: learning rate of the predictor, in proportion to which the decoder's changes; the config's if not given.
            warmup: updates over which the rates grow from 0; the config's if not given.
        """
        c = self.optimizer_config
        factor = 1.0 if lr is None else lr / c.lr

        def weights(*parts: str) -> list[Tensor]:
            there = [self.world_model_params.get(part, None) for part in parts]
            return [p for part in there if part is not None for p in part.flatten_keys(".").values() if p.requires_grad]

        groups = [
            {"params": weights("predictor"), "lr": c.lr * factor},
            {"params": weights("decoder", "proprio_decoder"), "lr": c.decoder_lr * factor, "weight_decay": 0.0},
        ]
        return ClippedAdamW(
            [group for group in groups if group["params"]],
            c.lr * factor,
            weight_decay=c.weight_decay,
            warmup=c.warmup if warmup is None else warmup,
        )

    def probed(self, tensordict: TensorDictBase) -> Tensor:
        """The mean of each frame's frozen features, ``[B, T, D]``: an encoder may have collapsed before."""
        return self.world_model.look({key: tensordict.get(key) for key in self.observation_keys})[0].mean(-2)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``: ``[N, H]`` each."""
        model = self.world_model
        windows = windows_of(self, tensordict, model.frames)
        visual, proprio = model.look(windows.frames)
        frames, joining = model.frame_of(visual, proprio), model.predictor.joining
        found = model.predict({"window": frames[:, :-1]}, model.action_numbers(windows.action))["window"]
        errors = (found - frames[:, 1:].detach()).square()
        visual_error, proprio_error = (
            part.detach().flatten(2).mean(-1) if part.numel() else torch.zeros_like(windows.weight)
            for part in joining.apart(errors)
        )
        losses = {"prediction": errors.mean((-2, -1))}
        info = {
            "visual_error": visual_error,
            "proprio_error": proprio_error,
            "feature_std": channel_std(visual.flatten(0, 2)).expand_as(windows.weight),
        }
        if self._decodes:
            images = self._images(windows.following)
            shown, beside = model.shown(visual[:, 1:]), self._proprio_error(proprio[:, 1:])
            losses["reconstruction"] = self.reconstruction * ((shown - images).square().mean((-3, -2, -1)) + beside)
            with torch.no_grad():
                told = model.shown(joining.apart(found)[0])
            info["predicted_image_error"] = (told - images).square().mean((-3, -2, -1))
        return Terms(losses, info, windows.weight * windows.unbroken.unsqueeze(1))

    def _images(self, observation: Observation) -> Tensor:
        """Images as the decoder is to show them, from -1 to 1, ``[*B, H, W, C]``."""
        groups = self.world_model.groups
        key = groups.image_keys[0]
        return groups.images[key].encode(observation[key]) * 2.0 - 1.0

    def _proprio_error(self, proprio: Tensor) -> Tensor:
        """Squared error of proprioception ``[*B, P]`` read from its embedding, ``[*B]``; 0 where there is none."""
        model = self.world_model
        if model.proprio_decoder is None:
            return proprio.new_zeros(proprio.shape[:-1])
        told = model.proprio_decoder(model.predictor.proprio_encoder(proprio).detach())
        return (told - proprio).square().mean(-1)
