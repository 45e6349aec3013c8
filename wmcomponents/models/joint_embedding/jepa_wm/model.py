"""JEPA-WM as a world model: features of a frozen encoder, predicted by blocks whose norms the actions set."""

import dataclasses
from collections.abc import Mapping, Sequence

from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import ObservationGroups, Standardize
from wmcomponents.dynamics import AdaptiveFramePredictor
from wmcomponents.models.joint_embedding.frozen_window import FrozenWindowModel, Given
from wmcomponents.models.joint_embedding.jepa_wm.config import JEPAWMConfig
from wmcomponents.models.joint_embedding.jepa_wm.objective import JEPAWMLoss
from wmcomponents.world_model import State


class JEPAWM(FrozenWindowModel):
    """Features of a frozen encoder's patches, and proprioception where there is any, under actions by adaptive norms.

    It predicts no reward and no end, and decodes nothing. Dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a
    reward of yours.

    State: ``window`` float ``[*B, H, N, D]``, features of the last frames, oldest first; where there is
    proprioception ``window_proprio`` float ``[*B, H, N, E]``, as each patch has it; ``window_actions`` and ``filled``
    as in :class:`FeatureWindowModel`. Features: those of the newest frame's patches, one behind the other.

    Args:
        config: sizes; a preset such as ``JEPAWMConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one image, and beside it numbers, which are the proprioception,
            or nothing.
        action_spec: spec of one real action.
        encoder: a trained one in place of the config's; see :class:`wmcomponents.models.DINOWM`.

    Raises:
        ValueError: if there is not one image beside numbers, the encoder gives no patches, or patches do not fill the
            image.
        TypeError: if ``encoder`` is none.

    Reference: Terver et al., What Drives Success in Physical Planning with Joint-Embedding Predictive World Models?
    (2025).

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded, Unbounded
        >>> shown = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), position=Unbounded(2))
        >>> model = JEPAWM(JEPAWMConfig.tiny(), shown, Bounded(-1, 1, (3,)))
        >>> model.features(model.initial_state([5])).shape
        torch.Size([5, 256])
    """

    config_class = JEPAWMConfig
    config: JEPAWMConfig

    def __init__(
        self, config: JEPAWMConfig, observation_spec: Composite, action_spec: TensorSpec, encoder: Given = None
    ) -> None:
        n = config.network

        def parts(groups: ObservationGroups, patches: int, dim: int) -> dict[str, Sequence[int]]:
            beside = {"window_proprio": (patches, n.embedded)} if groups.vector_size else {}
            return {"window": (patches, dim), **beside}

        super().__init__(
            config.encoder, encoder, n.frames, parts, observation_spec=observation_spec, action_spec=action_spec
        )
        self.config = dataclasses.replace(config, encoder=self.encoder_config)
        size = self.groups.vector_size
        self.predictor = AdaptiveFramePredictor(
            self.encoder_config.grid(self.groups.image_shape[:2]),
            self.dim,
            self.action_vector.size,
            proprio=n.embedded if size else 0,
            frames=n.frames,
            width=n.width,
            depth=n.depth,
            heads=n.heads,
            mlp_ratio=n.mlp_ratio,
        )
        self.proprio_scale = Standardize(size)
        self.proprio_encoder = nn.Linear(size, n.embedded) if size else None

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scales of proprioception and actions, once."""
        super().prepare(sequences)
        if self.groups.vector_size:
            self.proprio_scale.prepare(self.groups.numbers({key: sequences[key] for key in self.groups.keys}))

    def encode(self, observation: Mapping[str, Tensor]) -> State:
        """See :class:`FeatureWindowModel`."""
        visual = self.visual(observation)
        if self.proprio_encoder is None:
            return {"window": visual}
        embedded = self.proprio_encoder(self.proprio_scale(self.numbers(observation))).unsqueeze(-2)
        return {"window": visual, "window_proprio": embedded.expand(*visual.shape[:-1], -1)}

    def predict(self, window: State, action: Tensor) -> State:
        """See :class:`FeatureWindowModel`."""
        found = self.predictor.compute(window["window"], action, window.get("window_proprio"))
        return {"window": found} if isinstance(found, Tensor) else {"window": found[0], "window_proprio": found[1]}

    def proprio(self, state: State) -> Tensor:
        """Embedded proprioception of the newest frame, patch by patch, ``[*B, N E]``; for goals."""
        return self.newest(state)["window_proprio"].flatten(-2)

    def objective(self) -> JEPAWMLoss:
        """The objective of the config."""
        return JEPAWMLoss(self, self.config.loss, optimizer=self.config.optimizer)
