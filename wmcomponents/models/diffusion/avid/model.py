"""AVID: a world made of a frozen video model and an adapter beside it (Rigter et al., 2024)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.denoisers import AddedMixture, FilmUNet, MaskedMixture, OutputAdapter
from wmcomponents.functional import AncestralSampler, DDIMSampler, SamplingStep, denoised, levels_from_clean
from wmcomponents.functional.diffusion.targets import Denoised, PredictionTarget, target_named
from wmcomponents.functional.edm import from_bytes, to_bytes
from wmcomponents.functional.film_window import newest
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.avid.base import ContextVideoModel, GivenVideoModel
from wmcomponents.models.diffusion.avid.config import AVIDConfig, AVIDSamplingConfig
from wmcomponents.models.diffusion.avid.objective import AVIDLoss
from wmcomponents.models.diffusion.film_world import FilmDiffusionWorld, FilmPast
from wmcomponents.models.diffusion.forcing_world import process_of
from wmcomponents.nn import DiffusionProcess


class AVID(FilmDiffusionWorld[AVIDSamplingConfig]):
    """AVID: what a frozen video model says, corrected by a small network that knows the actions.

    The video model (the base) knows no actions and stays as it is: what it says is read, not its weights. It is one of
    this library, trained first, or any module of the user's that says what a film's noise is. Frames of a film have one
    noise level; the past frames stand beside each of them. One frame is drawn for an action, or several for as many
    (:meth:`imagine_film`).

    State: ``window`` float ``[*B, W, C, H, W]``, the last frames in [-1, 1], oldest first, W those of past and film
    together; ``led`` float ``[*B, W, A]``, the vector of the action that led to each, 0 where none did; ``filled``
    int64 ``[*B, 1]``, how many there are; ``h`` and ``c`` float ``[*B, hidden]``, the memory of the model of reward and
    termination, if there is one.

    Noise of a dream's step: ``frame``, normal, where sampling begins; ``fresh`` where :attr:`sampling` adds noise on
    the way; ``reward``, uniform.

    How frames are sampled is a property of the model: :attr:`sampling`, which may be set.

    Args:
        config: sizes; a preset such as ``AVIDConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image (H, W, C).
        action_spec: spec of one real action: a choice, several bits, or numbers.
        base: a video model of yours, called with ``(noisy, level, context)``
            (:class:`~wmcomponents.models.diffusion.avid.base.VideoModel`), in place of the config's. It predicts what
            the process's ``target`` names, on frames in [-1, 1]. It is not trained and not saved with the model:
            ``load(folder, base=...)``.

    Attributes:
        base: the video model.
        adapter: what takes the actions, and mixes.
        process: levels of noise.
        target: what base and mixture predict.
        context: past frames beside each.

    Raises:
        ValueError: if the observation is not a single image, sizes do not fit each other, or no base is given where the
            config has none.

    Reference: Rigter et al., AVID: Adapting Video Diffusion Models to World Models (2024).

    Example:
        >>> from torchrl.data import Bounded, OneHot
        >>> pixels = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = AVID(AVIDConfig.tiny(), pixels, OneHot(4))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'objective', 'reward']
    """

    config_class = AVIDConfig
    config: AVIDConfig
    base: nn.Module
    process: DiffusionProcess
    target: PredictionTarget

    def __init__(
        self,
        config: AVIDConfig,
        observation_spec: Composite,
        action_spec: TensorSpec,
        base: nn.Module | None = None,
    ) -> None:
        net = config.network
        image_key, (height, width, channels) = image_of(observation_spec, "AVID")
        action, shape = ActionVector(action_spec).size, (channels, height, width)
        if net.context < 1 or net.frames < 1:
            raise ValueError(
                f"films of at least 1 frame are drawn behind at least 1 past frame; got frames={net.frames} and "
                f"context={net.context}."
            )
        reward_end = None
        if net.reward_end is not None:
            r = net.reward_end
            size = (height, width, channels)
            reward_end = RewardEndHead(size, action, r.hidden, r.cond, r.depths, r.channels, r.attends)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            frames=net.context + net.frames,
            shape=shape,
            reward_end=reward_end,
            at_once=net.frames,
        )
        self.config = config if base is None else config.vary(base=None)
        self.context = net.context
        self.base = self._base_of(config, base)
        self.adapter = self._adapter_of(config, action)
        self.process, self.target = process_of(net.process), target_named(net.process.target)
        self.settle_sampling(net.sampling)

    def _base_of(self, config: AVIDConfig, given: nn.Module | None) -> ContextVideoModel | GivenVideoModel:
        net, (channels, *sides) = config.network, self.frame_shape
        if given is not None:
            if not isinstance(given, nn.Module):
                raise TypeError(f"base is a module called with (noisy, level, context); got a {type(given).__name__}.")
            return GivenVideoModel(given)
        if net.base is None:
            raise ValueError(
                "the video model of this world was handed to it, and is not in its config or folder: give it again, "
                "as base=."
            )
        b, read = net.base, ((net.context + 1) * channels, *sides)
        sizes = {"frames": net.frames, "is_causal": net.is_causal, "relative": True, "out_channels": channels}
        return ContextVideoModel(FilmUNet(read, 0, b.dim, b.multiples, b.heads, b.head_dim, **sizes))

    def _adapter_of(self, config: AVIDConfig, action: int) -> OutputAdapter:
        net, (channels, *sides) = config.network, self.frame_shape
        mixture = MaskedMixture() if net.mixture == "masked" else AddedMixture(channels)
        a, read = net.adapter, ((net.context + 2) * channels, *sides)
        written = channels + mixture.further
        sizes = {"frames": net.frames, "is_causal": net.is_causal, "relative": True, "out_channels": written}
        network = FilmUNet(read, action, a.dim, a.multiples, a.heads, a.head_dim, **sizes)
        return OutputAdapter(network, channels, net.context, mixture)

    def objective(self) -> AVIDLoss:
        """The base's loss, where it is this library's, then the adapter's."""
        return AVIDLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Images as floats in [-1, 1], channels first."""
        return from_bytes(pixels).movedim(-1, -3)

    def pixels_of(self, frames: Tensor) -> Tensor:
        """Frames as the nearest bytes."""
        return to_bytes(frames.detach()).movedim(-3, -1).contiguous()

    # -- how frames are drawn ------------------------------------------------------------------------------------------

    def make_sampler(self, sampling: AVIDSamplingConfig) -> None:
        """Make what draws frames from now on.

        Raises:
            ValueError: if there are more steps than levels, or a name is unknown.
        """
        levels, s = levels_from_clean(self.process.levels, sampling.steps), sampling
        if s.sampler not in ("ancestral", "ddim"):
            raise ValueError(f"sampler is 'ancestral' or 'ddim'; got {s.sampler!r}.")
        if s.clip is not None and not s.clip > 0.0:
            raise ValueError(f"clip is above 0, or None where data are not bounded; got {s.clip}.")
        betas = self.process.betas
        is_ancestral = s.sampler == "ancestral"
        self.sampler = AncestralSampler(betas, levels) if is_ancestral else DDIMSampler(betas, levels, s.eta)

    def step_noise(self, frames: int = 1) -> dict[str, TensorSpec]:
        """Where sampling begins, and what its steps add."""
        film = (frames, *self.frame_shape)
        found: dict[str, TensorSpec] = {"frame": Unbounded(torch.Size(film))}
        if self.sampler.uses_noise:
            found["fresh"] = Unbounded(torch.Size([len(self.sampler.steps), *film]))
        return found

    def draw(self, past: FilmPast, led: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """A film behind the newest past frames; where there are too few, the first stands for those before it."""
        context = newest(past.frames, past.count, self.context)
        film, fresh = noise.get("frame"), noise.get("fresh")
        if film is None:
            film = context.new_zeros(*led.shape[:2], *self.frame_shape)

        def guess(x: Tensor, step: SamplingStep) -> Denoised:
            level = torch.full(led.shape[:2], step.level, device=led.device)
            said = self.predict(x, level, context, led)[0]
            return denoised(self.target, said, x, step.now, clip=self.sampling.clip)

        return self.sampler.sample(guess, film, None if fresh is None else fresh.transpose(0, 1))

    def predict(self, noisy: Tensor, level: Tensor, context: Tensor, led: Tensor) -> tuple[Tensor, Tensor]:
        """What base and adapter say together of films, and the mask: 1 where the base is kept.

        Args:
            noisy: ``[N, T, C, H, W]``.
            level: of each frame, int64 ``[N, T]``.
            context: the frames before them, oldest first, ``[N, M, C, H, W]``.
            led: vectors of the actions that lead to the films' frames, ``[N, T, A]``.

        Returns:
            ``[N, T, C, H, W]`` and ``[N, T, 1, H, W]``.
        """
        return self.adapter.compute(self.base(noisy, level, context), noisy, level, context, led)
