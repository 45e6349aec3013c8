"""V-JEPA 2-AC as a world model: features of frames and a gripper's pose, which each step moves."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import layer_norm
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ObservationGroups
from wmcomponents.dynamics import VJEPA2ACPredictor
from wmcomponents.functional.pose import pose_after
from wmcomponents.models.joint_embedding.frozen_window import FrozenWindowModel, Given
from wmcomponents.models.joint_embedding.official_masked import blocks_size
from wmcomponents.models.joint_embedding.official_predictors import VJEPA2_AC_RULES
from wmcomponents.models.joint_embedding.official_vit import bare, vit_from_official
from wmcomponents.models.joint_embedding.vjepa2_ac.config import VJEPA2ACConfig, VJEPA2ACNetworkConfig
from wmcomponents.models.joint_embedding.vjepa2_ac.objective import VJEPA2ACLoss
from wmcomponents.pretrained import load_mapped, section
from wmcomponents.world_model import State


class VJEPA2AC(FrozenWindowModel):
    """Features of frames that a frozen V-JEPA 2 encodes one by one, predicted under steps of a gripper.

    It predicts no reward and no end, and decodes nothing. Dreams need a goal (``GoalWorldModel``, ``GoalReward``) or a
    reward of yours. The pose needs no prediction: a step moves it (:func:`wmcomponents.functional.pose.pose_after`).
    Where an environment shows an image alone, there is no pose, and actions are any.

    State: ``window`` float ``[*B, H, N, D]`` and, with poses, ``window_pose`` float ``[*B, H, 7]``, features and poses
    of the last frames, oldest first; ``window_actions`` and ``filled`` as in :class:`FeatureWindowModel`. Features:
    those of the newest frame's patches, one behind the other.

    Args:
        config: sizes; a preset such as ``VJEPA2ACConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one image, and the pose, seven numbers under one key: position,
            Euler angles about fixed axes, how far the gripper is closed, in the frame of the robot's base; or the image
            alone.
        action_spec: spec of one real action: with a pose seven numbers, the difference of two poses.
        encoder: a trained one in place of the config's; see :class:`wmcomponents.models.DINOWM`.

    Raises:
        ValueError: if there is not one image, numbers beside it are no pose, the action then has not seven numbers, the
            encoder gives no patches, or patches do not fill the image.
        TypeError: if ``encoder`` is none.

    Reference: Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning
    (2025), section 3.

    Example:
        >>> shown = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), pose=Unbounded(7))
        >>> model = VJEPA2AC(VJEPA2ACConfig.tiny(), shown, Bounded(-1, 1, (7,)))
        >>> model.features(model.initial_state([5])).shape
        torch.Size([5, 192])
    """

    config_class = VJEPA2ACConfig
    config: VJEPA2ACConfig

    @classmethod
    def from_official(
        cls,
        checkpoint: Mapping[str, Any],
        *,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
        frames: int = 8,
        heads: int | None = None,
        predictor_heads: int = 16,
    ) -> "VJEPA2AC":
        """One with the weights of facebookresearch/vjepa2, ``vjepa2-ac-vitg``: encoder and predictor.

        Args:
            checkpoint: nested mappings of tensors, as :func:`wmcomponents.models.official.read_checkpoint` gives them.
            observation_spec: of the robot; images of 256 x 256 under ``pixels`` and ``pose`` if not given.
            action_spec: of the robot; numbers between -1 and 1 if not given.
            frames: most frames that are read.
            heads: of the encoder; that of the published size if not given.
            predictor_heads: of the predictor.

        Raises:
            BadModelError: if keys or shapes are others.
        """
        encoder = vit_from_official("vjepa2", checkpoint, part="encoder", heads=heads)
        weights = bare(section(checkpoint, "predictor"))
        size = blocks_size(weights, "predictor_blocks", "predictor_norm", predictor_heads)
        network = VJEPA2ACNetworkConfig(frames, size.dim, size.depth, size.heads, size.hidden / size.dim)
        image = Bounded(0, 255, torch.Size([256, 256, 3]), dtype=torch.uint8)
        shown = Composite(pixels=image, pose=Unbounded(7)) if observation_spec is None else observation_spec
        config = VJEPA2ACConfig.official(network=network)
        model = cls(config, shown, Bounded(-1, 1, torch.Size([7])) if action_spec is None else action_spec, encoder)
        load_mapped(model.predictor, weights, VJEPA2_AC_RULES)
        return model

    def __init__(
        self, config: VJEPA2ACConfig, observation_spec: Composite, action_spec: TensorSpec, encoder: Given = None
    ) -> None:
        n = config.network

        def parts(groups: ObservationGroups, patches: int, dim: int) -> dict[str, Sequence[int]]:
            return {"window": (patches, dim), **({"window_pose": (7,)} if groups.vector_sizes else {})}

        super().__init__(
            config.encoder, encoder, n.frames, parts, observation_spec=observation_spec, action_spec=action_spec
        )
        poses = self.groups.vector_sizes
        if poses and (list(poses.values()) != [7] or self.action_vector.size != 7):
            raise ValueError(
                f"V-JEPA 2-AC sees a pose beside the image and acts by its difference: seven numbers under one key "
                f"(position, angles, gripper) each; got {poses} and actions of {self.action_vector.size}. Without a "
                f"pose, show it the image alone."
            )
        self.config = dataclasses.replace(config, encoder=self.encoder_config)
        self.predictor = VJEPA2ACPredictor(
            self.encoder_config.grid(self.groups.image_shape[:2]),
            self.dim,
            action=self.action_vector.size,
            pose=7 if poses else 0,
            frames=n.frames,
            width=n.width,
            depth=n.depth,
            heads=n.heads,
            mlp_ratio=n.mlp_ratio,
        )

    def prepare(self, sequences: TensorDictBase) -> None:
        """Nothing: poses and actions are read in their own units."""

    def action_numbers(self, action: Tensor) -> Tensor:
        """An action in its own units, such as metres and radians, ``[*B, A]``."""
        return self.action_vector.codec.encode(action)

    def image_features(self, images: Tensor) -> Tensor:
        """See :class:`FrozenWindowModel`; through a layer norm without weights, whatever the encoder."""
        features = super().image_features(images)
        return layer_norm(features, features.shape[-1:])

    def encode(self, observation: Mapping[str, Tensor]) -> State:
        """See :class:`FeatureWindowModel`."""
        pose = {"window_pose": self.numbers(observation)} if self.groups.vector_sizes else {}
        return {"window": self.visual(observation), **pose}

    def predicted(self, features: Tensor, action: Tensor, pose: Tensor | None) -> Tensor:
        """Features of the frame that follows each of a window, ``[*B, T, N, D]``, through a layer norm without weights.

        Args:
            features: of the window, ``[*B, T, N, D]``.
            action: the step after each frame, ``[*B, T, A]``.
            pose: at each frame, ``[*B, T, 7]``, where there are poses.
        """
        found = self.predictor.compute(features, action, pose)
        return layer_norm(found, found.shape[-1:])

    def predict(self, window: State, action: Tensor) -> State:
        """See :class:`FeatureWindowModel`."""
        pose = window.get("window_pose")
        after = {} if pose is None else {"window_pose": pose_after(pose, action)}
        return {"window": self.predicted(window["window"], action, pose), **after}

    def pose(self, state: State) -> Tensor:
        """Pose at the newest frame, ``[*B, 7]``, of a model with poses."""
        return self.newest(state)["window_pose"]

    def objective(self) -> VJEPA2ACLoss:
        """The objective of the config."""
        return VJEPA2ACLoss(self, self.config.loss, optimizer=self.config.optimizer)
