"""LWM: Liu, Yan, Zaharia and Abbeel, World Model on Million-Length Video and Language (2024), as a world to act in."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import SignReward
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.dynamics import TextVisionTransformer, Words
from wmcomponents.models.tokens.base import choices_of
from wmcomponents.models.tokens.frame_model import FrameTokenModel, halvings_of
from wmcomponents.models.tokens.frame_objective import Perceptual
from wmcomponents.models.tokens.lwm import official as official
from wmcomponents.models.tokens.lwm.config import LWMConfig, LWMNetworkConfig, LWMTokenizerConfig
from wmcomponents.models.tokens.lwm.objective import LWMLoss
from wmcomponents.models.tokens.lwm.stages import ContextStage
from wmcomponents.nn import PlainMiddle, VectorQuantizer, VQGANDecoder, VQGANEncoder
from wmcomponents.nn.memory_format import keep_channels_last
from wmcomponents.pretrained.key_map import load_mapped
from wmcomponents.tokenizers import ImageTokenizer


class LWM(FrameTokenModel[TextVisionTransformer]):
    """LWM: a VQGAN of images, and LLaMA over its codes and words; an action is a word between two frames.

    State: ``tokens`` int64 ``[*B, K]``, the present frame; ``kv_cache`` float ``[*B, layers, 2, heads, positions, d]``,
    keys and values of all that the transformer has read; ``length`` int64 ``[*B, 1]``, how many positions of it are in
    use; ``hidden`` float ``[*B, dim]``, the transformer's output at the last action, zero where an episode begins.
    Features: the codes' vectors, and ``hidden``.

    The paper's model has no actions, rewards or ends. Here a frame's codes and ``eof`` are followed by the word of the
    action, at which the text head tells reward and end and the vision head the next frame's first code
    (:class:`~wmcomponents.dynamics.TextVisionTransformer`): no weights are added, so published ones can go on learning.
    It begins from one image. Where a whole block no longer fits, the context is rebuilt from the present frame alone.

    Texts in front of images are ``model.dynamics.generate``'s. Steps are not differentiable: tokens are choices.

    Args:
        config: sizes; a preset such as ``LWMConfig.size7b()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one square uint8 image, whose side is ``grid`` times a power
            of two.
        action_spec: spec of one real action, one choice out of several.

    Raises:
        ValueError: if the observation is not such an image, the action not a choice, or the words do not fit.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded, Categorical
        >>> image = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = LWM(LWMConfig.tiny(), image, Categorical(3))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'inplace', 'objective', 'reward']
    """

    config_class = LWMConfig
    config: LWMConfig

    def __init__(self, config: LWMConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        image_key, (side, _, channels) = image_of(observation_spec, "LWM", is_square=True)
        net, rewards = config.network, SignReward()
        dynamics = _dynamics(net, choices_of(action_spec, "LWM"), rewards.size)
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

    def load_official(
        self, transformer: Mapping[str, Any] | None = None, vqgan: Mapping[str, Any] | None = None
    ) -> "LWM":
        """Take the weights of a checkpoint of LargeWorldModel/LWM, of the same sizes; either part may be left out.

        Args:
            transformer: by flax's names, with dots or slashes: ``params.transformer.h.0.attention.wq.kernel`` ...
            vqgan: likewise: ``encoder.Conv_0.kernel`` ...

        Raises:
            BadModelError: if a key is unknown, missing, or of another shape. Nothing is changed then.
        """
        if transformer is not None:
            load_mapped(self.dynamics, official.merged(official.flat(transformer)), official.RULES)
        if vqgan is not None:
            levels = halvings_of(self.tokenizer.shape[0], self.tokenizer.grid[0]) + 1
            load_mapped(self.tokenizer, official.flat(vqgan), official.vqgan_rules(levels))
        return self

    def at_stage(self, stage: ContextStage) -> "LWM":
        """A model of the same weights with another context and base of its rotary positions, to go on learning.

        Args:
            stage: such as the next of :data:`~wmcomponents.models.VISION_STAGES`.

        Raises:
            ValueError: if the stage's context does not hold two frames.
        """
        longer = LWM(self.config.at_stage(stage), self.observation_spec, self.action_spec)
        longer.load_state_dict(self.state_dict())
        return longer.train(self.training)

    def objective(self, perceptual: Perceptual | nn.Module | None = None) -> LWMLoss:
        """The losses of this model: the tokenizer's first, then the paper's over words and codes.

        Args:
            perceptual: distance of images, such as ``LPIPS(backbone)``; no perceptual loss if not given.
        """
        return LWMLoss(self, self.config.loss, optimizer=self.config.optimizer, perceptual=perceptual)


def _tokenizer(config: LWMTokenizerConfig, side: int, channels: int, image_key: str) -> ImageTokenizer[VectorQuantizer]:
    """The tokenizer of square images.

    Raises:
        ValueError: if the image does not halve to the grid.
    """
    c = config
    levels = halvings_of(side, c.grid) + 1
    mults = (*c.mults, *[c.mults[-1]] * levels)[:levels]
    shape = (c.channels, mults, c.blocks, (), c.latent_channels)
    tokenizer = ImageTokenizer(
        (side, side, channels),
        VQGANEncoder(*shape, channels_in=channels, middle=PlainMiddle),
        VQGANDecoder(*shape, channels_out=channels, middle=PlainMiddle),
        VectorQuantizer(c.vocabulary, c.code, beta=c.beta),
        features=c.latent_channels,
        grid=(c.grid, c.grid),
        in_keys=(image_key,),
    )
    keep_channels_last(tokenizer)
    return tokenizer


def _dynamics(config: LWMNetworkConfig, actions: int, rewards: int) -> TextVisionTransformer:
    c = config.transformer
    last = Words.last(c.text_vocabulary, actions, rewards)
    return TextVisionTransformer(
        config.tokenizer.vocabulary,
        actions,
        spare=c.spare,
        text_vocabulary=c.text_vocabulary,
        frame_tokens=config.tokenizer.grid**2,
        max_frames=c.max_frames,
        layers=c.layers,
        heads=c.heads,
        dim=c.dim,
        hidden=c.hidden,
        theta=c.theta,
        rewards=rewards,
        words=Words(c.action_words or last.actions, c.reward_words or last.rewards, c.end_words or last.ends),
        top_k=c.top_k,
    )
