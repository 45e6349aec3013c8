"""What the world-model losses of PlaNet and the Dreamers share: filter, reconstruct, predict reward and end."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Composite

from wmcomponents.models.rssm.base import Filtered, RSSMWorldModel
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.model_loss import ModelLoss, Terms, check_model
from wmcomponents.world_model import Noise, NoiseSource, State


class RSSMModelLoss(ModelLoss[RSSMWorldModel]):
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

    The continue head learns ``world_model.discount * (1 - terminated)``.

    To train on another device, move the model before making its loss, or move the loss, which moves the model.

    Args:
        world_model: the model to train; parts that it lacks (decoder, reward head, continue head) have no loss.
        reward_scale: weight of the reward's error.
        continue_scale: weight of the continue head's error.
        coefficients: numbers of the divergences, kept as buffers under their names.
        seed: seed of the noise.
        reduction: form of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[B, T + 1]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is no :class:`~wmcomponents.models.RSSMWorldModel`.
        ValueError: for an unknown reduction; on call, if the sequences have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    divergence_terms: tuple[str, ...] = ("divergence",)

    reward_scale: Tensor
    continue_scale: Tensor
    discount: Tensor

    def __init__(
        self,
        world_model: RSSMWorldModel,
        *,
        reward_scale: float = 1.0,
        continue_scale: float = 1.0,
        coefficients: Mapping[str, float] | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, RSSMWorldModel, type(self))
        latent_noise = world_model.dynamics.latent.noise_spec()
        self._noise = NoiseSource(Composite({"stoch": latent_noise, **world_model.preprocessing_noise()}))
        common = {"reward_scale": reward_scale, "continue_scale": continue_scale, "discount": world_model.discount}
        super().__init__(world_model, coefficients=common | dict(coefficients or {}), seed=seed, reduction=reduction)

    @abstractmethod
    def divergences(
        self, filtered: Filtered, prior: Tensor, arrivals: Arrivals, noise: Noise | None
    ) -> dict[str, Tensor]:
        """The weighted terms between posterior and prior, by the names of ``divergence_terms``.

        Args:
            filtered: the filtered arrivals.
            prior: raw parameters of the prior at the same recurrent states, ``[B, L, params]``.
            arrivals: arrivals to learn from, ``[B, L]``.
            noise: base noise from :meth:`draw`; ``None`` takes modes.

        Returns:
            ``[B, L]`` each.
        """

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
            arrivals: arrivals to learn from, ``[B, L]``.
            state: the state before the first, ``[B, ...]``.
            noise: base noise from :meth:`draw`; ``None`` takes modes.

        Returns:
            Losses and diagnostics, each ``[B, L]``.
        """
        model = self.world_model
        latent = model.dynamics.latent
        observation = model.preprocessed(arrivals.observation, noise)
        filtered = model.filter_sequence(state, arrivals.action, observation, arrivals.is_init, noise)
        prior = model.dynamics.prior(filtered.deter)
        losses = self.divergences(filtered, prior, arrivals, noise)
        info: dict[str, Tensor] = {}
        with torch.no_grad():
            info["kl"] = latent.kl(filtered.posterior, prior)
            info["posterior_entropy"] = latent.entropy(filtered.posterior)
            info["prior_entropy"] = latent.entropy(prior)
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
