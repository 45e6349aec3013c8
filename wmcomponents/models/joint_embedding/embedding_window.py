"""What LeWorldModel and PLDM share: one embedding a frame, and a predictor that reads a window of them."""

from collections.abc import Mapping
from typing import Protocol

from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import Standardize
from wmcomponents.dynamics import NormedProjection
from wmcomponents.models.joint_embedding.embedding_encoder import EmbeddingEncoderConfig, embedding_encoder
from wmcomponents.models.joint_embedding.feature_window import FeatureWindowModel
from wmcomponents.world_model import State


class EmbeddingPredictor(Protocol):
    """What predicts: of embeddings ``[*B, T, L]`` and the actions after them ``[*B, T, A]``, the next ones."""

    def compute(self, embed: Tensor, action: Tensor, /) -> Tensor:
        """``[*B, T, L]``: at t, the embedding of t + 1."""
        ...


class EmbeddingWindowModel(FeatureWindowModel):
    """Base of worlds of one embedding a frame, learned with the predictor.

    Observations are encoded and mapped by a batch-normed projection, whose output is the embedding used everywhere.

    State: ``window`` float ``[*B, H, L]``, the embeddings of the last frames, oldest first; ``window_actions`` and
    ``filled`` as in :class:`FeatureWindowModel`. Features: the newest embedding.

    Args:
        encoder: sizes of the encoder.
        latent: L, size of an embedding.
        projection: hidden width of the projection.
        frames: H, most frames that the predictor reads.
        observation_spec: spec of one real observation: images, vectors, boards, or several of them.
        action_spec: spec of one real action.

    Raises:
        ValueError: if an observation cannot be encoded.
    """

    predictor: nn.Module

    def __init__(
        self,
        encoder: EmbeddingEncoderConfig,
        *,
        latent: int,
        projection: int,
        frames: int,
        observation_spec: Composite,
        action_spec: TensorSpec,
    ) -> None:
        super().__init__(frames, {"window": (latent,)}, observation_spec=observation_spec, action_spec=action_spec)
        self.encoder = embedding_encoder(encoder, observation_spec)
        self.projection = NormedProjection(self.encoder.out_features, projection, latent)

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scales of actions, and of numbers where the configuration says so, once."""
        super().prepare(sequences)
        if isinstance(self.encoder.transform, Standardize):
            self.encoder.prepare({key: sequences[key] for key in self.encoder.groups.keys})

    def embed(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The embedding of an observation, ``[*B, L]``.

        Raises:
            ValueError: if an entry is not as the environment shows it.
        """
        self.check_shown(observation)
        return self.projection(self.encoder.embed(observation))

    def encode(self, observation: Mapping[str, Tensor]) -> State:
        """See :class:`FeatureWindowModel`."""
        return {"window": self.embed(observation)}

    def following(self, embed: Tensor, action: Tensor) -> Tensor:
        """The embedding that follows each of windows ``[*B, T, L]`` and actions ``[*B, T, A]``, ``[*B, T, L]``."""
        return self.predictor.compute(embed, action)  # pyright: ignore[reportCallIssue]

    def predict(self, window: State, action: Tensor) -> State:
        """See :class:`FeatureWindowModel`."""
        return {"window": self.following(window["window"], action)}
