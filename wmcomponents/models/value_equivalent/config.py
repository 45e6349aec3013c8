"""Numbers that the losses of MuZero's family and their optimisers have in common."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ValueEquivalentLossConfig:
    """Numbers of a loss that unrolls a latent along real actions.

    Attributes:
        unroll: K, steps of the model that are trained.
        td_steps: n of the value target.
        discount: gamma, of one step of the agent.
        state_gradient: factor on the latent's gradient at every step of the unroll.
        policy_scale: weight of the policy loss.
        value_scale: c_v, weight of the value loss.
        reward_scale: weight of the reward loss.
        continue_scale: c_c, weight of the termination loss.
        agreement_scale: c_a, weight of the squared distance between a latent that was arrived at and the one encoded
            there, in units of the encoded ones' variance; 0 as in the papers. An agent that is trained on the latents
            of dreams meets encoded ones in reality, and needs them to be alike.
        starts: positions of each training sequence from which it is unrolled, drawn anew each time; 0 takes them all.
        target_interval: updates between copies of the network into the target network.
    """

    unroll: int = 5
    td_steps: int = 5
    discount: float = 0.997
    state_gradient: float = 0.5
    policy_scale: float = 1.0
    value_scale: float = 0.25
    reward_scale: float = 1.0
    continue_scale: float = 1.0
    agreement_scale: float = 0.0
    starts: int = 1
    target_interval: int = 100


@dataclass(frozen=True)
class ValueEquivalentOptimizerConfig:
    """Numbers of an optimiser whose learning rate rises linearly and decays exponentially.

    Attributes:
        algorithm: ``"sgd"`` with momentum 0.9, or ``"adam"``.
        lr: learning rate before warm-up and decay.
        warmup: updates over which the learning rate rises from 0.
        weight_decay: L2 penalty on every weight.
        max_norm: largest norm of the whole gradient; ``None`` does not clip it.
        decay_rate: factor on the learning rate over every ``decay_steps`` updates.
        decay_steps: updates in which the learning rate falls by ``decay_rate``; 0 does not decay.
        staircase: whether it falls at once after every ``decay_steps`` updates, and not smoothly.
    """

    algorithm: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    warmup: int = 0
    weight_decay: float = 1e-4
    max_norm: float | None = None
    decay_rate: float = 1.0
    decay_steps: int = 0
    staircase: bool = False
