"""What a JEPA-WM minimises: squared errors of predictions from real frames, and of some in a row behind them."""

from collections.abc import Mapping
from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.dynamics import AdaptiveFramePredictor
from wmcomponents.functional import channel_std
from wmcomponents.functional.schedules import Cosine
from wmcomponents.models.joint_embedding.jepa_wm.config import JEPAWMLossConfig, JEPAWMOptimizerConfig
from wmcomponents.objectives import ModelLoss, Terms, TrainableModel, check_model
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.windows import windows_of
from wmcomponents.optim import ScheduledAdamW, decay_groups
from wmcomponents.world_model import State


class AdaptiveFeatureModel(TrainableModel, Protocol):
    """What the objective reads of a :class:`wmcomponents.models.JEPAWM`, which imports the objective.

    Attributes:
        frames: most frames that the predictor reads.
        predictor: of the next frame.
        cached_key: under which observations may hold their features.
    """

    frames: int
    cached_key: str
    predictor: AdaptiveFramePredictor

    def encode(self, observation: Mapping[str, Tensor]) -> State:
        """What a frame holds: ``window``, and ``window_proprio`` where there is proprioception."""
        ...

    def action_numbers(self, action: Tensor) -> Tensor:
        """An action as the predictor reads it, ``[*B, A]``."""
        ...

    def predict(self, window: State, action: Tensor) -> State:
        """What follows each frame of windows ``[*B, T, ...]``."""
        ...


class JEPAWMLoss(ModelLoss[AdaptiveFeatureModel]):
    r"""JEPA-WM's loss: predictions from real frames, and S further ones in a row, all of the same weight.

    .. math:: L = \tfrac{1}{S + 1} \Big( \tfrac1H \sum_{t=1}^{H} e(\hat z_t, z_t)
              + \sum_{s=1}^{S} e(\tilde z_{c+1+s}, z_{c+1+s}) \Big)

    e is the mean squared error of features, plus that of embedded proprioception. :math:`\tilde z` goes on from the
    prediction behind a real prefix of c frames, c drawn for the batch; what it reads has no gradient. Sequences
    ``[B, T]`` are cut into windows of one transition for each frame that the predictor reads; those in which another
    episode begins are left out.

    Keys read: as every model loss. Keys written: ``loss_prediction`` and, with a row, ``loss_rollout``, to be summed;
    detached ``feature_std``.

    Args:
        world_model: the model.
        config: numbers of the objective.
        optimizer: numbers of :meth:`make_optimizer`.
        seed: of the noise, the length of the prefix.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (``[N, H]`` and ``[N, 1]``).

    Raises:
        TypeError: if the model is of another kind.
        ValueError: if the predictor reads too few frames for so long a row.

    Reference: Terver et al., What Drives Success in Physical Planning with Joint-Embedding Predictive World Models?
    (2025), and its code.
    """

    def __init__(
        self,
        world_model: AdaptiveFeatureModel,
        config: JEPAWMLossConfig | None = None,
        *,
        optimizer: JEPAWMOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, AdaptiveFeatureModel, type(self))
        self.rollout = loss_part(JEPAWMLossConfig, config).rollout
        if not 0 <= self.rollout < world_model.frames:
            raise ValueError(
                f"a window of {world_model.frames} transitions has room for 0 to {world_model.frames - 1} predictions "
                f"in a row behind the first; got rollout={self.rollout}."
            )
        super().__init__(world_model, seed=seed, reduction=reduction)
        self.optimizer_config = optimizer_part(JEPAWMOptimizerConfig, optimizer)

    def _written(self) -> list[NestedKey]:
        return ["loss_prediction", *(["loss_rollout"] if self.rollout else []), "feature_std"]

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW at one rate, whose small decay grows; the encoder rests.

        Args:
            lr: learning rate; the config's if not given.
            warmup: not used: the paper has none.
        """
        c = self.optimizer_config
        decay = Cosine(c.weight_decay, c.last_weight_decay, c.steps)
        rate = c.lr if lr is None else lr
        return ScheduledAdamW(decay_groups(self.named_parameters()), rate, decay, max_norm=c.max_norm)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``: ``[N, H]`` and ``[N, 1]``."""
        model = self.world_model
        windows = windows_of(self, tensordict, model.frames, [model.cached_key])
        seen, action = model.encode(windows.frames), model.action_numbers(windows.action)
        now = {name: value[:, :-1] for name, value in seen.items()}
        then = {name: value[:, 1:] for name, value in seen.items()}
        found = model.predict(now, action)
        share = 1.0 / (self.rollout + 1)
        losses = {"prediction": share * squared_errors(found, then)}
        rollout = min(self.rollout, action.shape[1] - 1)
        if self.rollout:
            last = action.shape[1] - rollout
            draw = torch.randint(last, (), generator=self.generator, device=self.generator.device)
            losses["rollout"] = share * self._in_a_row(seen, found, action, int(draw), rollout)
        info = {"feature_std": channel_std(seen["window"].flatten(0, 2)).expand_as(windows.weight)}
        return Terms(losses, info, windows.weight * windows.unbroken.unsqueeze(1))

    def _in_a_row(self, seen: State, found: State, action: Tensor, prefix: int, steps: int) -> Tensor:
        """Summed errors of predictions in a row, ``[N, 1]``.

        Args:
            seen: real frames, ``[N, H + 1, ...]``.
            found: predictions from them, ``[N, H, ...]``.
            action: taken after each, ``[N, H, A]``.
            prefix: index of the last real frame that is read.
            steps: how many predictions.
        """
        model, total = self.world_model, action.new_zeros(len(action), 1)
        row = {
            name: torch.cat([value[:, : prefix + 1], found[name][:, prefix : prefix + 1]], 1)
            for name, value in seen.items()
        }
        for step in range(steps):
            at = prefix + 2 + step
            read = {name: value[:, -model.frames :].detach() for name, value in row.items()}
            after = model.predict(read, action[:, max(0, at - model.frames) : at])
            newest = {name: value[:, -1:] for name, value in after.items()}
            wanted = {name: value[:, at : at + 1].detach() for name, value in seen.items()}
            total = total + squared_errors(newest, wanted)
            row = {name: torch.cat([value, newest[name]], 1) for name, value in row.items()}
        return total


def squared_errors(found: State, wanted: State) -> Tensor:
    """Mean squared errors of all parts of frames ``[N, T, ...]``, summed over the parts, ``[N, T]``."""
    return torch.stack([(found[name] - wanted[name]).square().flatten(2).mean(-1) for name in found]).sum(0)
