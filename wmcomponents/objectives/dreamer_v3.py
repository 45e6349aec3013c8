"""DreamerV3's world-model loss (Hafner et al., Mastering Diverse Domains through World Models, eq. 4 and 5)."""

from typing import Any, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.dynamics import RSSM
from wmcomponents.functional import balanced_kl
from wmcomponents.objectives.arrivals import Arrivals, arrivals_from
from wmcomponents.objectives.model_loss import ModelLoss, Terms
from wmcomponents.world_model import Noise, NoiseSource, State, WorldModel

TERMS = ("dyn", "rep", "reconstruction", "reward", "continue")


class DreamerV3ModelLoss(ModelLoss):
    r"""World-model objective of DreamerV3 on TorchRL-layout sequences.

    .. math:: L = \sum_k L^{rec}_k + L^{rew} + L^{con} + \beta_{dyn} L^{dyn} + \beta_{rep} L^{rep}

    Sequences ``[B, T]`` of transitions are read as T + 1 arrivals, so that the observation that ended an episode is
    learned from too. The recurrent state starts at zeros; the posterior's noise comes from this module's own generator.

    Keys read (rename with ``set_keys``): the observation keys, ``action``, ``is_init``; under ``next`` the observation
    keys, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")``, whose padding may
    hold anything, and ``priority_weight``, one for each transition.

    Keys written: ``loss_dyn``, ``loss_rep``, ``loss_reconstruction`` (sum over observations), ``loss_reward``,
    ``loss_continue``, each weighted and meant to be summed; and detached diagnostics: ``kl`` (nats, without free nats),
    ``posterior_entropy``, ``prior_entropy``, and the error of every observation as ``error_<key>``.

    To train on another device, move the model before making its loss, or move the loss, which moves the model.

    Args:
        world_model: a model around an RSSM (encoder, dynamics, decoder, reward and continue head; absent parts have no
            loss).
        free_nats: KL below this has no gradient; per element, summed over the latent's groups.
        dyn_scale: weight of the dynamics loss (1.0; 0.5 in the 2023 generation).
        rep_scale: weight of the representation loss.
        discount: the continue head learns ``discount * (1 - terminated)``, official 1 - 1/333.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is not built around an RSSM.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    free_nats: Tensor
    dyn_scale: Tensor
    rep_scale: Tensor
    discount: Tensor

    def __init__(
        self,
        world_model: WorldModel,
        *,
        free_nats: float = 1.0,
        dyn_scale: float = 1.0,
        rep_scale: float = 0.1,
        discount: float = 1.0 - 1.0 / 333,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if not isinstance(getattr(world_model, "dynamics", None), RSSM):
            raise TypeError(
                f"this loss trains world models around an RSSM (models.RSSMWorldModel); {type(world_model).__name__} "
                f"is none: use its own objective()."
            )
        self._noise: NoiseSource = world_model.noise_source("observe")
        super().__init__(
            world_model,
            coefficients={
                "free_nats": free_nats,
                "dyn_scale": dyn_scale,
                "rep_scale": rep_scale,
                "discount": discount,
            },
            seed=seed,
            reduction=reduction,
        )

    def _written(self) -> list[NestedKey]:
        model = self.world_model
        parts = {"reconstruction": model.decoder, "reward": model.reward_head, "continue": model.continue_head}
        losses = [f"loss_{term}" for term in TERMS if term not in parts or parts[term] is not None]
        errors = [] if model.decoder is None else [f"error_{key}" for key in self.observation_keys]
        return [*losses, "kl", "posterior_entropy", "prior_entropy", *errors]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Refused: the filter has a backward pass written by hand, faster than one that is compiled.

        Compiled, the sequence is unrolled in the graph, which takes minutes; compiling only what follows the filter
        saved a tenth of the time of a small model's step.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "DreamerV3ModelLoss is not compiled: it would take minutes and gain little over the filter's hand-written "
            "backward pass. Leave out compile=True."
        )

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences, from zeros and with fresh noise."""
        keys = self.tensor_keys
        arrivals = arrivals_from(
            tensordict,
            self.observation_keys,
            action=keys.action,
            is_init=keys.is_init,
            reward=keys.reward,
            terminated=keys.terminated,
            done=keys.done,
            mask=keys.mask,
            priority_weight=keys.priority_weight,
        )
        batch = arrivals.is_init.shape[:-1]
        state = self.world_model.initial_state(batch[:1], arrivals.is_init.device)
        noise = None if self._noise.empty else self._noise(batch, self.generator)
        return Terms(*self.terms(arrivals, state, noise), arrivals.weight)

    def terms(
        self, arrivals: Arrivals, state: State, noise: Noise | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every weighted term of the objective, element by element.

        Args:
            arrivals: ``[B, L]`` arrivals.
            state: the state before the first, ``[B, ...]``.
            noise: of the posterior, ``[B, L, ...]``; ``None`` takes modes.

        Returns:
            Losses and diagnostics, each ``[B, L]``.
        """
        model = self.world_model
        dynamics, latent = model.dynamics, model.dynamics.latent
        deter, stoch, posterior = dynamics.observe_sequence(
            state["deter"],
            state["stoch"],
            model.action_vector(arrivals.action),
            model.encoder.embed(arrivals.observation),
            arrivals.is_init,
            None if noise is None else noise["stoch"],
        )
        prior = dynamics.prior(deter)
        dyn, rep = balanced_kl(latent.kl, posterior, prior, cast(Any, self.free_nats))
        feat = dynamics.features(deter, stoch)
        losses = {"dyn": self.dyn_scale * dyn, "rep": self.rep_scale * rep}
        info: dict[str, Tensor] = {}
        with torch.no_grad():
            info["kl"] = latent.kl(posterior, prior)
            info["posterior_entropy"] = latent.entropy(posterior)
            info["prior_entropy"] = latent.entropy(prior)
        if model.decoder is not None:
            errors = model.decoder.loss(model.decoder.raw(deter, stoch), arrivals.observation)
            losses["reconstruction"] = torch.stack(list(errors.values())).sum(0)
            info.update({f"error_{key}": error for key, error in errors.items()})
        if model.reward_head is not None:
            # A two-hot target is finite for any reward; the second term is 0, or NaN for a reward that is not a number.
            reward = arrivals.reward
            error = model.reward_head.loss(model.reward_head.raw(feat), reward) + 0.0 * reward.squeeze(-1)
            losses["reward"] = torch.where(arrivals.reward_known.squeeze(-1), error, torch.zeros_like(error))
        if model.continue_head is not None:
            target = self.discount * (~arrivals.terminated).to(feat.dtype)
            losses["continue"] = model.continue_head.loss(model.continue_head.raw(feat), target)
        return losses, info
