"""What the world-model losses of PlaNet and the Dreamers share: filter, reconstruct, predict reward and end."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Composite

from wmcomponents.dynamics import RSSM
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.model_loss import ModelLoss, Terms
from wmcomponents.world_model import Noise, NoiseSource, State, WorldModel


class Filtered(NamedTuple):
    """A batch of arrivals, filtered.

    Attributes:
        deter: recurrent states, ``[B, L, D]``.
        stoch: samples of the posterior, ``[B, L, *latent.shape]``.
        posterior: its raw parameters, ``[B, L, params]``.
        prior: raw parameters of the prior at the same recurrent states, ``[B, L, params]``.
        action: vectors of the actions that led to each arrival, ``[B, L, A]``.
        is_init: where an episode begins, bool ``[B, L, 1]``.
        weight: of each element in the losses, ``[B, L]``.
        noise: everything that was drawn for this batch, or ``None`` for modes.
    """

    deter: Tensor
    stoch: Tensor
    posterior: Tensor
    prior: Tensor
    action: Tensor
    is_init: Tensor
    weight: Tensor
    noise: Noise | None


class RSSMModelLoss(ModelLoss):
    r"""Base of the world-model objectives around an RSSM, on TorchRL-layout sequences.

    .. math:: L = \sum_k L^{rec}_k + w_r L^{rew} + w_c L^{con} + \text{divergences}

    A paper's objective writes :meth:`divergences`, the terms between posterior and prior, and names them in
    ``divergence_terms``; errors of reconstructions and rewards are those of the decoder and the heads.

    Sequences ``[B, T]`` of transitions are read as T + 1 arrivals, so that the observation that ended an episode is
    learned from too. The recurrent state starts at the model's initial one; noise comes from this module's own
    generator.

    Keys read (rename with ``set_keys``): the observation keys, ``action``, ``is_init``; under ``next`` the observation
    keys, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")``, whose padding may
    hold anything, and ``priority_weight``, one for each transition.

    Keys written: ``loss_<term>`` for each divergence, ``loss_reconstruction`` (sum over observations), ``loss_reward``,
    ``loss_continue``, each weighted and meant to be summed; and detached diagnostics: ``kl`` (nats, without free nats),
    ``posterior_entropy``, ``prior_entropy``, and the error of every observation as ``error_<key>``.

    To train on another device, move the model before making its loss, or move the loss, which moves the model.

    Args:
        world_model: a model around an RSSM (encoder, dynamics, decoder, reward and continue head; absent parts have no
            loss).
        reward_scale: weight of the reward's error.
        continue_scale: weight of the continue head's error.
        discount: the continue head learns ``discount * (1 - terminated)``.
        coefficients: further numbers of the objective, kept as buffers under their names.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is not built around an RSSM.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    divergence_terms: tuple[str, ...] = ("divergence",)

    reward_scale: Tensor
    continue_scale: Tensor
    discount: Tensor

    def __init__(
        self,
        world_model: WorldModel,
        *,
        reward_scale: float = 1.0,
        continue_scale: float = 1.0,
        discount: float = 1.0,
        coefficients: Mapping[str, float] | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if not isinstance(getattr(world_model, "dynamics", None), RSSM):
            raise TypeError(
                f"this loss trains world models around an RSSM (models.RSSMWorldModel); {type(world_model).__name__} "
                f"is none: use its own objective()."
            )
        model = cast(Any, world_model)
        self._noise = NoiseSource(Composite(stoch=model.dynamics.latent.noise_spec(), **model.preprocessing_noise()))
        common = {"reward_scale": reward_scale, "continue_scale": continue_scale, "discount": discount}
        super().__init__(world_model, coefficients=common | dict(coefficients or {}), seed=seed, reduction=reduction)

    @abstractmethod
    def divergences(self, filtered: Filtered) -> dict[str, Tensor]:
        """The weighted terms between posterior and prior, ``[B, L]`` each, by the names of ``divergence_terms``."""

    def draw(self, arrivals: Arrivals) -> Noise | None:
        """The noise that training on a batch takes, ``[B, L, ...]`` each: of the posterior, and of preprocessing."""
        return self._noise(arrivals.is_init.shape[:-1], self.generator)

    def _written(self) -> list[NestedKey]:
        model = self.world_model
        parts = {"reconstruction": model.decoder, "reward": model.reward_head, "continue": model.continue_head}
        losses = [*self.divergence_terms, *(term for term, part in parts.items() if part is not None)]
        errors = [] if model.decoder is None else [f"error_{key}" for key in self.observation_keys]
        return [*(f"loss_{term}" for term in losses), "kl", "posterior_entropy", "prior_entropy", *errors]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Refused: compiled, the filter is unrolled over the sequence in the graph, which takes minutes.

        DreamerV3's has a backward pass written by hand besides, faster than a compiled one; compiling only what follows
        the filter saved a tenth of the time of a small model's step.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} is not compiled: its filter would be unrolled over the sequence, which would take "
            f"minutes and gain little. Leave out compile=True."
        )

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences, from the initial state and with fresh noise."""
        arrivals = self.arrivals(tensordict)
        state = self.world_model.initial_state(arrivals.is_init.shape[:1], arrivals.is_init.device)
        return Terms(*self.terms(arrivals, state, self.draw(arrivals)), arrivals.weight)

    def terms(
        self, arrivals: Arrivals, state: State, noise: Noise | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every weighted term of the objective, element by element.

        Args:
            arrivals: ``[B, L]`` arrivals.
            state: the state before the first, ``[B, ...]``.
            noise: from :meth:`draw`; ``None`` takes modes.

        Returns:
            Losses and diagnostics, each ``[B, L]``.
        """
        model = self.world_model
        latent = model.dynamics.latent
        observation = model.preprocessed(arrivals.observation, noise)
        filtered = self._filter(arrivals, observation, state, noise)
        losses = self.divergences(filtered)
        info: dict[str, Tensor] = {}
        with torch.no_grad():
            info["kl"] = latent.kl(filtered.posterior, filtered.prior)
            info["posterior_entropy"] = latent.entropy(filtered.posterior)
            info["prior_entropy"] = latent.entropy(filtered.prior)
        if model.decoder is not None:
            errors = model.decoder.loss(model.decoder.raw(filtered.deter, filtered.stoch), observation)
            losses["reconstruction"] = torch.stack(list(errors.values())).sum(0)
            info.update({f"error_{key}": error for key, error in errors.items()})
        feat = model.dynamics.features(filtered.deter, filtered.stoch)
        if model.reward_head is not None:
            # A two-hot target is finite for any reward; the second term is 0, or NaN for a reward that is not a number.
            reward = arrivals.reward
            error = model.reward_head.loss(model.reward_head.raw(feat), reward) + 0.0 * reward.squeeze(-1)
            error = torch.where(arrivals.reward_known.squeeze(-1), error, torch.zeros_like(error))
            losses["reward"] = self.reward_scale * error
        if model.continue_head is not None:
            target = self.discount * (~arrivals.terminated).to(feat.dtype)
            error = model.continue_head.loss(model.continue_head.raw(feat), target)
            losses["continue"] = self.continue_scale * error
        return losses, info

    def _filter(
        self, arrivals: Arrivals, observation: dict[str, Tensor], state: State, noise: Noise | None
    ) -> Filtered:
        model = self.world_model
        action = model.action_vector(arrivals.action)
        deter, stoch, posterior = model.dynamics.observe_sequence(
            state["deter"],
            state["stoch"],
            action,
            model.encoder.embed(observation),
            arrivals.is_init,
            None if noise is None else noise["stoch"],
        )
        prior = model.dynamics.prior(deter)
        return Filtered(deter, stoch, posterior, prior, action, arrivals.is_init, arrivals.weight, noise)
