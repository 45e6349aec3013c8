"""Sizes of an Open-Sora world, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any

from wmcomponents.models.diffusion.diamond.config import RewardEndConfig
from wmcomponents.models.diffusion.film_objective import ForcingOptimizerConfig
from wmcomponents.models.diffusion.nwm.config import ConvAutoencoderConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class STDiT3Config:
    """Sizes of Open-Sora 1.2's network.

    Attributes:
        dim: size of a token.
        depth: number of pairs of blocks, over space and over time.
        heads: of each attention.
        patch: side of a patch of the latent.
        text_tokens: vectors of an encoded text.
        text_width: size of such a vector (T5-XXL's is 4096).
        square: side of the square, in pixels, to whose scale positions are brought.
        fps: frames a second that the network is told.
    """

    dim: int = 1152
    depth: int = 28
    heads: int = 16
    patch: int = 2
    text_tokens: int = 300
    text_width: int = 4096
    square: float = 512.0
    fps: float = 24.0


@dataclass(frozen=True)
class MMDiTConfig:
    """Sizes of Open-Sora 2.0's network.

    Attributes:
        dim: size of a token.
        two_streams: blocks where film and text have maps of their own.
        one_stream: blocks behind them, where both share theirs.
        heads: of each attention.
        shares: channels of a head that are turned by time, row and column.
        patch: side of a patch of the latent.
        text_tokens: vectors of an encoded text.
        text_width: size of such a vector (T5-XXL's is 4096).
    """

    dim: int = 3072
    two_streams: int = 19
    one_stream: int = 38
    heads: int = 24
    shares: tuple[int, int, int] = (16, 56, 56)
    patch: int = 2
    text_tokens: int = 512
    text_width: int = 4096


@dataclass(frozen=True)
class FlowSamplingConfig:
    """How frames are drawn along the flow; ``model.sampling`` may be set later.

    Attributes:
        steps: of Euler.
        text_guidance: how far a film is led away from what would be without its text; 1 for no guidance. Each of the
            two takes another call of the network in every step; with both at 1 there is one alone.
        past_guidance: how far it is led away from what would be without past and text; 1 for no guidance.
        steady: first steps in which the text guides; after them it does in every second one alone. In all if not given.
    """

    steps: int = 30
    text_guidance: float = 7.0
    past_guidance: float = 1.0
    steady: int | None = None


@dataclass(frozen=True)
class OpenSoraNetworkConfig:
    """Sizes of the networks, the flow and how frames are drawn.

    Attributes:
        frames: of the window, in training and in dreams.
        autoencoder: sizes of what makes latents; ``None`` where one is handed over (``tokenizer=``).
        transformer: the network along the flow, of 1.2 or of 2.0, and its sizes.
        shift: how many times the odds of noise are raised, in training and in sampling, as larger films need it; by the
            film's size, as published, if not given.
        sampling: how frames are drawn; ``model.sampling`` may be set later.
        reward_end: sizes of the model of reward and termination, which the published model does not have; ``None`` for
            none.
    """

    frames: int = 15
    autoencoder: ConvAutoencoderConfig | None = field(
        default_factory=lambda: ConvAutoencoderConfig(width=32, mults=(1, 2, 2), blocks=1, scale=1.0)
    )
    transformer: STDiT3Config | MMDiTConfig = field(default_factory=STDiT3Config)
    shift: float | None = None
    sampling: FlowSamplingConfig = field(default_factory=FlowSamplingConfig)
    reward_end: RewardEndConfig | None = None


@dataclass(frozen=True)
class GivenFramesConfig:
    """How often which frames of a film are given in training, see :func:`~wmcomponents.functional.given_frames`.

    Nothing is given in the rest. The defaults are a world's: half of the films are to be gone on with.

    Attributes:
        past: any number of first frames; not published, and what a world is asked for.
        random: each frame by chance.
        interpolate: every second frame.
        quarter_random: up to a quarter of the frames, behind one another.
        quarter_head: the first of them.
        quarter_tail: the last of them.
        quarter_head_tail: both.
        image_random: one frame.
        image_head: the first.
        image_tail: the last.
        image_head_tail: both.
    """

    past: float = 0.5
    random: float = 0.05
    interpolate: float = 0.005
    quarter_random: float = 0.005
    quarter_head: float = 0.005
    quarter_tail: float = 0.005
    quarter_head_tail: float = 0.005
    image_random: float = 0.025
    image_head: float = 0.05
    image_tail: float = 0.025
    image_head_tail: float = 0.025


@dataclass(frozen=True)
class OpenSoraLossConfig:
    """Numbers of the losses.

    Attributes:
        given: how often which frames are given.
        time_mean: of the logarithm of the odds of noise, before the shift.
        time_std: its standard deviation.
        text_dropout: share of films whose text is hidden, which guidance needs.
        autoencoder_steps: updates of the autoencoder before the network's begin.
        kl_scale: of the divergence of latents from the standard normal, a mean over their numbers.
        worst: factor on the squared error of the autoencoder's worst number of an image, which a mean hardly sees.
    """

    given: GivenFramesConfig = field(default_factory=GivenFramesConfig)
    time_mean: float = 0.0
    time_std: float = 1.0
    text_dropout: float = 0.1
    autoencoder_steps: int = 20_000
    kl_scale: float = 1e-3
    worst: float = 0.0


@dataclass(frozen=True)
class OpenSoraConfig(ModelConfig):
    """Sizes of an Open-Sora world and its training; the defaults are those of 1.2.

    Attributes:
        network: sizes, flow and sampling.
        loss: numbers of the losses.
        optimizer: numbers of AdamW.
    """

    network: OpenSoraNetworkConfig = field(default_factory=OpenSoraNetworkConfig)
    loss: OpenSoraLossConfig = field(default_factory=OpenSoraLossConfig)
    optimizer: ForcingOptimizerConfig = field(
        default_factory=lambda: ForcingOptimizerConfig(lr=1e-4, weight_decay=0.0, betas=(0.9, 0.999), warmup=1000)
    )

    @classmethod
    def tiny(cls, **changes: Any) -> "OpenSoraConfig":
        """For images of 8 to 32 pixels a side on a CPU, with reward and end: minutes, not hours. 1.2's network."""
        levels = {"depths": (1, 1), "attends": (False, False)}
        sizes = {
            "frames": 8,
            "autoencoder": ConvAutoencoderConfig(width=32, mults=(1, 1), blocks=1, scale=1.0),
            "transformer": STDiT3Config(64, 3, 4, 1, text_tokens=4, text_width=32, square=64.0),
            "shift": 1.0,
            "sampling": FlowSamplingConfig(steps=4, text_guidance=1.0),
            "reward_end": RewardEndConfig(hidden=64, cond=32, channels=(8, 16), **levels),
        }
        return cls().vary(**{**sizes, "lr": 1e-3, "warmup": 100, "autoencoder_steps": 1000, **changes})

    @classmethod
    def tiny_two_streams(cls, **changes: Any) -> "OpenSoraConfig":
        """As ``tiny``, with the network of 2.0."""
        return cls.tiny(
            **{"transformer": MMDiTConfig(64, 2, 2, 4, (4, 6, 6), 1, text_tokens=4, text_width=32), **changes}
        )

    @classmethod
    def open_sora_1_2(cls, **changes: Any) -> "OpenSoraConfig":
        """The network, the flow and the masks of 1.2; latents of 4 channels are handed over (``tokenizer=``)."""
        return cls().vary(**{"autoencoder": None, "autoencoder_steps": 0, "past": 0.0, **changes})

    @classmethod
    def open_sora_2_0(cls, **changes: Any) -> "OpenSoraConfig":
        """The network and the flow of 2.0; latents of 16 channels are handed over (``tokenizer=``)."""
        sampling = FlowSamplingConfig(50, 7.5, 3.0, steady=10)
        found = {"transformer": MMDiTConfig(), "sampling": sampling, "text_dropout": 0.316}
        return cls().vary(**{"autoencoder": None, "autoencoder_steps": 0, **found, **changes})
