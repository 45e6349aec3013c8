"""A Navigation World Model: the frame that stands before a robot after it has gone somewhere (Bar et al., 2024)."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector, Motion, motion_named
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.denoisers import CDiT, DiTSize
from wmcomponents.functional import (
    AncestralSampler,
    DDIMSampler,
    Denoised,
    PredictionTarget,
    SamplingStep,
    levels_from_clean,
    linear_betas,
    spaced_levels,
    target_named,
)
from wmcomponents.functional.film_window import put_at
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.film_world import FILLED, WINDOW, FilmDiffusionWorld, FilmPast
from wmcomponents.models.diffusion.nwm.config import TIME_UNIT, ConvAutoencoderConfig, NWMConfig, NWMSamplingConfig
from wmcomponents.models.diffusion.nwm.objective import NWMLoss
from wmcomponents.models.diffusion.official_transformers import CDIT_RULES, averaged
from wmcomponents.nn import ConvAutoencoder, DiffusionProcess, DisplacementEmbedding, denoised_with_variance
from wmcomponents.pretrained import load_mapped
from wmcomponents.tokenizers import LatentTokenizer
from wmcomponents.world_model import Noise, State, keys_of


class NWM(FilmDiffusionWorld[NWMSamplingConfig]):
    """A Navigation World Model: a frame some time away, denoised in the light of the frames before.

    Frames are latents of an autoencoder; they become pictures when someone looks. The network is told where one has
    gone since the newest frame, and how much time has passed: a step of the dream is one step ahead, :meth:`jump` any
    number of them, also back. The paper foretells no reward and no end: dreams need a goal (``GoalWorldModel``,
    ``GoalReward``) or a reward of yours, and plans go to a picture of a goal
    (:func:`wmcomponents.agents.planners.nwm_cem`). With ``reward_end`` in the config both are foretold, of single
    steps.

    Actions are a robot's steps (forward, left, turn in radians) with ``motion="pose"``, or any others, which add up.

    State: ``window`` float ``[*B, M + 1, L, h, w]``, the last frames' latents, oldest first, of which the last M are
    looked at; ``led`` float ``[*B, M + 1, A]``, the vector of the action that led to each, 0 where none did; ``filled``
    int64 ``[*B, 1]``, how many there are; ``h`` and ``c`` float ``[*B, hidden]``, the memory of the model of reward and
    termination, if there is one. Features: the newest frame's latent.

    Noise of a step of the filter: ``latent``, normal; without it latents are the means. Of a dream's step: ``frame``,
    normal, where sampling begins; ``fresh``, normal, where its steps add noise; ``reward``, uniform, where rewards
    are foretold.

    How frames are sampled is a property of the model: :attr:`sampling`, which may be set.

    Args:
        config: sizes; a preset such as ``NWMConfig.tiny()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image (H, W, C).
        action_spec: spec of one real action.
        tokenizer: a trained autoencoder in place of the config's, such as
            ``wmcomponents.tokenizers.diffusers_tokenizer("stabilityai/sd-vae-ft-ema")``, the paper's; it is not trained
            on, and its weights are saved with the model's.

    Raises:
        ValueError: if the observation is not a single image, it does not halve as often as the autoencoder does or
            patches do not fill its latent; if actions are no steps of a robot where ``motion`` says so; if sampling's
            numbers do not fit; if there is no autoencoder.
        TypeError: if ``tokenizer`` is none.

    Reference: Bar et al., Navigation World Models (2024).

    Example:
        >>> pixels = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = NWM(NWMConfig.tiny(), pixels, Bounded(-1.0, 1.0, (2,)))
        >>> model.frame_shape, sorted(model.capabilities)
        ((4, 8, 8), ['decode', 'features', 'objective'])
    """

    config_class = NWMConfig
    config: NWMConfig
    tokenizer: LatentTokenizer
    motion: Motion
    process: DiffusionProcess
    target: PredictionTarget

    def __init__(
        self,
        config: NWMConfig,
        observation_spec: Composite,
        action_spec: TensorSpec,
        tokenizer: LatentTokenizer | None = None,
    ) -> None:
        net = config.network
        image_key, size = image_of(observation_spec, "NWM")
        if net.context < 1:
            raise ValueError(f"context is the number of frames that are looked at, at least 1; got {net.context}.")
        made, shape = _autoencoder(net.autoencoder, size) if tokenizer is None else _given(tokenizer, size)
        numbers, reward_end = ActionVector(action_spec).size, None
        if net.reward_end is not None:
            r, (latent, *grid) = net.reward_end, shape
            reward_end = RewardEndHead((*grid, latent), numbers, r.hidden, r.cond, r.depths, r.channels, r.attends)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            image_key=image_key,
            frames=net.context + 1,
            shape=shape,
            reward_end=reward_end,
        )
        if tokenizer is not None:
            config = config.vary(autoencoder=None, autoencoder_steps=0)
        self.config, self.tokenizer, self.context = config, made, net.context
        self.motion = motion_named(net.motion, action_spec)
        t = net.transformer
        self.network = CDiT(
            shape,
            DiTSize(t.dim, t.depth, t.heads),
            context=net.context,
            patch=t.patch,
            action=partial(DisplacementEmbedding, numbers=numbers),
            positions=t.positions,
        )
        self.process, self.target = DiffusionProcess(linear_betas(net.levels)), target_named(net.target)
        self.settle_sampling(net.sampling)

    @property
    def capabilities(self) -> frozenset[str]:
        """Pictures, features and an objective; reward and end where the model foretells them."""
        return super().capabilities | {"features"}

    def objective(self) -> NWMLoss:
        """The autoencoder's loss, then the paper's."""
        return NWMLoss(self, self.config.loss, optimizer=self.config.optimizer)

    # -- frames --------------------------------------------------------------------------------------------------------

    def frames_of(self, pixels: Tensor) -> Tensor:
        """Latents of images, the means."""
        return self.tokenizer.latents(pixels)

    def pixels_of(self, frames: Tensor) -> Tensor:
        """What latents look like."""
        return self.tokenizer.pixels(frames)

    def observe_noise(self) -> dict[str, TensorSpec]:
        """Out of which latents of what is seen are drawn."""
        return {"latent": Unbounded(torch.Size(self.frame_shape))}

    def seen_frames(self, pixels: Tensor, noise: Noise | None) -> Tensor:
        """Latents of images, drawn as in training; the means without noise."""
        return self.tokenizer.latents(pixels, (noise or {}).get("latent"))

    def features(self, state: State) -> Tensor:
        """The newest frame's latent, flat, ``[*B, L h w]``."""
        return self.newest_frame(state).flatten(-len(self.frame_shape))

    # -- how frames are drawn ------------------------------------------------------------------------------------------

    def make_sampler(self, sampling: NWMSamplingConfig) -> None:
        """Make what draws frames from now on.

        Raises:
            ValueError: if the sampler is unknown, or its numbers do not fit the levels.
        """
        s, levels = sampling, self.process.levels
        if s.sampler not in ("ancestral", "ddim"):
            raise ValueError(f"sampler is 'ancestral' or 'ddim'; got {s.sampler!r}.")
        if s.stride < 1:
            raise ValueError(f"stride is a number of steps of the environment, at least 1; got {s.stride}.")
        if s.stride > 1 and self.reward_end is not None:
            raise ValueError(
                f"reward and end are foretold of single steps; got stride {s.stride}: take 1, or no reward_end."
            )
        if s.sampler == "ancestral":
            if s.steps < 2 or s.eta:
                raise ValueError(
                    f"ancestral sampling takes at least 2 steps, and no eta; got {s.steps} and {s.eta}: take 'ddim'."
                )
            self._sampler = AncestralSampler(self.process.betas, spaced_levels(levels, s.steps))
        else:
            self._sampler = DDIMSampler(self.process.betas, levels_from_clean(levels, s.steps), s.eta)

    def step_noise(self, frames: int = 1) -> dict[str, TensorSpec]:
        """Where sampling begins, and what its steps add."""
        found: dict[str, TensorSpec] = {"frame": Unbounded(torch.Size([frames, *self.frame_shape]))}
        if self._sampler.uses_noise:
            found["fresh"] = Unbounded(torch.Size([self.sampling.steps, frames, *self.frame_shape]))
        return found

    def draw(self, past: FilmPast, led: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """New frames one after the other, each out of those before it."""
        film, count, frames = past.frames, past.count, led.shape[1]
        film = torch.cat([film, film.new_zeros(len(film), frames - 1, *self.frame_shape)], 1)
        stride, new = self.sampling.stride, []
        for k in range(frames):
            of_frame = {"frame": noise["frame"][:, k]} if "frame" in noise else {}
            if "fresh" in noise:
                of_frame["fresh"] = noise["fresh"][:, :, k]
            displacement = self.motion.of_action(led[:, k], stride)
            frame = self.frame_after(self._newest_frames(film, count), displacement, stride, of_frame)
            new.append(frame)
            if k + 1 < frames:
                film, count = put_at(film, frame.unsqueeze(1), count), count + 1
        return torch.stack(new, 1)

    def frame_after(self, context: Tensor, displacement: Tensor, frames: int, noise: Mapping[str, Tensor]) -> Tensor:
        """The frame some time after the last one of a context, denoised, ``[n, ...]``.

        Args:
            context: M frames, oldest first, ``[n, M, ...]``.
            displacement: since the last of them, as :attr:`motion` tells it, ``[n, A]``.
            frames: how many frames later, negative for earlier.
            noise: ``frame`` ``[n, ...]`` and ``fresh`` ``[n, steps, ...]``; what is missing is 0.
        """
        rows, device = len(context), context.device
        time = torch.full((rows,), frames / TIME_UNIT, device=device)

        def denoise(x: Tensor, step: SamplingStep) -> Denoised:
            level = torch.full((rows,), step.level, device=device)
            said = self.network(x, level, context, displacement, time)
            return denoised_with_variance(self.target, said, x, step.now)

        begin, fresh = noise.get("frame"), noise.get("fresh")
        begin = context.new_zeros(rows, *self.frame_shape) if begin is None else begin
        return self._sampler.sample(denoise, begin, None if fresh is None else fresh.transpose(0, 1))

    def jump(self, state: State, action: Tensor, frames: int, noise: Noise | None = None) -> State:
        """The state with a frame at its end that lies some time away, drawn at once.

        What reward and end remember stays as it is: they are foretold of single steps.

        Args:
            state: ``[*B, ...]``.
            action: the whole displacement since the newest frame, in the units of an action, ``[*B, ...]``; it may
                exceed the bounds of a single one.
            frames: how many frames later, negative for earlier.
            noise: as for a step of the dream; ``None`` for none.
        """
        lead, given = state[FILLED].shape[:-1], noise or {}
        rows = {key: value.reshape(-1, *value.shape[len(lead) :]) for key, value in state.items()}
        led = self.action_vector(action).reshape(len(rows[FILLED]), -1)
        drawn = {key: value.reshape(-1, *value.shape[len(lead) :]) for key, value in given.items()}
        begin, fresh = drawn.get("frame"), drawn.get("fresh")
        displacement = self.motion.of_action(led)
        new = []
        for part in self._shares(len(led), led.device):
            of_part = {} if begin is None else {"frame": begin[part, 0]}
            if fresh is not None:
                of_part["fresh"] = fresh[part, :, 0]
            context = self._newest_frames(rows[WINDOW][part], rows[FILLED][part])
            new.append(self.frame_after(context, displacement[part], frames, of_part))
        memory = {key: rows[key].clone() for key in ("h", "c") if key in rows}
        after = {**self._followed(rows, torch.cat(new), led), **memory}
        return {key: after[key].reshape(*lead, *after[key].shape[1:]) for key in keys_of(self.state_spec)}

    def _newest_frames(self, film: Tensor, count: Tensor) -> Tensor:
        """The last M of the frames that mean something, ``[n, M, ...]``; the first again where there are fewer."""
        place = (count - self.context + torch.arange(self.context, device=film.device)).clamp_min(0)
        return film[torch.arange(len(film), device=film.device)[:, None], place]

    # -- published weights ---------------------------------------------------------------------------------------------

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        tokenizer: LatentTokenizer,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
        config: NWMConfig | None = None,
    ) -> "NWM":
        """A world with the weights of github.com/facebookresearch/nwm.

        Args:
            weights: the checkpoint, of which the averaged weights are taken.
            tokenizer: the autoencoder that the paper takes from elsewhere: Stable Diffusion's ft-EMA.
            observation_spec: of images; 224 x 224 pixels, "pixels", if not given.
            action_spec: of the robot's steps; numbers between the published bounds, in units of each data set's
                waypoint spacing, if not given.
            config: sizes; those of the published CDiT-XL if not given.

        Raises:
            BadModelError: if keys or shapes are not those of this configuration.
            ValueError: if the parts do not fit each other.
        """
        if observation_spec is None:
            observation_spec = Composite(pixels=Bounded(0, 255, torch.Size([224, 224, 3]), dtype=torch.uint8))
        model = cls(
            NWMConfig.cdit_xl() if config is None else config,
            observation_spec,
            nwm_action_spec() if action_spec is None else action_spec,
            tokenizer,
        )
        load_mapped(model.network, averaged(weights), CDIT_RULES)
        return model


def nwm_action_spec() -> Bounded:
    """A robot's step as the published weights read it: forward and left in waypoint spacings, a turn in radians.

    Example:
        >>> nwm_action_spec().space.high.tolist()[:2]
        [5.0, 4.0]
    """
    return Bounded(torch.tensor([-2.5, -4.0, -math.pi]), torch.tensor([5.0, 4.0, math.pi]), torch.Size([3]))


def _autoencoder(
    config: ConvAutoencoderConfig | None, size: tuple[int, int, int]
) -> tuple[LatentTokenizer, tuple[int, ...]]:
    """An autoencoder with fresh weights, and the shape of the latents of images (H, W, C)."""
    if config is None:
        raise ValueError("this config has no autoencoder of its own: hand one over, NWM(..., tokenizer=...).")
    height, width, channels = size
    net = ConvAutoencoder(channels, config.latent, config.width, config.mults, config.blocks)
    if height % net.factor or width % net.factor:
        raise ValueError(
            f"the sides of an image halve {len(config.mults) - 1} times; got {height} x {width}: resize to a multiple "
            f"of {net.factor}, or give the autoencoder fewer mults."
        )
    return LatentTokenizer(net, scale=config.scale), (config.latent, height // net.factor, width // net.factor)


def _given(tokenizer: LatentTokenizer, size: tuple[int, int, int]) -> tuple[LatentTokenizer, tuple[int, ...]]:
    """An autoencoder that was handed over, and the shape of the latents of images (H, W, C)."""
    if not isinstance(tokenizer, LatentTokenizer):
        raise TypeError(
            f"tokenizer is a LatentTokenizer, such as diffusers_tokenizer(...) gives; got a {type(tokenizer).__name__}."
        )
    blank = torch.zeros(1, *size, dtype=torch.uint8, device=tokenizer.scale.device)
    return tokenizer, tuple(tokenizer.latents(blank).shape[1:])
