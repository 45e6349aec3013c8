"""STORM's world-model loss (Zhang et al., STORM, NeurIPS 2023, eq. 3 to 5)."""

from functools import partial
from typing import Protocol

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer
from torchrl.data import Composite

from wmcomponents.codecs.action import ActionVector
from wmcomponents.decoders import VAEDecoder
from wmcomponents.dynamics import StateActionTransformer
from wmcomponents.functional import averaged_free_nats
from wmcomponents.functional.distributions.kl import split_kl
from wmcomponents.heads import Head
from wmcomponents.models.tokens.storm.config import STORMLossConfig, STORMOptimizerConfig
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import ModelLoss, Terms, TrainableModel, check_model
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Noise, NoiseSource, Observation


class STORMModel(TrainableModel, Protocol):
    """What the loss trains: a STORM, or a model made of the same parts."""

    decoder: VAEDecoder
    dynamics: StateActionTransformer
    reward_head: Head
    continue_head: Head
    action_vector: ActionVector

    def encode(self, observation: Observation) -> Tensor:
        """Raw parameters of the posterior, ``[*B, params]``."""
        ...


class STORMLoss(ModelLoss[STORMModel]):
    r"""World-model objective of STORM on TorchRL-layout sequences.

    .. math::
        L = \sum_k L^{rec}_k + L^{rew} + L^{con}
            + \beta_1 \max(n, \overline{KL(sg(q_{t+1}) \| p_{t+1})})
            + \beta_2 \max(n, \overline{KL(q_{t+1} \| sg(p_{t+1}))})

    The latent is that of the observation alone; the prior, the reward and the end are told by the transformer's output
    at the step that led there. Each divergence is averaged over the whole batch before it is compared with the free
    nats. The betas are ``dyn_scale`` and ``rep_scale``, n is ``free_nats``.

    Sequences ``[B, T]`` of transitions are read as T + 1 arrivals, so that the observation that ended an episode is
    learned from too. They may be longer than the context and cross from episode to episode: the transformer sees
    nothing of another episode, and begins with nothing known where its positions are used up.

    Keys read (rename with ``set_keys``): the observation keys, ``action``, ``is_init``; under ``next`` the observation
    keys, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")``, whose padding may
    hold anything, and ``priority_weight``, one for each transition.

    Keys written: ``loss_reconstruction`` (sum over observations), ``loss_reward``, ``loss_continue``, ``loss_dyn``,
    ``loss_rep``, each weighted and meant to be summed; and detached diagnostics: ``kl`` (nats, without free nats),
    ``posterior_entropy``, ``prior_entropy``, and the error of every observation as ``error_<key>``.

    Args:
        world_model: the model to train.
        config: weights of the loss; the paper's if not given.
        optimizer: numbers of :meth:`make_optimizer`; the paper's if not given.
        seed: seed of the noise.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    free_nats: Tensor
    dyn_scale: Tensor
    rep_scale: Tensor

    def __init__(
        self,
        world_model: STORMModel,
        config: STORMLossConfig | None = None,
        *,
        optimizer: STORMOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, STORMModel, type(self))
        c = loss_part(STORMLossConfig, config)
        self.optimizer_config = optimizer_part(STORMOptimizerConfig, optimizer)
        self._noise = NoiseSource(Composite(stoch=world_model.dynamics.latent.noise_spec()))
        weights = {"free_nats": c.free_nats, "dyn_scale": c.dyn_scale, "rep_scale": c.rep_scale}
        super().__init__(world_model, coefficients=weights, seed=seed, reduction=reduction)

    def _written(self) -> list[NestedKey]:
        losses = [f"loss_{name}" for name in ("reconstruction", "reward", "continue", "dyn", "rep")]
        errors = [f"error_{key}" for key in self.observation_keys]
        return [*losses, "kl", "posterior_entropy", "prior_entropy", *errors]

    def draw(self, arrivals: Arrivals) -> Noise | None:
        """The noise that the posterior takes in training on a batch, ``[B, L, groups]``."""
        return self._noise(arrivals.is_init.shape[:-1], self.generator)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences, with fresh noise."""
        arrivals = self.arrivals(tensordict)
        return self.terms(arrivals, self.draw(arrivals))

    def terms(self, arrivals: Arrivals, noise: Noise | None) -> Terms:
        """Every weighted term of the objective, element by element.

        Args:
            arrivals: arrivals to learn from, ``[B, L]``.
            noise: base noise from :meth:`draw`; ``None`` takes modes.

        Returns:
            Losses, diagnostics and their weights, each ``[B, L]``.
        """
        model = self.world_model
        latent, dynamics = model.dynamics.latent, model.dynamics
        posterior = model.encode(arrivals.observation)
        stoch = latent.sample(posterior, None if noise is None else noise["stoch"])
        begins = arrivals.is_init.squeeze(-1).clone()
        begins[:, 0] = True  # wherever in its episode the sequence begins, nothing is known of what led there
        before = torch.cat([torch.zeros_like(stoch[:, :1]), stoch[:, :-1]], 1)
        hidden = dynamics.outputs(dynamics.mix(before, model.action_vector(arrivals.action)), begins)
        prior = dynamics.prior(hidden)
        told = arrivals.weight * ~begins
        dyn, rep = split_kl(latent.kl, posterior, prior)
        free = partial(averaged_free_nats, nats=self.free_nats, weight=told)
        errors = model.decoder.loss(model.decoder.raw(stoch.flatten(-2)), arrivals.observation)
        reward, cont = model.reward_head, model.continue_head
        losses = {
            "reconstruction": torch.stack(list(errors.values())).sum(0),
            # A two-hot target is finite for any reward; the second term is 0, or NaN for what is not a number.
            "reward": reward.loss(reward.raw(hidden), arrivals.reward) + 0.0 * arrivals.reward.squeeze(-1),
            "continue": cont.loss(cont.raw(hidden), (~arrivals.terminated).to(hidden.dtype)),
            "dyn": self.dyn_scale * free(dyn),
            "rep": self.rep_scale * free(rep),
        }
        with torch.no_grad():
            info = {
                "kl": dyn.detach(),
                "posterior_entropy": latent.entropy(posterior),
                "prior_entropy": latent.entropy(prior),
                **{f"error_{key}": error for key, error in errors.items()},
            }
        whole = {"reconstruction", "posterior_entropy", *(f"error_{key}" for key in errors)}
        weight = {name: arrivals.weight if name in whole else told for name in (*losses, *info)}
        return Terms(losses, info, weight)

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam behind a clipped gradient.

        Args:
            lr: learning rate; the configured one if not given.
            warmup: steps over which the rate grows from 0; the configured ones if not given.
        """
        c = self.optimizer_config
        params = [p for p in self.parameters() if p.requires_grad]
        rate, steps = c.lr if lr is None else lr, c.warmup if warmup is None else warmup
        return ClippedAdam(params, rate, max_norm=c.max_norm, warmup=steps)
