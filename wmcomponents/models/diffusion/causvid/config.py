"""Sizes of a CausVid world, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.models.diffusion.diamond.config import RewardEndConfig
from wmcomponents.models.diffusion.diffusion_forcing.config import FilmUNetConfig
from wmcomponents.models.diffusion.film_objective import ForcingOptimizerConfig
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class CausVidSamplingConfig:
    """How frames are drawn; ``model.sampling`` may be set later.

    Attributes:
        steps: from noise to frames, at most those that the student was trained for.
    """

    steps: int = 4


@dataclass(frozen=True)
class CausVidNetworkConfig:
    """Sizes of the networks, and how frames are drawn.

    Attributes:
        frames: of the window, in training and in dreams.
        block: frames that the student denoises together, each of which sees the others.
        unet: sizes of teacher, student and critic.
        trained_steps: S, steps that the student is trained for.
        target: what the networks predict: the flow's ``"velocity"`` as published, or ``"clean"``, the frame, from which
            the velocity is told.
        sampling: how frames are drawn; ``model.sampling`` may be set later.
        reward_end: sizes of the model of reward and termination, which the paper's does not have; ``None`` for none.
    """

    frames: int = 21
    block: int = 3
    unet: FilmUNetConfig = field(default_factory=FilmUNetConfig)
    trained_steps: int = 4
    target: Literal["velocity", "clean"] = "velocity"
    sampling: CausVidSamplingConfig = field(default_factory=CausVidSamplingConfig)
    reward_end: RewardEndConfig | None = None


@dataclass(frozen=True)
class CausVidLossConfig:
    """Numbers of the losses.

    Attributes:
        teacher_steps: updates of the teacher before the student's begin; 0 for one that is trained already.
        ode_steps: updates of the student towards the teacher's films before it is matched with the data.
        solver_steps: Euler's, of the teacher's ODE from noise to a film; a multiple of the student's steps.
        guidance: scale of the teacher's guidance by actions; 1 for none.
        action_dropout: share of films whose actions are hidden from the teacher, which guidance needs.
        critic_updates: of the model of what the student gives, for each of the student's.
        score_shift: how far the times at which both models are asked are moved towards noise.
        score_range: the lowest and the highest of these times.
    """

    teacher_steps: int = 100_000
    ode_steps: int = 3_000
    solver_steps: int = 48
    guidance: float = 4.5
    action_dropout: float = 0.1
    critic_updates: int = 5
    score_shift: float = 8.0
    score_range: tuple[float, float] = (0.02, 0.98)


@dataclass(frozen=True)
class CausVidOptimizerConfig(ForcingOptimizerConfig):
    """Numbers of AdamW, with each network's gradient clipped by itself.

    Attributes:
        lr: learning rate of student and critic.
        teacher_lr: of the teacher, and of the model of reward and end.
    """

    lr: float = 2e-6
    teacher_lr: float = 1e-4
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 0


@dataclass(frozen=True)
class CausVidConfig(ModelConfig):
    """Sizes of a CausVid world and its training; numbers of the distillation are the authors', sizes ours.

    Attributes:
        network: sizes and sampling.
        loss: numbers of the losses.
        optimizer: numbers of AdamW.
    """

    network: CausVidNetworkConfig = field(default_factory=CausVidNetworkConfig)
    loss: CausVidLossConfig = field(default_factory=CausVidLossConfig)
    optimizer: CausVidOptimizerConfig = field(default_factory=CausVidOptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "CausVidConfig":
        """For images of 10 to 32 pixels a side on a CPU, with reward and end: minutes, not hours."""
        levels = {"depths": (1, 1), "attends": (False, False)}
        sizes = {
            "frames": 8,
            "block": 1,
            "unet": FilmUNetConfig(dim=16, multiples=(1, 2), heads=2, head_dim=16),
            "reward_end": RewardEndConfig(hidden=64, cond=32, channels=(8, 16), **levels),
        }
        losses = {"teacher_steps": 1000, "ode_steps": 300, "solver_steps": 12, "guidance": 1.0, "action_dropout": 0.0}
        return cls().vary(**{**sizes, **losses, "lr": 2e-4, "teacher_lr": 1e-3, "warmup": 100, **changes})

    @classmethod
    def video(cls, **changes: Any) -> "CausVidConfig":
        """For video, such as DMLab and Minecraft at 64 or 128 pixels a side: no reward, no end; sizes are ours."""
        return cls().vary(**changes)
