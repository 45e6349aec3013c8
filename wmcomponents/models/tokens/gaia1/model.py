"""GAIA-1: Hu et al., GAIA-1: A Generative World Model for Autonomous Driving (2023)."""

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_and_text_of
from wmcomponents.encoders import FrozenEncoder
from wmcomponents.functional import GuidanceSchedule
from wmcomponents.models.tokens.frame_objective import Perceptual
from wmcomponents.models.tokens.gaia1.config import GAIA1Config, GAIA1NetworkConfig
from wmcomponents.models.tokens.gaia1.objective import GAIA1Loss
from wmcomponents.models.tokens.gaia1.parts import dynamics_of, tokenizer_of
from wmcomponents.models.tokens.gaia1.world import TextImageActionModel


class GAIA1(TextImageActionModel):
    """GAIA-1: a discrete autoencoder of images, and a transformer over texts, their codes and actions by turns.

    State: ``tokens`` int64 ``[*B, K]``, the present frame; ``kv_cache`` float ``[*B, streams, layers, 2, heads,
    positions, d]``, keys and values of all that the transformer has read; ``length`` int64 ``[*B, 1]``, how many
    positions of it are in use; ``recent`` float ``[*B, streams, kept positions, dim]``, what is read again where it is
    full; ``hidden`` float ``[*B, dim]``, the output that the frame's first code was told from. With texts ``said``
    float ``[*B, M, W]``, the text in front of the present frame, with which a dream goes on until :meth:`told` another.
    With guidance there are two streams, of the text and of what it is led away from, ``unwanted`` float ``[*B, M, W]``,
    and ``guided`` int64 ``[*B, 1]``, how many frames were. Features: the codes' vectors, and ``hidden``.

    Texts are vectors of an encoder of yours, beside the image in the observation; where it has none, the model does
    without. A dream begins from a frame, from several, or from a text alone: a state that has seen nothing dreams its
    first frame from what it was :meth:`told`. Actions may be left out step by step (:meth:`free_action`).

    The paper's model tells no rewards and no ends: a dream is paid by a function of yours, or by goals. Its video
    decoder, a diffusion model, is not here: what codes look like is told by the tokenizer's own decoder.

    The cache is large. :meth:`imagine` copies it; :meth:`imagine_inplace`, which a simulator uses, writes into the one
    it is given. Steps are not differentiable: codes are choices.

    Args:
        config: sizes; a preset such as ``GAIA1Config.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image, whose sides are multiples of ``downsampling``;
            beside it there may be a text, float ``[text_tokens, text_width]``.
        action_spec: spec of one real action: numbers, one token each; or choices, one token each.

    Raises:
        ValueError: if the observation is no such image and text, or sizes do not fit each other.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> image = Bounded(0, 255, (16, 32, 3), dtype=torch.uint8)
        >>> seen = Composite(pixels=image, text=Unbounded((4, 32)))
        >>> model = GAIA1(GAIA1Config.tiny(), seen, Bounded(-1, 1, (2,)))
        >>> sorted(model.capabilities)
        ['decode', 'features', 'inplace', 'objective']
        >>> night = model.encode_texts(lambda texts: torch.ones(len(texts), 3, 32), ["night"])  # your encoder
        >>> state = model.told(model.initial_state((1,)), night)
        >>> model.decode(model.imagine(state, model.free_action((1,)), None).state)["pixels"].shape
        torch.Size([1, 16, 32, 3])
    """

    config_class = GAIA1Config
    config: GAIA1Config

    def __init__(self, config: GAIA1Config, observation_spec: Composite, action_spec: TensorSpec) -> None:
        net = config.network
        image_key, shape, text_key = _entries(observation_spec, net)
        tokenizer = tokenizer_of(net.tokenizer, shape, image_key)
        s = net.sampling
        super().__init__(
            tokenizer,
            dynamics_of(net, tokenizer.length, ActionVector(action_spec), text_key is not None),
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            text_key=text_key,
            guidance=GuidanceSchedule(s.guidance, s.plateau, s.decay) if s.guidance else None,
            codes_from_data=net.tokenizer.codes_from_data,
        )
        self.config = config

    def guided(self, guidance: float, *, plateau: int = 0, decay: int = 0) -> "GAIA1":
        """A model of the same weights whose dreams follow their texts more, or less, closely.

        Args:
            guidance: see :class:`~wmcomponents.models.GAIA1SamplingConfig`; 0 for none.
            plateau: frames before it decays.
            decay: frames until nothing is guided any more; 0 for no decay.

        Raises:
            ValueError: if the model has no texts, or a number is negative.
        """
        config = self.config.vary(guidance=guidance, plateau=plateau, decay=decay)
        other = GAIA1(config, self.observation_spec, self.action_spec)
        other.load_state_dict(self.state_dict())
        return other.to(next(self.parameters()).device).train(self.training)

    def objective(
        self, perceptual: Perceptual | nn.Module | None = None, backbone: FrozenEncoder | None = None
    ) -> GAIA1Loss:
        """The losses of this model: the tokenizer's first, then the transformer's.

        Args:
            perceptual: distance of images, such as ``LPIPS(backbone)``; no perceptual loss if not given.
            backbone: what the codes are to tell too, such as a DINO in a :class:`~wmcomponents.encoders.FrozenEncoder`;
                nothing if not given.
        """
        c = self.config
        return GAIA1Loss(self, c.loss, optimizer=c.optimizer, perceptual=perceptual, backbone=backbone)


def _entries(spec: Composite, config: GAIA1NetworkConfig) -> tuple[str, tuple[int, int, int], str | None]:
    """Key and shape of the image, and the key of the text.

    Raises:
        ValueError: if there is no such image, anything else, or a text of another encoder.
    """
    image_key, shape, text_key = image_and_text_of(spec, "GAIA-1")
    if text_key is not None:
        c, found = config.transformer, tuple(spec[text_key].shape)
        if found != (c.text_tokens, c.text_width):
            raise ValueError(
                f"a text is text_tokens={c.text_tokens} vectors of text_width={c.text_width} numbers; {text_key!r} of "
                f"the observation is {list(found)}: build the model with text_tokens={found[0]}, "
                f"text_width={found[1]}, or take another encoder."
            )
    return image_key, shape, text_key
