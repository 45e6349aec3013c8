"""Sizes of an AVID world, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.diffusion.diamond.config import RewardEndConfig
from wmcomponents.models.diffusion.diffusion_forcing.config import FilmUNetConfig
from wmcomponents.models.diffusion.film_objective import ForcingOptimizerConfig
from wmcomponents.models.diffusion.forcing_world import ForcingProcessConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class AVIDSamplingConfig:
    """How frames are drawn; ``model.sampling`` may be set later.

    Attributes:
        steps: from noise to a film, for all of its frames together.
        sampler: ``"ancestral"``, with fresh noise in every step, or ``"ddim"``.
        eta: how much of the noise is fresh in a step of DDIM.
        clip: largest magnitude of the data that is guessed; ``None`` where it is not bounded.
    """

    steps: int = 200
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    eta: float = 0.0
    clip: float | None = 1.0


@dataclass(frozen=True)
class AVIDNetworkConfig:
    """Sizes of the networks, the process and how frames are drawn.

    Attributes:
        frames: of a film that is drawn at once, in training; at most so many in dreams.
        context: past frames that every frame has beside it.
        is_causal: whether no frame of a film sees a later one; the authors' do.
        base: sizes of the video model; ``None`` where the user hands one over.
        adapter: sizes of the adapter.
        mixture: how both are mixed: by a learned mask, or added.
        process: levels of noise, and what base and mixture predict.
        sampling: how frames are drawn; ``model.sampling`` may be set later.
        reward_end: sizes of the model of reward and termination, which the paper's worlds do not have; ``None`` for
            none.
    """

    frames: int = 8
    context: int = 2
    is_causal: bool = False
    base: FilmUNetConfig | None = field(default_factory=lambda: FilmUNetConfig(100, (1, 2, 4, 8), 4, 32))
    adapter: FilmUNetConfig = field(default_factory=lambda: FilmUNetConfig(50, (1, 2, 4, 8), 4, 32))
    mixture: Literal["masked", "added"] = "masked"
    process: ForcingProcessConfig = field(default_factory=lambda: ForcingProcessConfig(200, "sigmoid", "clean"))
    sampling: AVIDSamplingConfig = field(default_factory=AVIDSamplingConfig)
    reward_end: RewardEndConfig | None = None


@dataclass(frozen=True)
class AVIDLossConfig:
    """Numbers of the losses.

    Attributes:
        base_steps: updates of the base before the adapter's begin; a base that was handed over gets none.
        snr_clip: the most that a signal to noise ratio counts; ``None`` for the ratio itself.
        short_context: share of films of whose past only some frames are shown, the oldest of them in place of those
            before it, as dreams that begin with a single frame have it; the paper's begin with all of them.
    """

    base_steps: int = 260_000
    snr_clip: float | None = None
    short_context: float = 0.0


@dataclass(frozen=True)
class AVIDConfig(ModelConfig):
    """Sizes of an AVID world and its training; the defaults are those of the authors' smaller adapter for Procgen.

    Attributes:
        network: sizes, process and sampling.
        loss: numbers of the losses.
        optimizer: numbers of AdamW, which without decay is Adam.
    """

    network: AVIDNetworkConfig = field(default_factory=AVIDNetworkConfig)
    loss: AVIDLossConfig = field(default_factory=AVIDLossConfig)
    optimizer: ForcingOptimizerConfig = field(
        default_factory=lambda: ForcingOptimizerConfig(lr=1e-4, weight_decay=0.0, betas=(0.9, 0.99), warmup=0)
    )

    @classmethod
    def tiny(cls, **changes: Any) -> "AVIDConfig":
        """For images of 10 to 32 pixels a side on a CPU, with reward and end: minutes, not hours.

        It predicts the frame in place of the noise, as other small worlds of films do.
        """
        levels = {"depths": (1, 1), "attends": (False, False)}
        sizes = {
            "frames": 6,
            "is_causal": True,
            "base": FilmUNetConfig(dim=16, multiples=(1, 2), heads=2, head_dim=16),
            "adapter": FilmUNetConfig(dim=8, multiples=(1, 2), heads=2, head_dim=16),
            "process": ForcingProcessConfig(1000, "sigmoid", "clean"),
            "sampling": AVIDSamplingConfig(steps=4, sampler="ddim"),
            "reward_end": RewardEndConfig(hidden=64, cond=32, channels=(8, 16), **levels),
        }
        losses = {"base_steps": 1000, "snr_clip": 5.0, "short_context": 0.2}
        return cls().vary(**{**sizes, **losses, "lr": 1e-3, "warmup": 100, **changes})

    @classmethod
    def procgen22m(cls, **changes: Any) -> "AVIDConfig":
        """The authors' adapter of 22 million weights, for Procgen at 64 pixels a side: no reward, no end."""
        return cls().vary(**changes)

    @classmethod
    def procgen71m(cls, **changes: Any) -> "AVIDConfig":
        """The authors' adapter of 71 million weights."""
        return cls().vary(**{"adapter": FilmUNetConfig(90, (1, 2, 4, 8), 4, 32), **changes})
