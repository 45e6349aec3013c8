"""Oasis: a world of films of latents, each frame at its own noise level (Decart and Etched, 2024)."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec

from wmcomponents.codecs import MINECRAFT_KEYS, ActionVector
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.denoisers import DiTSize, SpaceTimeDiT
from wmcomponents.functional.patches import patch_grid
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.forcing_world import ForcingWorld
from wmcomponents.models.diffusion.oasis.config import OasisConfig
from wmcomponents.models.diffusion.oasis.objective import OasisLoss
from wmcomponents.models.diffusion.official_transformers import OASIS_RULES, VIT_AUTOENCODER_RULES
from wmcomponents.nn import ViTAutoencoder
from wmcomponents.pretrained import BadModelError, load_mapped
from wmcomponents.tokenizers import LatentTokenizer


class Oasis(ForcingWorld):
    """Oasis: films of latents, denoised frame after frame by a transformer over space and time.

    Frames are the latents of a vision transformer; they become pictures when someone looks. A new frame is noise that
    is denoised in a few steps in the light of a sliding window of frames before it, which stay as they are and are told
    as slightly noisy. Actions are any that an environment has; Minecraft's are 25 numbers
    (:func:`wmcomponents.codecs.minecraft_action`).

    State: ``window`` float ``[*B, W, L, h, w]``, the last frames' latents, oldest first; ``led`` float ``[*B, W, A]``,
    the vector of the action that led to each, 0 where none did; ``filled`` int64 ``[*B, 1]``, how many there are; ``h``
    and ``c`` float ``[*B, hidden]``, the memory of the model of reward and termination, if there is one.

    Noise of a dream's step: ``frame``, normal, where sampling begins; ``fresh`` where :attr:`sampling` adds noise on
    the way; ``context`` where it adds noise to the past; ``reward``, uniform.

    How frames are sampled is a property of the model: :attr:`sampling`, which may be set.

    Args:
        config: sizes; a preset such as ``OasisConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image (H, W, C).
        action_spec: spec of one real action: a choice, several bits, or numbers.

    Raises:
        ValueError: if the observation is not a single image, or patches do not fill it.

    Example:
        >>> from torchrl.data import OneHot
        >>> pixels = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = Oasis(OasisConfig.tiny(), pixels, OneHot(4))
        >>> model.frame_shape, sorted(model.capabilities)
        ((4, 8, 8), ['continue', 'decode', 'objective', 'reward'])
    """

    config_class = OasisConfig
    config: OasisConfig

    def __init__(self, config: OasisConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        net = config.network
        image_key, (height, width, channels) = image_of(observation_spec, "Oasis")
        a, action = net.autoencoder, ActionVector(action_spec).size
        grid = patch_grid((height, width), (a.patch, a.patch))
        shape, reward_end = (a.latent, *grid), None
        if net.reward_end is not None:
            r = net.reward_end
            reward_end = RewardEndHead((*grid, a.latent), action, r.hidden, r.cond, r.depths, r.channels, r.attends)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            frames=net.frames,
            shape=shape,
            reward_end=reward_end,
        )
        self.config = config
        autoencoder = ViTAutoencoder(
            (height, width), a.patch, channels=channels, latent=a.latent, encoder=a.encoder, decoder=a.decoder
        )
        self.tokenizer = LatentTokenizer(autoencoder, scale=a.scale)
        t = net.transformer
        size = DiTSize(t.dim, t.depth, t.heads)
        self.network = SpaceTimeDiT(shape, action, size, frames=net.frames, patch=t.patch)
        self.settle(net.process, net.sampling)

    def objective(self) -> OasisLoss:
        """The autoencoder's loss, then Diffusion Forcing's."""
        return OasisLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Latents of images, the means."""
        return self.tokenizer.latents(pixels)

    def pixels_of(self, frames: Tensor) -> Tensor:
        """What latents look like."""
        return self.tokenizer.pixels(frames)

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
        config: OasisConfig | None = None,
    ) -> "Oasis":
        """A world with the weights of github.com/etched-ai/open-oasis.

        Args:
            weights: a folder with the files of the network and of the autoencoder, by their names.
            observation_spec: of images; 360 x 640 pixels, "pixels", if not given.
            action_spec: of the actions; Minecraft's 25 numbers if not given.
            config: sizes; those of the published 500M if not given.

        Raises:
            BadModelError: if there are not two files, one of each; if keys or shapes are not those of this
                configuration.
        """
        if observation_spec is None:
            observation_spec = Composite(pixels=Bounded(0, 255, torch.Size([360, 640, 3]), dtype=torch.uint8))
        if action_spec is None:
            action_spec = Bounded(-1.0, 1.0, torch.Size([len(MINECRAFT_KEYS)]))
        parts = [part for part in weights.values() if isinstance(part, Mapping)]
        network = [part for part in parts if "x_embedder.proj.weight" in part]
        autoencoder = [part for part in parts if "patch_embed.proj.weight" in part]
        if len(network) != 1 or len(autoencoder) != 1:
            raise BadModelError(
                f"a folder of Oasis holds a file of the network and one of the autoencoder; got {len(network)} and "
                f"{len(autoencoder)}: put oasis500m.safetensors and vit-l-20.safetensors there, and nothing else."
            )
        model = cls(OasisConfig.oasis_500m() if config is None else config, observation_spec, action_spec)
        load_mapped(cast(SpaceTimeDiT, model.network), network[0], OASIS_RULES)
        load_mapped(model.tokenizer.autoencoder, autoencoder[0], VIT_AUTOENCODER_RULES)
        return model
