"""LeWorldModel as a world model: its state is the window of embeddings that the predictor reads."""

from torchrl.data import Composite, TensorSpec

from wmcomponents.dynamics import LeWMPredictor
from wmcomponents.models.joint_embedding.embedding_window import EmbeddingWindowModel
from wmcomponents.models.joint_embedding.lewm.config import LeWMConfig
from wmcomponents.models.joint_embedding.lewm.objective import LeWMLoss


class LeWM(EmbeddingWindowModel):
    """One embedding a frame, and a predictor whose norms the actions set; it predicts no reward and no end.

    State and features: see :class:`EmbeddingWindowModel`. Dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a
    reward of yours; plans of its authors pay for the sum of squared differences of features, ``summed_squared``.

    Args:
        config: sizes; a preset such as ``LeWMConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: images, vectors, boards, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if an observation cannot be encoded.

    Reference: Maes et al., LeWorldModel: Stable End-to-End Joint-Embedding Predictive Architecture from Pixels (2026).

    Example:
        >>> from torchrl.data import Bounded, Unbounded
        >>> model = LeWM(LeWMConfig.tiny(), Composite(observation=Unbounded(4)), Bounded(-1, 1, (2,)))
        >>> model.features(model.initial_state([5])).shape
        torch.Size([5, 48])
    """

    config_class = LeWMConfig
    config: LeWMConfig

    def __init__(self, config: LeWMConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        n = config.network
        super().__init__(
            config.encoder,
            latent=n.latent,
            projection=n.projection,
            frames=n.frames,
            observation_spec=observation_spec,
            action_spec=action_spec,
        )
        self.config = config
        self.predictor = LeWMPredictor(
            n.latent,
            self.action_vector.size,
            frames=n.frames,
            mixed=n.mixed,
            depth=n.depth,
            heads=n.heads,
            head_dim=n.head_dim,
            hidden=n.hidden,
            projection=n.projection,
            dropout=n.dropout,
        )

    def objective(self) -> LeWMLoss:
        """The objective of the config."""
        return LeWMLoss(self, self.config.loss, optimizer=self.config.optimizer)
