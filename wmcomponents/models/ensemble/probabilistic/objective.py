"""The loss of a probabilistic ensemble: each member's likelihood, on rows of its own."""

from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.codecs import Standardize
from wmcomponents.dynamics import GaussianMLPEnsemble
from wmcomponents.models.ensemble.objective import Rows, bootstrap_rows
from wmcomponents.models.ensemble.probabilistic.config import ProbabilisticLossConfig, ProbabilisticOptimizerConfig
from wmcomponents.objectives.arrivals import under_next
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import ModelLoss, Terms, TrainableModel, check_model
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Observation


class ProbabilisticModel(TrainableModel, Protocol):
    """What the loss trains: a :class:`~wmcomponents.models.ProbabilisticEnsemble`, or a model of the same parts.

    Attributes:
        dynamics: the members.
        inputs: scale of what they read.
        targets: scale of what they predict.
    """

    dynamics: GaussianMLPEnsemble
    inputs: Standardize
    targets: Standardize

    def pairs(
        self, observation: Observation, action: Tensor, following: Observation, reward: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the networks read and are to predict."""
        ...


class ProbabilisticEnsembleLoss(ModelLoss[ProbabilisticModel]):
    r"""Negative log likelihood of change and reward, without its constants and its half, summed over members.

    .. math:: L = \sum_m \overline{(\mu_m - y)^2 e^{-\ell_m} + \ell_m} + 0.01 \sum_d (b_{max} - b_{min})

    Each member learns from rows of its own out of the transitions of a batch ``[B, T]``.

    Keys read (rename with ``set_keys``): the observation keys, ``action``, ``is_init``; under ``next`` the observation
    keys, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and
    ``priority_weight``.

    Keys written: ``loss_likelihood``, ``loss_bounds``, and ``error`` detached: the squared error of the members' means,
    standardised.

    Args:
        world_model: a :class:`~wmcomponents.models.ProbabilisticEnsemble`.
        config: numbers of the loss; the paper's if not given.
        optimizer: numbers of the optimiser; the paper's if not given.
        rows: which of a batch's transitions a member learns from.
        seed: of the rows.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T]``).

    Raises:
        TypeError: if the model is not made of these parts.

    Reference: Chua et al., PETS (2018), section 4 and appendix A.
    """

    bounds_scale: Tensor

    def __init__(
        self,
        world_model: ProbabilisticModel,
        config: ProbabilisticLossConfig | None = None,
        *,
        optimizer: ProbabilisticOptimizerConfig | None = None,
        rows: Rows = bootstrap_rows,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, ProbabilisticModel, type(self))
        c = loss_part(ProbabilisticLossConfig, config)
        self.decay = optimizer_part(ProbabilisticOptimizerConfig, optimizer).decay
        self.rows = rows
        super().__init__(world_model, coefficients={"bounds_scale": c.bounds_scale}, seed=seed, reduction=reduction)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``, ``[B, T]`` each."""
        model, keys = self.world_model, self.tensor_keys
        found = self.transitions(tensordict, [under_next(key) for key in self.observation_keys])
        shape, real = tensordict.batch_size, found.weight > 0

        def read(key: NestedKey) -> Tensor:
            value = tensordict.get(key)  # padding may hold anything, NaN included
            return torch.where(real.reshape(*shape, *(1,) * (value.ndim - 2)), value, torch.zeros_like(value))

        inputs, target = model.pairs(
            {key: read(key) for key in self.observation_keys},
            read(keys.action),
            {key: read(under_next(key)) for key in self.observation_keys},
            found.reward.unsqueeze(-1),
        )
        x, y = model.inputs(inputs).flatten(0, 1), model.targets(target).flatten(0, 1)
        mean, log_var = model.dynamics(x)
        error = (mean - y).square()
        likelihood = (error * (-log_var).exp() + log_var).mean(-1)
        # A row that a member drew twice counts twice.
        count = len(x)
        drawn = [self.rows(count, self.generator).bincount(minlength=count) for _ in range(model.dynamics.members)]
        likelihood = (torch.stack(drawn) * likelihood).sum(0)
        wide = (model.dynamics.max_log_var - model.dynamics.min_log_var).sum()
        losses = {
            "likelihood": likelihood.reshape(shape),
            "bounds": (self.bounds_scale * wide).expand(shape),
        }
        return Terms(losses, {"error": error.mean((0, -1)).reshape(shape)}, found.weight)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam at 1e-3; the members' weights are stacked, and each moves by its own gradient.

        Args:
            lr: learning rate; 1e-3 if not given, as MBPO's.
            warmup: steps of the rise; none if not given.
        """
        params = [p for p in self.parameters() if p.requires_grad]
        return ClippedAdam(params, 1e-3 if lr is None else lr, decay=self.decay, warmup=warmup or 0)

    def _written(self) -> list[NestedKey]:
        return ["loss_likelihood", "loss_bounds", "error"]
