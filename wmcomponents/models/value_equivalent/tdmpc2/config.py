"""Sizes of a TD-MPC2, its loss and its optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from wmcomponents.functional import episode_discount
from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class TDMPC2NetworkConfig:
    """Sizes of a TD-MPC2's networks; the defaults are the official default, 5M parameters, one task.

    Attributes:
        latent: size of the latent.
        encoder_units: width of the encoder's hidden layers.
        encoder_layers: layers of the encoder, the last one included.
        units: width of the hidden layers of dynamics, heads, policy prior and value functions.
        members: value functions in the ensemble.
        group: size of a simplex of the latent.
        bins: bins of reward and value.
        limit: distance of the outermost bins from 0 in symlog space.
        dropout: share of units dropped in the first layer of the value functions, in training.
        channels: channels of the image encoder's convolutions. For 64x64 images alone, ``latent`` is 16 times this.
        task_size: size of a task's embedding; 0 for a model of one task.
        action_sizes: with several tasks: how many entries of the action each of them has; the others are ignored.
        episodic: whether there is a termination head.
        vectors: how numbers enter: ``"raw"``, as in the paper, or ``"standardize"`` (zero mean and unit variance,
            fitted to data before training).
        rewards: ``"plain"``, as in the paper, or ``"scaled"``: such as the bins cannot hold in units of a power of ten,
            found in data before training.
    """

    latent: int = 512
    encoder_units: int = 256
    encoder_layers: int = 2
    units: int = 512
    members: int = 5
    group: int = 8
    bins: int = 101
    limit: float = 10.0
    dropout: float = 0.01
    channels: int = 32
    task_size: int = 0
    action_sizes: tuple[int, ...] = ()
    episodic: bool = False
    vectors: Literal["raw", "standardize"] = "raw"
    rewards: Literal["plain", "scaled"] = "plain"


@dataclass(frozen=True)
class TDMPC2LossConfig:
    """Numbers of TD-MPC2's objective.

    Attributes:
        horizon: H, transitions that the model is rolled out for in training.
        rho: weight of a step relative to the one before it.
        consistency_scale: c_z, weight of the latent's prediction error.
        reward_scale: c_r, weight of the reward's error.
        value_scale: c_q, weight of the value's error.
        termination_scale: c_d, weight of the termination's error.
        entropy_scale: c_e, weight of the policy prior's entropy.
        tau: share by which target value functions, and the scale of values, move at each update.
        episode_lengths: agent steps of an episode, of each task; the discounts follow from them.
        largest_discount: upper bound of the discounts.
    """

    horizon: int = 3
    rho: float = 0.5
    consistency_scale: float = 20.0
    reward_scale: float = 0.1
    value_scale: float = 0.1
    termination_scale: float = 1.0
    entropy_scale: float = 1e-4
    tau: float = 0.01
    episode_lengths: tuple[int, ...] = (500,)
    largest_discount: float = 0.995

    @property
    def discounts(self) -> tuple[float, ...]:
        """Gamma of each task, by the heuristic of its episodes' length."""
        return tuple(episode_discount(length, high=self.largest_discount) for length in self.episode_lengths)


@dataclass(frozen=True)
class TDMPC2OptimizerConfig:
    """Numbers of TD-MPC2's optimiser, Adam.

    Attributes:
        lr: learning rate.
        encoder_lr_scale: learning rate of the encoder, relative to the rest.
        warmup: updates over which the learning rate rises from 0.
        max_norm: largest norm of the policy prior's gradient, and of the gradient of all the rest.
        policy_eps: Adam's epsilon for the policy prior.
    """

    lr: float = 3e-4
    encoder_lr_scale: float = 0.3
    warmup: int = 0
    max_norm: float = 20.0
    policy_eps: float = 1e-5


@dataclass(frozen=True)
class TDMPC2Config(ModelConfig):
    """A TD-MPC2: its networks, its loss and its optimiser; the defaults are the official default of one task.

    Attributes:
        network: sizes of the networks.
        loss: numbers of the objective.
        optimizer: numbers of the optimiser.
    """

    network: TDMPC2NetworkConfig = field(default_factory=TDMPC2NetworkConfig)
    loss: TDMPC2LossConfig = field(default_factory=TDMPC2LossConfig)
    optimizer: TDMPC2OptimizerConfig = field(default_factory=TDMPC2OptimizerConfig)

    @classmethod
    def tiny(cls, **changes: Any) -> "TDMPC2Config":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Vectors are standardised. The model is rolled out further than in the paper, with a slower fade, and rewards
        have ten times the weight, since it is dreamt in rather than planned with.
        """
        sizes = {"latent": 128, "encoder_units": 64, "units": 64, "members": 2, "channels": 8, "dropout": 0.0}
        kinds = {"vectors": "standardize", "rewards": "scaled", "episodic": True}
        loss = {"horizon": 8, "rho": 0.95, "reward_scale": 1.0}
        return cls().vary(**{**sizes, **kinds, **loss, **changes})

    @classmethod
    def size1(cls, **changes: Any) -> "TDMPC2Config":
        """1M parameters (official preset, like all below)."""
        return cls().vary(**{"units": 384, "latent": 128, "members": 2, **changes})

    @classmethod
    def size5(cls, **changes: Any) -> "TDMPC2Config":
        """5M parameters, the official default; all official checkpoints of one task are of this size."""
        return cls().vary(**changes)

    @classmethod
    def size19(cls, **changes: Any) -> "TDMPC2Config":
        """19M parameters; the checkpoint of 30 tasks has ``latent=512``."""
        sizes = {"encoder_units": 1024, "units": 1024, "latent": 768, "encoder_layers": 3}
        return cls().vary(**{**sizes, **changes})

    @classmethod
    def size48(cls, **changes: Any) -> "TDMPC2Config":
        """48M parameters."""
        sizes = {"encoder_units": 1792, "units": 1792, "latent": 768, "encoder_layers": 4}
        return cls().vary(**{**sizes, **changes})

    @classmethod
    def size317(cls, **changes: Any) -> "TDMPC2Config":
        """317M parameters."""
        sizes = {"encoder_units": 4096, "units": 4096, "latent": 1376, "encoder_layers": 5, "members": 8}
        return cls().vary(**{**sizes, **changes})

    @staticmethod
    def mt30(size: int = 5, action_sizes: Sequence[int] = (6,) * 30, **changes: Any) -> "TDMPC2Config":
        """The official model of 30 DMControl tasks, of a size in {1, 5, 19, 48, 317}.

        Args:
            size: million parameters, roughly.
            action_sizes: entries of the action that each task has; a checkpoint says them.
            **changes: other entries of the config.

        Raises:
            ValueError: if there is no such size.
        """
        task = {"task_size": 96 if size in (1, 317) else 64, "episode_lengths": (500,) * 30}
        latent = {"latent": 512} if size == 19 else {}
        return _of_size(size, **{**task, **latent, "action_sizes": tuple(action_sizes), **changes})

    @staticmethod
    def mt80(size: int = 5, action_sizes: Sequence[int] = (6,) * 80, **changes: Any) -> "TDMPC2Config":
        """The official model of 30 DMControl and 50 Meta-World tasks, of a size in {1, 5, 19, 48, 317}.

        Args:
            size: million parameters, roughly.
            action_sizes: entries of the action that each task has; a checkpoint says them.
            **changes: other entries of the config.

        Raises:
            ValueError: if there is no such size.
        """
        task = {"task_size": 96, "episode_lengths": (500,) * 30 + (100,) * 50}
        return _of_size(size, **{**task, "action_sizes": tuple(action_sizes), **changes})


def _of_size(size: int, **changes: Any) -> TDMPC2Config:
    c = TDMPC2Config
    presets = {1: c.size1, 5: c.size5, 19: c.size19, 48: c.size48, 317: c.size317}
    if size not in presets:
        raise ValueError(f"TD-MPC2's sizes are 1, 5, 19, 48 and 317 (million parameters); got {size}.")
    return presets[size](**changes)
