"""What worlds of a frozen encoder share whose predictor reads a window: one image, its features, its identity."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import ObservationGroups
from wmcomponents.component import Component
from wmcomponents.data.cache_features import features_key
from wmcomponents.models.joint_embedding.brought import Brought, check_same_encoder, signature
from wmcomponents.models.joint_embedding.feature_window import FeatureWindowModel
from wmcomponents.models.joint_embedding.frozen_encoder import FrozenEncoderConfig, settled_encoder
from wmcomponents.models.joint_embedding.masked import MaskedModel
from wmcomponents.nn import VisionTransformer

Given = Component | MaskedModel | VisionTransformer | None
"""An encoder that is handed to a model: see :func:`settled_encoder`."""


class FrozenWindowModel(FeatureWindowModel):
    """Base of worlds of features of a frozen encoder, which see one image and numbers beside it, or nothing.

    Args:
        encoder_config: which encoder is frozen.
        encoder: a trained one in its place, see :func:`settled_encoder`.
        frames: H, most frames that are read.
        parts: shape of each part of a frame by its name, of the observations, the number of patches and the size of
            their features.
        observation_spec: spec of one real observation.
        action_spec: spec of one real action.

    Attributes:
        encoder_config: which encoder it is, once settled.
        groups: the observations, by what reads them.
        patches: N, of an image.
        dim: D, size of a patch's features.
        cached_key: under which an observation may hold its image's features, as ``CacheFeatures`` writes them.

    Raises:
        ValueError: if there is not one image beside numbers, the encoder gives no patches, or patches do not fill the
            image.
        TypeError: if ``encoder`` is none.
    """

    signature: Tensor

    def __init__(
        self,
        encoder_config: FrozenEncoderConfig,
        encoder: Given,
        frames: int,
        parts: Callable[[ObservationGroups, int, int], Mapping[str, Sequence[int]]],
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
    ) -> None:
        groups = ObservationGroups.from_spec(observation_spec)
        if len(groups.image_keys) != 1 or len(groups.keys) != 1 + len(groups.vector_sizes):
            raise ValueError(
                f"{type(self).__name__} sees one uint8 image, and numbers beside it or nothing; got the images "
                f"{list(groups.image_keys)} among {list(groups.keys)}."
            )
        shape = groups.image_shape
        settled, frozen = settled_encoder(encoder_config, encoder, shape)
        patches, dim = settled.count(shape[:2]), settled.dim
        super().__init__(
            frames, parts(groups, patches, dim), observation_spec=observation_spec, action_spec=action_spec
        )
        self.encoder_config, self.groups, self.patches, self.dim = settled, groups, patches, dim
        self.cached_key = str(features_key(groups.image_keys[0]))
        self.encoder = frozen
        if isinstance(frozen, Brought):
            is_known = encoder_config.is_given  # and the folder holds what it made of the picture
            seen = torch.zeros(dim) if is_known else signature(frozen.module, shape).mean(0).cpu()
            self.register_buffer("signature", seen)

    def check_parts(self) -> None:
        """Refuse an encoder that was handed to a saved model and is another than the one of its training.

        Raises:
            ValueError: if it sees the same picture otherwise.
        """
        if isinstance(self.encoder, Brought):
            check_same_encoder(self.signature, self.encoder.module, self.groups.image_shape)

    def image_features(self, images: Tensor) -> Tensor:
        """Features of the patches of images ``[*B, H, W, C]``, ``[*B, N, D]``, without gradient.

        What ``CacheFeatures(model.image_features, key)`` keeps, so that the objective encodes nothing again.

        Args:
            images: as the environment shows them.
        """
        codec = self.groups.images[self.groups.image_keys[0]]
        with torch.no_grad():
            features = self.encoder.compute(codec.levels(images))
        assert isinstance(features, Tensor)
        return features

    def visual(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Features of the image's patches ``[*B, N, D]``, without gradient; those that the observation holds, if any.

        Args:
            observation: ``[*B, ...]`` by key.

        Raises:
            ValueError: if the image is not as the environment shows it.
        """
        self.check_shown(observation)
        kept = observation.get(self.cached_key)
        return self.image_features(observation[self.groups.image_keys[0]]) if kept is None else kept.float()

    def numbers(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The numbers beside the image, ``[*B, P]``; none where the environment shows none."""
        if self.groups.vector_size:
            return self.groups.numbers(observation)
        key = self.groups.image_keys[0]
        image = observation[key]
        return image.new_zeros(*image.shape[: image.ndim - self.observation_spec[key].ndim], 0, dtype=torch.float32)
