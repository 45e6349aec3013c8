"""PLDM as a world model: its state is the embeddings that the predictor reads."""

from torch import nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.dynamics import ActionGRU, LeWMPredictor, ResidualPredictor
from wmcomponents.models.joint_embedding.embedding_window import EmbeddingWindowModel
from wmcomponents.models.joint_embedding.pldm.config import PLDMConfig
from wmcomponents.models.joint_embedding.pldm.objective import PLDMLoss


class PLDM(EmbeddingWindowModel):
    """One embedding a frame, and a predictor of the next one; it predicts no reward and no end.

    State and features: see :class:`EmbeddingWindowModel`; where the predictor reads the newest frame alone, the window
    is one frame. Dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a reward of yours.

    Args:
        config: sizes; a preset such as ``PLDMConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: images, vectors, boards, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if an observation cannot be encoded.

    Reference: Sobal et al., Learning from Reward-Free Offline Data: A Case for Planning with Latent Dynamics Models
    (PLDM, 2025).

    Example:
        >>> from torchrl.data import Bounded, Unbounded
        >>> model = PLDM(PLDMConfig.tiny(), Composite(observation=Unbounded(4)), Bounded(-1, 1, (2,)))
        >>> model.state_spec["window"].shape
        torch.Size([1, 48])
    """

    config_class = PLDMConfig
    config: PLDMConfig

    def __init__(self, config: PLDMConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        n = config.network
        super().__init__(
            config.encoder,
            latent=n.latent,
            projection=n.projection,
            frames=n.frames if n.predictor == "transformer" else 1,
            observation_spec=observation_spec,
            action_spec=action_spec,
        )
        self.config = config
        size = self.action_vector.size
        if n.predictor == "transformer":
            self.predictor = LeWMPredictor(
                n.latent,
                size,
                frames=n.frames,
                mixed=n.mixed,
                depth=n.depth,
                heads=n.heads,
                head_dim=n.head_dim,
                hidden=n.hidden,
                projection=n.projection,
                dropout=n.dropout,
            )
        elif n.predictor == "mlp":
            self.predictor = ResidualPredictor(n.latent, size, n.units)
        else:
            self.predictor = ActionGRU(n.latent, size)
        # Of the objective alone, but weights: they are saved and trained with the model.
        self.inverse_dynamics = nn.Sequential(
            nn.Linear(2 * n.latent, n.units),
            nn.ReLU(),
            nn.Linear(n.units, n.units),
            nn.ReLU(),
            nn.Linear(n.units, size),
        )

    def objective(self) -> PLDMLoss:
        """The objective of the config."""
        return PLDMLoss(self, self.config.loss, optimizer=self.config.optimizer)
