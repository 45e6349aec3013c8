"""The papers' actor-critics as assemblies of the parts, for any world model with features and rewards."""

from typing import Any

import torch

from wmcomponents.agents.actor_critic.action_distributions import (
    ActionDistribution,
    BoundedNormalActions,
    CategoricalActions,
    TanhNormalActions,
    TruncatedNormalActions,
)
from wmcomponents.agents.actor_critic.actor import Actor
from wmcomponents.agents.actor_critic.estimators import DynamicsGradient, NormalizedDynamicsGradient, Reinforce
from wmcomponents.agents.actor_critic.imagination import ImaginationLoss
from wmcomponents.agents.actor_critic.normalizers import NoNormalizer, PercentileNormalizer, RankNormalizer
from wmcomponents.agents.actor_critic.optimizers import OneAdam, TwoAdams
from wmcomponents.agents.actor_critic.targets import ArrivalReturn, FutureReturn, OwnValueReturn
from wmcomponents.codecs import ActionVector, DiscreteCodec
from wmcomponents.dream.starts import model_device
from wmcomponents.heads import NormalHead, PreprintTwoHotHead, TwoHotHead
from wmcomponents.objectives import ExponentialAverage, PeriodicCopy
from wmcomponents.world_model import WorldModel

CRITIC_KEYS: Any = {"in_keys": ("latent",), "out_keys": ("state_value_logits", "state_value")}


def dreamer_v1_loss(model: WorldModel, *, units: int = 400, seed: int = 0, **changes: Any) -> ImaginationLoss:
    """Dreamer's behaviour: the return's gradient through the dream, no entropy, no slow critic.

    Args:
        model: offers features and rewards; numbers as actions, or one-hot choices.
        units: width of actor (4 layers) and critic (3).
        seed: of the dreams.
        **changes: of :class:`ImaginationLoss`.

    Reference: Hafner et al., Dream to Control (2020), and the authors' code.
    """
    features, action = _sizes(model)
    size = action.size
    distribution = _categorical(action) or TanhNormalActions(size)
    old: Any = {"norm": "none", "act": "elu"}
    return ImaginationLoss(
        model,
        Actor(features, model.action_spec, distribution=distribution, units=units, layers=4, outscale=1.0, **old),
        NormalHead(features, units, 3, **old, **CRITIC_KEYS),
        **{
            "targets": ArrivalReturn(from_start=False),
            "estimator": DynamicsGradient(),
            "normalizer": NoNormalizer(),
            "follow": None,
            "slow_scale": 0.0,
            "entropy_scale": 0.0,
            "discount": 0.99,
            "seed": seed,
            "optimizer": TwoAdams(8e-5, 8e-5, eps=1e-7),
            **changes,
        },
    )


def dreamer_v2_loss(model: WorldModel, *, units: int = 400, seed: int = 0, **changes: Any) -> ImaginationLoss:
    """DreamerV2's behaviour: the score function for choices, the dream's gradient for numbers; a copied slow critic.

    Args:
        model: offers features and rewards.
        units: width of the four layers of actor and critic.
        seed: of the dreams.
        **changes: of :class:`ImaginationLoss`; such as ``estimator=MixedGradient(0.1)``.

    Reference: Hafner et al., Mastering Atari with Discrete World Models (2021), eq. 4 to 6, and the authors' code.
    """
    features, action = _sizes(model)
    choices = _categorical(action)
    distribution = choices or TruncatedNormalActions(action.size)
    old: Any = {"norm": "none", "act": "elu"}
    return ImaginationLoss(
        model,
        Actor(features, model.action_spec, distribution=distribution, units=units, layers=4, outscale=1.0, **old),
        NormalHead(features, units, 4, **old, **CRITIC_KEYS),
        **{
            "targets": ArrivalReturn(),
            "estimator": Reinforce() if choices else DynamicsGradient(),
            "normalizer": NoNormalizer(),
            "follow": PeriodicCopy(100),
            "bootstrap": "slow",
            "slow_scale": 0.0,
            "entropy_scale": 1e-3 if choices else 1e-4,
            "discount": 0.999 if choices else 0.99,
            "seed": seed,
            "optimizer": TwoAdams(*((4e-5, 1e-4) if choices else (8e-5, 8e-5)), eps=1e-5, decay=1e-6),
            **changes,
        },
    )


def dreamer_v3_preprint_loss(model: WorldModel, *, units: int = 512, seed: int = 0, **changes: Any) -> ImaginationLoss:
    """The behaviour of DreamerV3's preprint: numbers learn through the dream, choices by the score function.

    Args:
        model: offers features and rewards.
        units: width of actor and critic, of three layers each.
        seed: of the dreams.
        **changes: of :class:`ImaginationLoss`.

    Reference: Hafner et al., Mastering Diverse Domains through World Models, arXiv 2301.04104v1 (2023).
    """
    features, action = _sizes(model)
    choices = _categorical(action, unimix=0.01)
    distribution = choices or BoundedNormalActions(action.size)
    return ImaginationLoss(
        model,
        Actor(features, model.action_spec, distribution=distribution, units=units, norm="keras_layer"),
        PreprintTwoHotHead(features, units, 3, **CRITIC_KEYS),
        **{
            "estimator": Reinforce() if choices else NormalizedDynamicsGradient(),
            "discount": 0.997,
            "seed": seed,
            "optimizer": TwoAdams(3e-5, 3e-5, eps=1e-5),
            **changes,
        },
    )


def dreamer_v3_loss(model: WorldModel, *, units: int = 256, seed: int = 0, **changes: Any) -> ImaginationLoss:
    """DreamerV3's behaviour: the score function for all actions, percentile returns, a slow critic as regulariser.

    Choices are mixed with one percent of the uniform distribution, as in the paper; its code of today leaves that out.

    Args:
        model: offers features and rewards.
        units: width of actor and critic, of three layers each; that of the model's heads in the presets.
        seed: of the dreams.
        **changes: of :class:`ImaginationLoss`.

    Reference: Hafner et al., Mastering Diverse Domains through World Models (2025), eq. 6 to 8.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.models import DreamerV3, DreamerV3Config
        >>> model = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> loss = dreamer_v3_loss(model, units=32, horizon=3)
        >>> from tensordict import TensorDict
        >>> found = loss(TensorDict(model.initial_state((8,)), [8]))
        >>> sorted(key for key in found.keys() if key.startswith("loss"))
        ['loss_actor', 'loss_critic']
    """
    features, action = _sizes(model)
    distribution = _categorical(action, unimix=0.01) or BoundedNormalActions(action.size)
    return ImaginationLoss(
        model,
        Actor(features, model.action_spec, distribution=distribution, units=units),
        TwoHotHead(features, units, 3, **CRITIC_KEYS),
        **{
            "targets": FutureReturn(),
            "estimator": Reinforce(),
            "normalizer": PercentileNormalizer(),
            "follow": ExponentialAverage(0.02),
            "seed": seed,
            **changes,
        },
    )


def storm_loss(model: WorldModel, *, units: int = 512, seed: int = 0, **changes: Any) -> ImaginationLoss:
    """STORM's behaviour: that of DreamerV3's preprint, with returns and a regulariser of its own.

    The score function for all actions. Returns are :class:`OwnValueReturn`, the critic is kept near those that are
    built on the slow critic's values, and the percentiles are returns of the batch.

    Args:
        model: offers features and rewards.
        units: width of actor and critic, of two layers each.
        seed: of the dreams.
        **changes: of :class:`ImaginationLoss`.

    Reference: Zhang et al., STORM (2023), eq. 6 to 10, and the authors' code.
    """
    features, action = _sizes(model)
    distribution = _categorical(action) or BoundedNormalActions(action.size)
    plain: Any = {"norm": "layer", "act": "relu", "bias": False, "outscale": 1.0}
    return ImaginationLoss(
        model,
        Actor(features, model.action_spec, distribution=distribution, units=units, layers=2, **plain),
        PreprintTwoHotHead(features, units, 2, **plain, **CRITIC_KEYS),
        **{
            "targets": OwnValueReturn(),
            "estimator": Reinforce(),
            "normalizer": RankNormalizer(),
            "follow": ExponentialAverage(0.02),
            "slow_target": "return",
            "horizon": 16,
            "discount": 0.985,
            "seed": seed,
            "optimizer": OneAdam(),
            **changes,
        },
    )


def _sizes(model: WorldModel) -> tuple[int, ActionVector]:
    model.require("features", driver="an actor-critic", remedy="write features().")
    with torch.no_grad():
        features = model.features(model.initial_state((1,), model_device(model))).shape[-1]
    return features, ActionVector(model.action_spec)


def _categorical(action: ActionVector, unimix: float = 0.0) -> ActionDistribution | None:
    codec = action.codec
    return CategoricalActions(codec.classes, unimix) if isinstance(codec, DiscreteCodec) else None
