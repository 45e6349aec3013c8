"""IRIS: Micheli, Alonso and Fleuret, Transformers are Sample-Efficient World Models (ICLR 2023)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torchrl.data import Bounded, Composite, OneHot, TensorSpec

from wmcomponents.codecs import SignReward
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.dynamics import TokenTransformer
from wmcomponents.models.tokens.base import choices_of
from wmcomponents.models.tokens.frame_model import FrameTokenModel, halvings_of
from wmcomponents.models.tokens.frame_objective import Perceptual
from wmcomponents.models.tokens.iris import official as official
from wmcomponents.models.tokens.iris.config import IRISConfig, IRISNetworkConfig, IRISTokenizerConfig
from wmcomponents.models.tokens.iris.objective import IRISLoss
from wmcomponents.nn import VectorQuantizer, VQGANDecoder, VQGANEncoder
from wmcomponents.nn.memory_format import keep_channels_last
from wmcomponents.pretrained.key_map import load_mapped
from wmcomponents.tokenizers import ImageTokenizer


class IRIS(FrameTokenModel[TokenTransformer]):
    """IRIS: a discrete autoencoder of images, and a transformer over their tokens and the actions.

    State: ``tokens`` int64 ``[*B, K]``, the present frame; ``kv_cache`` float ``[*B, layers, 2, heads, positions, d]``,
    keys and values of all that the transformer has read; ``length`` int64 ``[*B, 1]``, how many positions of it are in
    use; ``hidden`` float ``[*B, dim]``, the transformer's output at the last action, zero where an episode begins.
    Features: the codes of the tokens, as the decoder reads them, and ``hidden``.

    A step reads the action, and from its output the reward, the end and the first token; each further token from the
    output at the one before. Where a whole block no longer fits, the context is rebuilt from the present frame alone,
    and positions start at 0 again: of each row by itself.

    The cache is large (7 MB a row at the paper's size). :meth:`imagine` copies it; :meth:`imagine_inplace`, which a
    simulator uses, writes into the one it is given. Steps are not differentiable: tokens are choices.

    Args:
        config: sizes; a preset such as ``IRISConfig.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one square uint8 image, whose side is ``grid`` times a power
            of two.
        action_spec: spec of one real action, one choice out of several.

    Raises:
        ValueError: if the observation is not such an image, or the action not a choice.

    Example:
        >>> image = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = IRIS(IRISConfig.tiny(), image, OneHot(3))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'inplace', 'objective', 'reward']
    """

    config_class = IRISConfig
    config: IRISConfig

    def __init__(self, config: IRISConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        image_key, (side, _, channels) = image_of(observation_spec, "IRIS", is_square=True)
        net, rewards = config.network, SignReward()
        dynamics = _dynamics(net, choices_of(action_spec, "IRIS"), rewards.size)
        tokenizer = _tokenizer(net.tokenizer, side, channels, image_key)
        super().__init__(
            tokenizer,
            dynamics,
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            rewards=rewards,
            codes_from_data=net.tokenizer.codes_from_data,
        )
        self.config = config

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        heads: int = 4,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
    ) -> "IRIS":
        """The world model of an agent's checkpoint of eloialonso/iris; its actor and critic are left out.

        Args:
            weights: the agent's ``state_dict``.
            heads: of the attention, which the weights do not tell.
            observation_spec: the key of the image; ``pixels`` if not given.
            action_spec: of the environment; a one-hot choice if not given.

        Raises:
            BadModelError: if a key is unknown, missing, or of another shape.
        """
        sizes = official.sizes(weights)
        side, actions = sizes.pop("side"), sizes.pop("actions")
        shown = Composite(pixels=Bounded(0, 255, torch.Size([side, side, 3]), dtype=torch.uint8))
        model = cls(
            IRISConfig().vary(**sizes, heads=heads),
            shown if observation_spec is None else observation_spec,
            OneHot(actions) if action_spec is None else action_spec,
        )
        return load_mapped(model, official.merged(weights), official.RULES).eval()

    def objective(self, perceptual: Perceptual | nn.Module | None = None) -> IRISLoss:
        """The paper's losses for this model: the tokenizer's first, then the transformer's.

        Args:
            perceptual: distance of images, such as ``LPIPS(backbone)``; no perceptual loss if not given.
        """
        return IRISLoss(self, self.config.loss, optimizer=self.config.optimizer, perceptual=perceptual)


def _tokenizer(
    config: IRISTokenizerConfig, side: int, channels: int, image_key: str
) -> ImageTokenizer[VectorQuantizer]:
    """The tokenizer of square images.

    Raises:
        ValueError: if the image does not halve to the grid.
    """
    c = config
    levels = halvings_of(side, c.grid) + 1
    attends = [level for level in range(levels) if side >> level in c.attention]
    shape = (c.channels, (1,) * levels, c.blocks, attends, c.latent_channels)
    tokenizer = ImageTokenizer(
        (side, side, channels),
        VQGANEncoder(*shape, channels_in=channels),
        VQGANDecoder(*shape, channels_out=channels),
        VectorQuantizer(c.vocabulary, c.code, beta=c.beta),
        features=c.latent_channels,
        grid=(c.grid, c.grid),
        in_keys=(image_key,),
    )
    keep_channels_last(tokenizer)
    return tokenizer


def _dynamics(config: IRISNetworkConfig, actions: int, rewards: int) -> TokenTransformer:
    c = config.transformer
    return TokenTransformer(
        config.tokenizer.vocabulary,
        actions,
        frame_tokens=config.tokenizer.grid**2,
        max_frames=c.max_frames,
        layers=c.layers,
        heads=c.heads,
        dim=c.dim,
        dropout=c.dropout,
        causality=c.causality,
        rewards=rewards,
    )
