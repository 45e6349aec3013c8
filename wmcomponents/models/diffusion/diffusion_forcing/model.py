"""Diffusion Forcing over films (Chen et al., Next-token Prediction Meets Full-Sequence Diffusion, 2024)."""

import torch.nn.functional as F
from torch import Tensor
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.denoisers import FilmUNet
from wmcomponents.functional.edm import from_bytes, to_bytes
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.diffusion_forcing.config import DiffusionForcingConfig
from wmcomponents.models.diffusion.forcing_objective import ForcingLoss
from wmcomponents.models.diffusion.forcing_world import ForcingWorld


class DiffusionForcing(ForcingWorld):
    """Diffusion Forcing: films denoised with a level for each frame, so that the past may be clean and the next noise.

    A frame is drawn in the light of a window of frames before it, which are told as slightly noisy: then faults of
    frames that were dreamt do not grow. Several may be drawn at once (:meth:`imagine_film`), each a few rounds behind
    the one before it.

    State: ``window`` float ``[*B, W, C, H, W]``, the last frames in [-1, 1], oldest first, a place
    for each patch of pixels; ``led`` float ``[*B, W, A]``, the vector of the action that led to each, 0 where none did;
    ``filled`` int64 ``[*B, 1]``, how many there are; ``h`` and ``c`` float ``[*B, hidden]``, the memory of the model of
    reward and termination, if there is one.

    Noise of a dream's step: ``frame``, normal, where sampling begins; ``fresh`` where :attr:`sampling` adds noise on
    the way; ``context`` where it adds noise to the past; ``reward``, uniform.

    How frames are sampled is a property of the model: :attr:`sampling`, which may be set.

    Args:
        config: sizes; a preset such as ``DiffusionForcingConfig.video()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image (H, W, C).
        action_spec: spec of one real action: a choice, several bits, or numbers.

    Raises:
        ValueError: if the observation is not a single image, or sizes do not fit each other.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded, Composite, OneHot
        >>> pixels = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = DiffusionForcing(DiffusionForcingConfig.tiny(), pixels, OneHot(4))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'objective', 'reward']
    """

    config_class = DiffusionForcingConfig
    config: DiffusionForcingConfig

    def __init__(self, config: DiffusionForcingConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        net = config.network
        image_key, (height, width, channels) = image_of(observation_spec, "DiffusionForcing")
        if net.patch < 1 or height % net.patch or width % net.patch:
            raise ValueError(f"patch divides the sides of the image; got {net.patch} for {height} x {width} pixels.")
        height, width, channels = height // net.patch, width // net.patch, channels * net.patch**2
        if net.patch > 1 and channels > net.unet.dim and net.process.target != "clean":
            raise ValueError(
                f"a network of dim {net.unet.dim} has no room for the noise of {channels} channels, which the target "
                f"{net.process.target!r} asks it for: its frames stay noisy. Take target='clean', a smaller patch or a "
                "larger dim."
            )
        action, shape = ActionVector(action_spec).size, (channels, height, width)
        reward_end = None
        if net.reward_end is not None:
            r = net.reward_end
            size = (height, width, channels)
            reward_end = RewardEndHead(size, action, r.hidden, r.cond, r.depths, r.channels, r.attends)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            frames=net.frames,
            shape=shape,
            reward_end=reward_end,
        )
        self.config = config
        u = net.unet
        self.network = FilmUNet(shape, action, u.dim, u.multiples, u.heads, u.head_dim, frames=net.frames)
        self.settle(net.process, net.sampling)

    def objective(self) -> ForcingLoss:
        """The paper's loss for this model."""
        return ForcingLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Images as floats in [-1, 1], channels first, the pixels of a patch in channels of one place."""
        return F.pixel_unshuffle(from_bytes(pixels).movedim(-1, -3), self.config.network.patch)

    def pixels_of(self, frames: Tensor) -> Tensor:
        """Frames as the nearest bytes."""
        shown = F.pixel_shuffle(frames.detach(), self.config.network.patch)
        return to_bytes(shown).movedim(-3, -1).contiguous()
