"""Sizes of a V-M world model, and the numbers of its training."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class WorldModelsVisionConfig:
    """Sizes of V, the variational autoencoder.

    Attributes:
        latent: size of z.
        channels: channels of the convolutions over images.
        decoder_channels: channels of the maps from one pixel back to 64; the first is the dense layer's output.
        dense_act: activation after that dense layer: none in the authors' code, ReLU in ctallec/world-models.
        layers: layers over numbers; 0 makes the autoencoder of numbers linear.
    """

    latent: int = 32
    channels: tuple[int, ...] = (32, 64, 128, 256)
    decoder_channels: tuple[int, ...] = (1024, 128, 64, 32)
    dense_act: Literal["none", "relu"] = "none"
    layers: int = 2


@dataclass(frozen=True)
class WorldModelsMemoryConfig:
    """Sizes of M, the mixture-density recurrent network.

    Attributes:
        hidden: size of the LSTM's h and c.
        components: Gaussians in a mixture.
        mixture: one mixture for each ``"dimension"`` of z, as the authors' code has it, or one for the whole
            ``"vector"``, as ctallec/world-models has it; the losses are scaled as in the one code or the other.
        forget_bias: constant on the LSTM's forget gate.
        begins: whether M is told which z begins an episode (Doom).
        temperature: temperature of the dream; ``model.temperature`` may be set later.
    """

    hidden: int = 256
    components: int = 5
    mixture: Literal["dimension", "vector"] = "dimension"
    forget_bias: float = 1.0
    begins: bool = False
    temperature: float = 1.0


@dataclass(frozen=True)
class WorldModelsNetworkConfig:
    """Sizes of V, of M, and of what they share.

    Attributes:
        vision: sizes of V.
        memory: sizes of M.
        units: width of the layers over numbers and boards, and of hidden layers in the heads.
        head_layers: hidden layers of the reward and termination heads; 0 is linear in h, as the paper's.
        standardize: whether numbers, and rewards, are shifted and scaled to zero mean and unit variance, fitted to data
            before training.
        features: what a controller reads of the state, in this order.
    """

    vision: WorldModelsVisionConfig = field(default_factory=WorldModelsVisionConfig)
    memory: WorldModelsMemoryConfig = field(default_factory=WorldModelsMemoryConfig)
    units: int = 256
    head_layers: int = 0
    standardize: bool = False
    features: tuple[Literal["z", "h", "c"], ...] = ("z", "h")


@dataclass(frozen=True)
class WorldModelsLossConfig:
    """When V and M are trained, and numbers of their losses.

    Attributes:
        vision_steps: updates of V before those of M.
        cycle_steps: updates after which V's turn comes again, the paper's iterative procedure; 0 for never.
        kl_tolerance: nats that are free in each dimension of z; the whole vector's KL counts from there.
        reconstruction_scale: factor on the reconstruction error; the paper's 1 blurs what varies by less than about 1.
        reward_scale: factor on the reward's squared error, in the space of the reward head's transform.
        termination_weight: factor on the cross entropy of what terminates (Doom: 10); the head's probability is freed
            of it.
    """

    vision_steps: int = 100_000
    cycle_steps: int = 0
    kl_tolerance: float = 0.5
    reconstruction_scale: float = 1.0
    reward_scale: float = 1.0
    termination_weight: float = 1.0


@dataclass(frozen=True)
class WorldModelsOptimizerConfig:
    """Learning rates.

    Attributes:
        vision_rate: learning rate of V over that of M; the paper's are 1e-4 and 1e-3.
    """

    vision_rate: float = 0.1


@dataclass(frozen=True)
class WorldModelsConfig(ModelConfig):
    """Sizes and training of a V-M world model; the defaults are the paper's for CarRacing.

    Attributes:
        network: sizes of V and M.
        loss: when they are trained, and numbers of their losses.
        optimizer: learning rates.
    """

    network: WorldModelsNetworkConfig = field(default_factory=WorldModelsNetworkConfig)
    loss: WorldModelsLossConfig = field(default_factory=WorldModelsLossConfig)
    optimizer: WorldModelsOptimizerConfig = field(default_factory=WorldModelsOptimizerConfig)

    moved: ClassVar = {"growth_channels": "network.vision.decoder_channels"}

    @classmethod
    def tiny(cls, **changes: Any) -> "WorldModelsConfig":
        """For small environments on a CPU: minutes, not hours. Not a scaled-down paper.

        Numbers are standardised and pass through a linear autoencoder whose reconstruction error counts a thousand
        times: with the paper's weight it would keep one or two digits of what decides whether CartPole's pole falls.
        """
        sizes = {"latent": 16, "hidden": 128, "units": 64, "layers": 0, "head_layers": 1, "standardize": True}
        training = {"reconstruction_scale": 1000.0, "vision_rate": 5.0, "vision_steps": 300}
        return cls().vary(**{**sizes, **training, **changes})

    @classmethod
    def carracing(cls, **changes: Any) -> "WorldModelsConfig":
        """CarRacing-v0: 4,348,547 parameters in V, 422,368 in M (without our reward and termination heads)."""
        return cls().vary(**changes)

    @classmethod
    def doom(cls, **changes: Any) -> "WorldModelsConfig":
        """DoomTakeCover-v0: 4,446,915 parameters in V, 1,678,785 in M (without our reward head)."""
        sizes = {"latent": 64, "hidden": 512, "begins": True, "termination_weight": 10.0}
        return cls().vary(**{**sizes, "features": ("z", "c", "h"), "temperature": 1.25, **changes})
