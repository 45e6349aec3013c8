"""The actor-critics of IRIS, Delta-IRIS and DIAMOND as assemblies, for any world model that shows one image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from wmcomponents.agents.actor_critic.optimizers import SharedAdam
from wmcomponents.agents.actor_critic.recurrent import RecurrentActorCritic
from wmcomponents.agents.actor_critic.recurrent_imagination import NEEDS, RecurrentImaginationLoss
from wmcomponents.agents.actor_critic.recurrent_policy import Reconstruction
from wmcomponents.codecs import ActionVector
from wmcomponents.dream.starts import model_device
from wmcomponents.heads import HeadDistribution
from wmcomponents.models.tokens.base import CachedTransformerModel
from wmcomponents.nn import FrameFeatures, PooledConvs, ResidualConvs
from wmcomponents.objectives import ExponentialAverage
from wmcomponents.tokenizers import ImageTokenizer
from wmcomponents.world_model import CapabilityError, WorldModel, items_of

CHANNELS = (32, 32, 64, 64)
"""Of IRIS's and DIAMOND's convolutions."""


def iris_loss(
    model: WorldModel,
    *,
    units: int = 512,
    channels: Sequence[int] = CHANNELS,
    coarsest: int = 4,
    seed: int = 0,
    **changes: Any,
) -> RecurrentImaginationLoss:
    """IRIS's behaviour: dreams from the last frame alone, of 20 steps of which the last only bootstraps.

    In an IRIS the policy reads reality through the tokenizer, as in the paper; elsewhere it reads the frames.

    Args:
        model: shows one image, predicts rewards, is acted on by one choice.
        units: size of the memory.
        channels: of the convolutions.
        coarsest: smallest side of the map that they leave.
        seed: of the dreams.
        **changes: of :class:`RecurrentImaginationLoss`.

    Reference: Micheli et al., Transformers are Sample-Efficient World Models (2023), and the authors' code.

    Example:
        >>> from torchrl.data import Bounded, Composite, OneHot
        >>> from wmcomponents.models import IRIS, IRISConfig
        >>> image = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> loss = iris_loss(IRIS(IRISConfig.tiny(), image, OneHot(3)), units=16)
        >>> loss.horizon, loss.burn_in, loss.context
        (19, 20, 1)
    """

    def encoder(channels_in: int, shape: tuple[int, int]) -> nn.Module:
        return PooledConvs(channels_in, *fitted(channels, shape, coarsest))

    tokenizer = model.tokenizer if isinstance(model, CachedTransformerModel) else None
    return RecurrentImaginationLoss(
        model,
        _network(model, encoder, units),
        **{
            "horizon": 19,
            "discount": 0.995,
            "entropy_scale": 1e-3,
            "burn_in": 20,
            "context": 1,
            "ends": "ignore",
            "view": Reconstruction(tokenizer) if isinstance(tokenizer, ImageTokenizer) else None,
            "optimizer": SharedAdam(1e-4, 10.0),
            "seed": seed,
            **changes,
        },
    )


def delta_iris_loss(
    model: WorldModel,
    *,
    units: int = 512,
    mults: Sequence[int] = (1, 1, 1),
    coarsest: int = 8,
    value: HeadDistribution | None = None,
    seed: int = 0,
    **changes: Any,
) -> RecurrentImaginationLoss:
    """Delta-IRIS's behaviour on Atari: values of a target network, and nothing is learned behind an end.

    The authors' memory reads padding frames too; here it begins with the episode.

    Args:
        model: shows one image, predicts rewards, is acted on by one choice.
        units: size of the memory.
        mults: multiples of 32, the channels of the convolutions.
        coarsest: smallest side of the map that they leave.
        value: what the critic's outputs mean; a number if not given (Crafter: two-hot of the symlog, with
            ``horizon=15, discount=0.997, entropy_scale=1e-3``).
        seed: of the dreams.
        **changes: of :class:`RecurrentImaginationLoss`.

    Reference: Micheli et al., Efficient World Models with Context-Aware Tokenization (2024), and the authors' code.
    """

    def encoder(channels_in: int, shape: tuple[int, int]) -> nn.Module:
        multiples, halves = fitted(mults, shape, coarsest)
        return FrameFeatures(channels_in, mults=multiples, halves=halves)

    network = _network(model, encoder, units, value=value)
    nn.init.zeros_(network.critic.weight)
    nn.init.zeros_(network.critic.bias)
    return RecurrentImaginationLoss(
        model,
        network,
        **{
            "horizon": 20,
            "discount": 0.995,
            "entropy_scale": 2e-3,
            "burn_in": 5,
            "context": 6,
            "ends": "stop",
            "follow": ExponentialAverage(0.005),
            "optimizer": SharedAdam(1e-4, 10.0),
            "seed": seed,
            **changes,
        },
    )


def diamond_loss(
    model: WorldModel,
    *,
    units: int = 512,
    channels: Sequence[int] = CHANNELS,
    coarsest: int = 4,
    seed: int = 0,
    **changes: Any,
) -> RecurrentImaginationLoss:
    """DIAMOND's behaviour: signs of rewards, heads that begin at zero, a new start where a dream has ended.

    Args:
        model: shows one image, predicts rewards, is acted on by one choice.
        units: size of the memory.
        channels: of the convolutions.
        coarsest: smallest side of the map that they leave.
        seed: of the dreams.
        **changes: of :class:`RecurrentImaginationLoss`.

    Reference: Alonso et al., Diffusion for World Modeling (2024), appendix, and the authors' code.
    """

    def encoder(channels_in: int, shape: tuple[int, int]) -> nn.Module:
        return ResidualConvs(channels_in, *fitted(channels, shape, coarsest))

    return RecurrentImaginationLoss(
        model,
        _network(model, encoder, units, zero_heads=True),
        **{
            "horizon": 15,
            "discount": 0.985,
            "entropy_scale": 1e-3,
            "burn_in": 3,
            "context": 4,
            "reward": torch.sign,
            "ends": "restart",
            "optimizer": SharedAdam(1e-4, 100.0, warmup=100),
            "seed": seed,
            **changes,
        },
    )


def fitted(channels: Sequence[int], shape: tuple[int, int], coarsest: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Channels of convolutions, and which of them halve the image, so that its grid becomes small but not too small.

    Args:
        channels: of the paper's convolutions, for images of 64x64; the last is repeated for larger images.
        shape: height and width of the image.
        coarsest: smallest side that a halving may leave.

    >>> fitted((32, 32, 64, 64), (16, 16), 4)
    ((32, 32, 64, 64), (True, True, False, False))
    >>> fitted((1, 1, 1), (128, 128), 8)
    ((1, 1, 1, 1), (True, True, True, True))
    """
    halvings, side = 0, min(shape)
    while side // 2 >= coarsest:
        side, halvings = side // 2, halvings + 1
    wide = (*channels, *(channels[-1] for _ in range(halvings - len(channels))))
    return wide, tuple(number < halvings for number in range(len(wide)))


def _network(
    model: WorldModel,
    encoder: Callable[[int, tuple[int, int]], nn.Module],
    units: int,
    *,
    value: HeadDistribution | None = None,
    zero_heads: bool = False,
) -> RecurrentActorCritic:
    NEEDS.check(model, "A recurrent actor-critic")
    ((key, leaf),) = items_of(model.observation_spec)
    height, width, channels = leaf.shape
    if channels > min(height, width) or not _is_readable(leaf):
        raise CapabilityError(
            f"a recurrent actor-critic reads images [H, W, C] of bytes, or boards of planes between 0 and 1; "
            f"{key!r} is {list(leaf.shape)}, {leaf.dtype}. Move the channels last and give bytes: "
            f"make_env(..., from_pixels=True), or gymnasium.wrappers.TransformObservation."
        )
    parts = encoder(channels, (height, width))
    with torch.no_grad():
        features = parts(torch.zeros(1, channels, height, width)).shape[-1]
    actions = ActionVector(model.action_spec).size
    network = RecurrentActorCritic(parts, features, actions=actions, units=units, value=value, zero_heads=zero_heads)
    return network.to(model_device(model))


def _is_readable(leaf: Any) -> bool:
    if not leaf.dtype.is_floating_point:
        return leaf.dtype in (torch.uint8, torch.bool)
    space = getattr(leaf, "space", None)
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    return low is not None and high is not None and bool((low >= 0).all()) and bool((high <= 1).all())
