"""The losses of World Models (Ha and Schmidhuber, 2018): V's first, then M's."""

from collections.abc import Sequence
from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.decoders import VAEDecoder
from wmcomponents.dynamics import MDNRNN, Mixture, VectorMixture
from wmcomponents.encoders import VAEEncoder
from wmcomponents.heads import BernoulliHead, MSEHead
from wmcomponents.models.recurrent.world_models.config import WorldModelsLossConfig, WorldModelsOptimizerConfig
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import Terms, TrainableModel, check_model
from wmcomponents.objectives.staged import StagedModelLoss
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import NoiseSource, State, Verb


class VisionMemoryModel(TrainableModel, Protocol):
    """What the losses train: a :class:`~wmcomponents.models.WorldModels`, or a model made of the same parts.

    Attributes:
        encoder: V's way from observations to z.
        decoder: V's way back.
        memory: M.
        reward_head: what M's h tells of the reward.
        termination_head: what M's h tells of the end.
    """

    encoder: VAEEncoder
    decoder: VAEDecoder
    memory: MDNRNN
    reward_head: MSEHead
    termination_head: BernoulliHead

    def inputs(self, action: Tensor, first: Tensor | None) -> Tensor:
        """What M reads beside z, ``[*B, N]``, of actions and of whether z begins its episode ``[*B, 1]``, if told."""
        ...

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """The state before anything was seen."""
        ...

    def noise_source(self, verb: Verb) -> NoiseSource:
        """The sampler of base noise for one verb."""
        ...


class WorldModelsLoss(StagedModelLoss[VisionMemoryModel]):
    r"""Objective of World Models on TorchRL-layout sequences, in two stages one after the other.

    *Vision* (V): the autoencoder alone, every frame by itself.

    .. math:: L_V = s \sum_k \|x_k - \hat x_k\|^2 + \max(KL(q(z|x) \| N(0, 1)), 0.5\, \dim z)

    *Memory* (M): the recurrent network alone. Frames are encoded by the V of that moment, which gets no gradient, and z
    is drawn anew from its distribution in every batch.

    .. math:: L_M = -\tfrac{1}{\dim z} \log p(z_{t+1} | h_{t+1}) + (r - \hat r)^2 + BCE(\text{terminated})

    With one mixture for the whole of z all three terms are divided by :math:`\dim z + 2`, as in ctallec/world-models.

    The stage follows from the step alone (:meth:`before_update`): V for the first ``vision_steps``, then M; where
    ``cycle_steps`` is given, again from the start after so many. Outside a training loop, say which with :attr:`stage`.

    Keys read (rename with ``set_keys``): the observation keys, ``action``, ``is_init``; under ``next`` the observation
    keys, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and
    ``priority_weight``.

    Keys written: in the vision stage ``loss_reconstruction``, ``loss_kl``, and ``kl`` (nats) and ``error_<key>``
    detached; in the memory stage ``loss_mixture``, ``loss_reward``, ``loss_termination``, and ``log_prob`` (nats a
    dimension) detached.

    Args:
        world_model: a :class:`~wmcomponents.models.WorldModels`, or one made of the same parts.
        config: when V and M are trained, and numbers of their losses; the paper's if not given.
        optimizer: learning rates; the paper's if not given.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]`` in the vision stage,
            ``[B, T]`` in the other). Diagnostics are means.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction, or stages that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Ha and Schmidhuber, World Models (2018), appendix A.
    """

    kl_tolerance: Tensor
    reconstruction_scale: Tensor
    mixture_scale: Tensor
    reward_scale: Tensor
    termination_scale: Tensor
    termination_weight: Tensor

    stages = ("vision", "memory")

    def __init__(
        self,
        world_model: VisionMemoryModel,
        config: WorldModelsLossConfig | None = None,
        *,
        optimizer: WorldModelsOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, VisionMemoryModel, type(self))
        c = loss_part(WorldModelsLossConfig, config)
        if c.vision_steps < 0 or (c.cycle_steps and c.cycle_steps <= c.vision_steps):
            raise ValueError(
                f"vision_steps is at least 0 and cycle_steps, unless 0, above it, so that M has a turn; got "
                f"vision_steps={c.vision_steps}, cycle_steps={c.cycle_steps}."
            )
        self.vision_steps, self.cycle_steps = c.vision_steps, c.cycle_steps
        self.vision_rate = optimizer_part(WorldModelsOptimizerConfig, optimizer).vision_rate
        self._noise = world_model.noise_source("observe")
        of_mixture, of_heads = _shares(world_model.memory.mixture)
        super().__init__(
            world_model,
            coefficients={
                "kl_tolerance": c.kl_tolerance,
                "reconstruction_scale": c.reconstruction_scale,
                "mixture_scale": of_mixture,
                "reward_scale": c.reward_scale * of_heads,
                "termination_scale": of_heads,
                "termination_weight": c.termination_weight,
            },
            seed=seed,
            reduction=reduction,
        )

    # -- stages --------------------------------------------------------------------------------------------------------

    def stage_at(self, step: int) -> str:
        """The stage of a step, from 0."""
        step = step % self.cycle_steps if self.cycle_steps else step
        return "vision" if step < self.vision_steps else "memory"

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """V's updates before those of M. Set anew, V's turn does not come again."""
        return (self.vision_steps,)

    @stage_steps.setter
    def stage_steps(self, steps: tuple[int, ...]) -> None:
        (self.vision_steps,), self.cycle_steps = steps, 0

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam: M at 1e-3 with gradient elements clipped at 1, V at a tenth of it. Who is not in turn stands still.

        Args:
            lr: learning rate of M; the paper's if not given. V's is ``vision_rate`` times that.
            warmup: steps over which each grows to its rate; none if not given, as in the paper.
        """
        rate = 1e-3 if lr is None else lr
        vision: list[Tensor] = []
        memory: list[Tensor] = []
        for name, parameter in self.world_model_params.flatten_keys(".").items():
            if parameter.requires_grad:
                (vision if name.startswith(("encoder.", "decoder.")) else memory).append(parameter)
        groups = [
            {"params": vision, "lr": self.vision_rate * rate},
            {"params": memory, "lr": rate, "max_value": 1.0},
        ]
        return ClippedAdam(groups, warmup=warmup or 0)

    def _written(self) -> list[NestedKey]:
        if self._stage == "vision":
            return ["loss_reconstruction", "loss_kl", "kl", *(f"error_{key}" for key in self.observation_keys)]
        return ["loss_mixture", "loss_reward", "loss_termination", "log_prob"]

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage, of sequences ``[B, T]``, with fresh noise."""
        arrivals = self.arrivals(tensordict)
        noise = self._noise(arrivals.is_init.shape[:-1], self.generator)["z"]
        if self._stage == "vision":
            return Terms(*self.vision_terms(arrivals, noise), arrivals.weight)
        follows = ~arrivals.is_init[:, 1:].squeeze(-1)
        return Terms(*self.memory_terms(arrivals, noise), arrivals.weight[:, 1:] * follows)

    def vision_terms(self, arrivals: Arrivals, noise: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and diagnostics of V, each ``[B, L]``.

        Args:
            arrivals: ``[B, L]`` arrivals, of which only the observations matter.
            noise: standard normal, ``[B, L, latent]``.
        """
        encoder, decoder = self.world_model.encoder, self.world_model.decoder
        mu, logvar = encoder.encode(arrivals.observation)
        errors = decoder.loss(decoder.raw(encoder.sample(mu, logvar, noise)), arrivals.observation)
        kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1.0).sum(-1)
        losses = {
            "reconstruction": self.reconstruction_scale * torch.stack(list(errors.values())).sum(0),
            "kl": kl.clamp(min=self.kl_tolerance * mu.shape[-1]),
        }
        return losses, {"kl": kl, **{f"error_{key}": error for key, error in errors.items()}}

    def memory_terms(self, arrivals: Arrivals, noise: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and diagnostics of M, each ``[B, L - 1]``: of what follows each arrival but the last.

        Where an episode begins, nothing was predicted, and the elements mean nothing.

        Args:
            arrivals: ``[B, L]`` arrivals.
            noise: standard normal, ``[B, L, latent]``.
        """
        model = self.world_model
        with torch.no_grad():
            mu, logvar = model.encoder.encode(arrivals.observation)
            z = model.encoder.sample(mu, logvar, noise)
        state = model.initial_state(z.shape[:1], z.device)
        begun = arrivals.is_init.to(z.dtype)[:, :-1] if "first" in state else None
        inputs = model.inputs(arrivals.action[:, 1:], begun)
        h, _ = model.memory.advance_sequence(z[:, :-1], state["h"], state["c"], inputs, arrivals.is_init[:, 1:])
        log_prob = model.memory.mixture.log_prob(model.memory.raw(h), z[:, 1:])
        terminated = arrivals.terminated[:, 1:].to(z.dtype)
        surprise = model.termination_head.loss(model.termination_head.raw(h), terminated)
        urgency = torch.where(arrivals.terminated[:, 1:, 0], self.termination_weight, torch.ones_like(surprise))
        losses = {
            "mixture": -self.mixture_scale * log_prob,
            "reward": self.reward_scale * model.reward_head.loss(model.reward_head.raw(h), arrivals.reward[:, 1:]),
            "termination": self.termination_scale * urgency * surprise,
        }
        return losses, {"log_prob": log_prob / z.shape[-1]}


def _shares(mixture: Mixture) -> tuple[float, float]:
    """Factors on the log density of z, and on the losses of reward and end, of the code with such a mixture."""
    if isinstance(mixture, VectorMixture):
        share = 1.0 / (mixture.size + 2)  # the whole loss is divided by the size of z, reward and end
        return share, share
    return 1.0 / mixture.size, 1.0
