"""Open-Sora as a world: Zheng et al., Open-Sora (2024), and Peng et al., Open-Sora 2.0 (2025), with actions added."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_and_text_of
from wmcomponents.codecs.text_vectors import text_vectors
from wmcomponents.functional import EulerFlowSampler, oscillating_scale, three_way
from wmcomponents.functional.film_window import part_at, put_at
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.film_world import SAID, FilmDiffusionWorld, FilmPast
from wmcomponents.models.diffusion.nwm.config import ConvAutoencoderConfig
from wmcomponents.models.diffusion.open_sora.config import FlowSamplingConfig, OpenSoraConfig
from wmcomponents.models.diffusion.open_sora.flows import FlowCondition, flow_of
from wmcomponents.models.diffusion.open_sora.objective import OpenSoraLoss
from wmcomponents.nn import ConvAutoencoder
from wmcomponents.tokenizers import LatentTokenizer
from wmcomponents.world_model import State


class OpenSora(FilmDiffusionWorld[FlowSamplingConfig]):
    """Open-Sora as a world of images, actions and texts: frames flow from noise to data in the light of given ones.

    Frames are latents; they become pictures when someone looks. New frames are noise that follows a rectified flow for
    a few steps, in a film whose first frames, the last of the dream, are given and stay as they are. Every frame of the
    film looks at every other. The network is Open-Sora 1.2's or 2.0's, as the config says.

    Open-Sora has no actions; here the vector of each is told to the network with the frame it leads to, by a map that
    begins at zero. Texts are vectors of an encoder of yours, beside the image in the observation; where it has none,
    the model does without.

    State: ``window`` float ``[*B, W, L, h, w]``, the last frames' latents, oldest first; ``led`` float ``[*B, W, A]``,
    the vector of the action that led to each, 0 where none did; ``filled`` int64 ``[*B, 1]``, how many there are; with
    texts ``said`` float ``[*B, M, E]``, which a dream goes on with until it is :meth:`told` another; ``h`` and ``c``
    float ``[*B, hidden]``, the memory of the model of reward and termination, if there is one.

    Noise of a dream's step: ``frame``, normal, where the flow begins; ``reward``, uniform.

    How frames are sampled is a property of the model: :attr:`sampling`, which may be set.

    Args:
        config: sizes; a preset such as ``OpenSoraConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image (H, W, C); beside it there may be a text, float
            ``[text_tokens, text_width]``.
        action_spec: spec of one real action: a choice, several bits, or numbers.
        tokenizer: makes latents of images, such as :func:`~wmcomponents.tokenizers.diffusers_tokenizer` gives; where
            the config has no autoencoder. Used as it is; its weights are saved with the model's.

    Raises:
        ValueError: if the observation is no such image and text, patches do not fill the latent, or there is neither an
            autoencoder nor a tokenizer, or both.

    Example:
        >>> from torchrl.data import Bounded, OneHot
        >>> pixels = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = OpenSora(OpenSoraConfig.tiny(), pixels, OneHot(4))
        >>> model.frame_shape, sorted(model.capabilities)
        ((4, 8, 8), ['continue', 'decode', 'objective', 'reward'])
        >>> model.sampling = FlowSamplingConfig(steps=2, text_guidance=1.0)  # a knob, at any time
    """

    config_class = OpenSoraConfig
    config: OpenSoraConfig

    def __init__(
        self,
        config: OpenSoraConfig,
        observation_spec: Composite,
        action_spec: TensorSpec,
        tokenizer: LatentTokenizer | None = None,
    ) -> None:
        net = config.network
        image_key, (height, width, channels), text_key = image_and_text_of(observation_spec, "Open-Sora")
        tokenizer = _tokenizer(net.autoencoder, tokenizer, channels)
        shape = _latent_shape(tokenizer, (height, width, channels))
        action, reward_end = ActionVector(action_spec).size, None
        if net.reward_end is not None:
            r = net.reward_end
            grid = (*shape[1:], shape[0])
            reward_end = RewardEndHead(grid, action, r.hidden, r.cond, r.depths, r.channels, r.attends)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            frames=net.frames,
            shape=shape,
            reward_end=reward_end,
            text_key=text_key,
        )
        self.config, self.tokenizer = config, tokenizer
        self.network = flow_of(net.transformer, shape, action, (height, width))
        expected = (self.network.text_tokens, self.network.text_width)
        if text_key is not None and tuple(observation_spec[text_key].shape) != expected:
            raise ValueError(
                f"a text is text_tokens={expected[0]} vectors of text_width={expected[1]} numbers; {text_key!r} of the "
                f"observation is {list(observation_spec[text_key].shape)}: build the transformer's config so, or take "
                f"another encoder."
            )
        self.shift = self.network.shift(net.frames) if net.shift is None else net.shift
        self.settle_sampling(net.sampling)

    def objective(self) -> OpenSoraLoss:
        """The autoencoder's loss, then that of the flow."""
        return OpenSoraLoss(self, self.config.loss, optimizer=self.config.optimizer)

    # -- how frames are drawn ------------------------------------------------------------------------------------------

    def make_sampler(self, sampling: FlowSamplingConfig) -> None:
        """Make what draws frames from now on.

        Raises:
            ValueError: unless there is a step, and guidance is at least 0.
        """
        s = sampling
        if min(s.text_guidance, s.past_guidance) < 0.0 or (s.steady is not None and s.steady < 0):
            raise ValueError(
                f"guidance is at least 0, 1 for none, and steady at least 0; got text_guidance={s.text_guidance}, "
                f"past_guidance={s.past_guidance}, steady={s.steady}."
            )
        self.sampler = EulerFlowSampler(s.steps, self.shift)

    def step_noise(self, frames: int = 1) -> dict[str, TensorSpec]:
        """Where the flow begins."""
        return {"frame": Unbounded(torch.Size([frames, *self.frame_shape]))}

    def draw(self, past: FilmPast, led: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """New frames, at the end of the flow."""
        rows, count = led.shape[:2]
        film, action = (F.pad(x, (0, 0) * (x.ndim - 2) + (0, count)) for x in (past.frames, past.led))
        at = torch.arange(film.shape[1], device=led.device)
        action = put_at(action, led, past.count)
        under = FlowCondition(at < past.count, at < past.count + count, action, past.said)
        start = noise.get("frame")
        start = film.new_zeros(rows, count, *self.frame_shape) if start is None else start

        def velocity(x: Tensor, time: float, step: int) -> Tensor:
            whole, now = put_at(film, x, past.count), x.new_full((rows,), time)
            return self.guided(lambda told: part_at(self.network(whole, now, told), past.count, count), under, step)

        return self.sampler.sample(velocity, start)

    def guided(self, says: Callable[[FlowCondition], Tensor], under: FlowCondition, step: int) -> Tensor:
        """A velocity, led away from what it would be without the text and without the past.

        Args:
            says: the velocity under a condition.
            under: the condition.
            step: of sampling, from 0.
        """
        s, conditional = self.sampling, says(under)
        text = 1.0 if under.text is None else s.text_guidance
        if s.steady is not None:
            text = oscillating_scale(text, step, s.steady)
        if text == s.past_guidance == 1.0:
            return conditional
        without_text = conditional if under.text is None else says(under._replace(text=None))
        without_past = without_text
        if s.past_guidance != 1.0:
            alone = FlowCondition(torch.zeros_like(under.known), under.present & ~under.known, under.action)
            without_past = says(alone)
        return three_way(conditional, without_text, without_past, text, s.past_guidance)

    # -- images and texts ----------------------------------------------------------------------------------------------

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Latents of images, the means."""
        return self.tokenizer.latents(pixels)

    def pixels_of(self, frames: Tensor) -> Tensor:
        """What latents look like."""
        return self.tokenizer.pixels(frames)

    @torch.no_grad()
    def encode_texts(self, encode: Callable[[Sequence[str]], Tensor], texts: Sequence[str]) -> Tensor:
        """Texts as observations show them: float ``[N, M, E]``, cut or filled up with zeros.

        Args:
            encode: the text encoder that the model learned with, ``[N, L, E]``; its outputs behind the end of a text
                are best zero, which says nothing.
            texts: N of them.

        Raises:
            ValueError: if the encoder is of another width, or the model has no texts.
        """
        if self.text_key is None:
            raise ValueError("this model has no texts: its observation is an image alone.")
        found = text_vectors(encode(texts).detach(), self.network.text_tokens, self.network.text_width)
        return found.to(next(self.parameters()).device)

    def told(self, state: State, text: Tensor) -> State:
        """A state whose further frames follow a text.

        Args:
            state: ``[*B]``. One that has seen nothing (``initial_state``) dreams its first frame from the text.
            text: ``[*B, M, E]`` or ``[M, E]``; zeros say nothing.

        Raises:
            ValueError: if the model has no texts, or the text is of another encoder.
        """
        expected = (self.network.text_tokens, self.network.text_width)
        if self.text_key is None or tuple(text.shape[-2:]) != expected:
            raise ValueError(
                f"a model whose observation has a text is told {expected[0]} vectors of {expected[1]} numbers; got "
                f"{list(text.shape)}{'' if self.text_key else ', and no text in the observation'}: see encode_texts."
            )
        return {**state, SAID: text.to(state[SAID]).expand_as(state[SAID]).clone()}


def _tokenizer(
    config: ConvAutoencoderConfig | None, tokenizer: LatentTokenizer | None, channels: int
) -> LatentTokenizer:
    if (config is None) == (tokenizer is None):
        raise ValueError(
            "latents are made by an autoencoder of the config (autoencoder=ConvAutoencoderConfig()) or by one that is "
            f"handed over (tokenizer=, and autoencoder=None); got {'both' if tokenizer is not None else 'neither'}."
        )
    if tokenizer is not None:
        return tokenizer
    assert config is not None
    part = ConvAutoencoder(channels, config.latent, config.width, config.mults, config.blocks)
    return LatentTokenizer(part, scale=config.scale)


def _latent_shape(tokenizer: LatentTokenizer, image: Sequence[int]) -> tuple[int, int, int]:
    """Shape of an image's latent; nothing is computed."""
    weights = {
        name: torch.empty_like(value, device="meta")
        for name, value in (*tokenizer.named_parameters(), *tokenizer.named_buffers())
    }
    pixels = torch.zeros(1, *image, dtype=torch.uint8, device="meta")
    latent = torch.func.functional_call(tokenizer, weights, (pixels,))
    channels, rows, columns = latent.shape[1:]
    return channels, rows, columns
