"""The losses of World Models (Ha and Schmidhuber, 2018): V's first, then M's."""

from typing import Any, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.dynamics import MDNRNN
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.model_loss import StagedModelLoss, Terms
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import NoiseSource, WorldModel


class WorldModelsLoss(StagedModelLoss):
    r"""Objective of World Models on TorchRL-layout sequences, in two stages one after the other.

    *Vision* (V): the autoencoder alone, every frame by itself.

    .. math:: L_V = s \sum_k \|x_k - \hat x_k\|^2 + \max(KL(q(z|x) \| N(0, 1)), 0.5\, \dim z)

    *Memory* (M): the recurrent network alone. Frames are encoded by the V of that moment, which gets no gradient, and z
    is drawn anew from its distribution in every batch.

    .. math:: L_M = -\tfrac{1}{\dim z} \log p(z_{t+1} | h_{t+1}) + (r - \hat r)^2 + BCE(\text{terminated})

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
        vision_steps: updates of V before those of M.
        cycle_steps: after so many updates V's turn comes again; 0 for never.
        kl_tolerance: nats that are free in each dimension of z; the whole vector's KL counts from there.
        reconstruction_scale: s, factor on the reconstruction error.
        mixture_scale: factor on the log density of z; 1 over its size if not given, the mean over dimensions.
        reward_scale: factor on the squared error of the reward, in the space of the reward head's transform.
        termination_scale: factor on the cross entropy of termination.
        termination_weight: further factor on it where an episode terminates.
        vision_rate: learning rate of V over that of M.
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
        world_model: WorldModel,
        *,
        vision_steps: int,
        cycle_steps: int = 0,
        kl_tolerance: float = 0.5,
        reconstruction_scale: float = 1.0,
        mixture_scale: float | None = None,
        reward_scale: float = 1.0,
        termination_scale: float = 1.0,
        termination_weight: float = 1.0,
        vision_rate: float = 0.1,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        memory = getattr(world_model, "memory", None)
        if not isinstance(memory, MDNRNN):
            raise TypeError(
                f"this loss trains an autoencoder and an MDN-RNN (models.WorldModels); {type(world_model).__name__} "
                f"has none: use its own objective()."
            )
        if vision_steps < 0 or (cycle_steps and cycle_steps <= vision_steps):
            raise ValueError(
                f"vision_steps is at least 0 and cycle_steps, unless 0, above it, so that M has a turn; got "
                f"vision_steps={vision_steps}, cycle_steps={cycle_steps}."
            )
        self.vision_steps, self.cycle_steps, self.vision_rate = vision_steps, cycle_steps, vision_rate
        self._noise: NoiseSource = world_model.noise_source("observe")
        super().__init__(
            world_model,
            coefficients={
                "kl_tolerance": kl_tolerance,
                "reconstruction_scale": reconstruction_scale,
                "mixture_scale": 1.0 / memory.mixture.size if mixture_scale is None else mixture_scale,
                "reward_scale": reward_scale,
                "termination_scale": termination_scale,
                "termination_weight": termination_weight,
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
        """The terms of the present stage, with fresh noise."""
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
            "kl": kl.clamp(min=cast(Any, self.kl_tolerance * mu.shape[-1])),
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
