"""What V-JEPA 2-AC minimises: the L1 distance of predicted features, each from real frames and a few in a row."""

from collections.abc import Mapping
from typing import Protocol

from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.dynamics import VJEPA2ACPredictor
from wmcomponents.functional import channel_std
from wmcomponents.functional.schedules import WarmupStableDecay
from wmcomponents.models.joint_embedding.vjepa2_ac.config import VJEPA2ACLossConfig, VJEPA2ACOptimizerConfig
from wmcomponents.objectives import ModelLoss, Terms, TrainableModel, check_model
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.feature_rollout import feature_rollout
from wmcomponents.objectives.windows import windows_of
from wmcomponents.optim import ScheduledAdamW, decay_groups


class PosedFeatureModel(TrainableModel, Protocol):
    """What the objective reads of a :class:`wmcomponents.models.VJEPA2AC`, which imports the objective.

    Attributes:
        frames: most frames that the predictor reads.
        predictor: of the next frame.
        cached_key: under which observations may hold their features.
    """

    frames: int
    cached_key: str
    predictor: VJEPA2ACPredictor

    def encode(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a frame holds: ``window`` ``[*B, N, D]``, and with poses ``window_pose`` ``[*B, 7]``."""
        ...

    def action_numbers(self, action: Tensor) -> Tensor:
        """An action as the predictor reads it, ``[*B, A]``."""
        ...

    def predicted(self, features: Tensor, action: Tensor, pose: Tensor | None) -> Tensor:
        """Features of the frame that follows each of a window, ``[*B, T, N, D]``."""
        ...


class VJEPA2ACLoss(ModelLoss[PosedFeatureModel]):
    r"""V-JEPA 2-AC's loss: the mean distance of teacher-forced predictions, and that of a few in a row.

    .. math:: L = \tfrac1{T - 1} \sum_{t=1}^{T-1} |\hat z_t - z_t| + \tfrac1S \sum_{t=1}^{S} |\tilde z_t - z_t|

    :math:`\hat z_t` is predicted from the real frames before t, :math:`\tilde z_t` from the first frame and from what
    was predicted since; both read the real actions and poses. Sequences ``[B, T]`` are cut into windows; those in which
    another episode begins are left out.

    Keys read: as every model loss. Keys written: ``loss_prediction``, ``loss_rollout``, to be summed; detached
    ``feature_std``.

    Args:
        world_model: the model.
        config: numbers of the objective.
        optimizer: numbers of :meth:`make_optimizer`.
        seed: of the noise, of which there is none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (``[N, H]`` and ``[N, S]``).

    Raises:
        TypeError: if the model is of another kind.
        ValueError: if windows have more frames than the predictor reads, or fewer than are predicted in a row.

    Reference: Assran et al., V-JEPA 2 (2025), eq. 2 to 4.
    """

    def __init__(
        self,
        world_model: PosedFeatureModel,
        config: VJEPA2ACLossConfig | None = None,
        *,
        optimizer: VJEPA2ACOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, PosedFeatureModel, type(self))
        super().__init__(world_model, seed=seed, reduction=reduction)
        c = loss_part(VJEPA2ACLossConfig, config)
        if not 1 <= c.rollout <= c.horizon <= world_model.frames:
            raise ValueError(
                f"windows of {c.horizon} transitions are read by a predictor of {world_model.frames} frames, and "
                f"{c.rollout} of them are predicted in a row: expected 1 <= rollout <= horizon <= frames."
            )
        self.horizon, self.rollout = c.horizon, c.rollout
        self.optimizer_config = optimizer_part(VJEPA2ACOptimizerConfig, optimizer)

    def _written(self) -> list[NestedKey]:
        return ["loss_prediction", "loss_rollout", "feature_std"]

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW of the predictor, whose rate rises, stays and falls; the encoder rests.

        Args:
            lr: learning rate between rise and fall; the config's if not given.
            warmup: steps of the rise; the config's if not given.
        """
        c = self.optimizer_config
        peak, rise = c.lr if lr is None else lr, c.warmup if warmup is None else warmup
        rate = WarmupStableDecay(peak * c.first_lr / c.lr, peak, 0.0, rise, c.decay, max(c.steps, rise + c.decay))
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        return ScheduledAdamW(decay_groups(named), rate, c.weight_decay)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``: ``[N, H]`` and ``[N, S]``."""
        model = self.world_model
        windows = windows_of(self, tensordict, self.horizon, [model.cached_key])
        seen, action = model.encode(windows.frames), model.action_numbers(windows.action)
        features, pose = seen["window"], seen.get("window_pose")

        def predict(window: Tensor) -> Tensor:
            frames = window.shape[1]
            return model.predicted(window, action[:, :frames], None if pose is None else pose[:, :frames])

        out = feature_rollout(predict, features, min(self.rollout, action.shape[1]))
        losses = {
            "prediction": (out.teacher_forced - features[:, 1:]).abs().mean((-2, -1)),
            "rollout": (out.rolled_out - features[:, 1 : 1 + out.rolled_out.shape[1]]).abs().mean((-2, -1)),
        }
        info = {"feature_std": channel_std(features.flatten(0, 2)).expand_as(windows.weight)}
        return Terms(losses, info, windows.weight * windows.unbroken.unsqueeze(1))
