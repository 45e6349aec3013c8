"""DIAMOND (Alonso et al., Diffusion for World Modeling: Visual Details Matter in Atari, 2024), Atari and CS:GO."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.codecs.observation import DiscreteCodec
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.denoisers import EDMDenoiser, FrameNetwork
from wmcomponents.denoisers.edm import frames_as_channels
from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.edm import from_bytes, to_bytes
from wmcomponents.functional.edm_sampler import EDMSampler
from wmcomponents.functional.windows import windows_along
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.diamond.config import DenoiserConfig, DiamondConfig
from wmcomponents.models.diffusion.diamond.objective import DiamondLoss
from wmcomponents.models.diffusion.diamond.official import RULES
from wmcomponents.nn.chunks import row_chunks
from wmcomponents.nn.memory_format import keep_channels_last
from wmcomponents.pretrained import PretrainedModel, load_mapped
from wmcomponents.world_model import Noise, Observation, Prediction, State, keys_of


class Diamond(PretrainedModel):
    """DIAMOND: the next frame is drawn by diffusion, from the last frames and actions.

    State: ``frames`` uint8 ``[*B, context, H, W, C]``, the last frames as the environment lays them out, oldest first;
    ``seen`` int64 ``[*B, 1]``, how many of them there are (at most ``context``): before an episode's first frame the
    network sees zeros, mid-grey, which is no byte; ``actions`` float ``[*B, context - 1, A]``, vectors of the actions
    between them (the first choice where there was none); ``h`` and ``c`` float ``[*B, hidden]``, the memory of the
    model of reward and termination. With an upsampler (CS:GO) ``frames`` are the small ones, and ``large`` uint8
    ``[*B, upsampler.context, H', W', C]`` the last ones that the environment showed.

    Noise of a dream's step: ``frame``, normal, where sampling begins; ``churn`` and ``context_noise``, normal, where
    the sampler puts noise back; ``reward``, uniform; with an upsampler ``large_frame`` and ``large_churn``.

    How frames are sampled is a property of the model: :attr:`sampler`, which may be set.

    Args:
        config: sizes; a preset such as ``DiamondConfig.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image (H, W, C).
        action_spec: spec of one real action: a choice, several bits, or numbers.

    Raises:
        ValueError: if the observation is not a single image, or sizes do not fit each other.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded, Composite, OneHot
        >>> pixels = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = Diamond(DiamondConfig.tiny(), pixels, OneHot(4))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'objective', 'reward']
    """

    config_class = DiamondConfig
    config: DiamondConfig
    no_action: Tensor

    def __init__(self, config: DiamondConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        key, self._shape = image_of(observation_spec, "Diamond")
        height, width, planes = self._shape
        factor = 1 if c.upsampler is None else c.upsampler.factor
        if height % factor or width % factor:
            raise ValueError(f"an upsampler by {factor} shows sides that {factor} divides; got {height} x {width}.")
        if c.context < 1:
            raise ValueError(f"the denoiser sees at least one frame; got context={c.context}.")
        _check_upsampler(c)
        small = (height // factor, width // factor, planes)
        action = ActionVector(action_spec)
        entries: dict[str, TensorSpec] = {
            "frames": _bytes(c.context, small),
            "seen": Bounded(0, c.context, torch.Size([1]), dtype=torch.int64),
        }
        if c.context > 1:
            entries["actions"] = Unbounded(torch.Size([c.context - 1, action.size]))
        if c.reward_end is not None:
            entries |= {key: Unbounded(torch.Size([c.reward_end.hidden])) for key in ("h", "c")}
        if c.upsampler is not None:
            entries["large"] = _bytes(c.upsampler.context, self._shape)
        noise = _noise_spec(c, small, self._shape)
        super().__init__(
            observation_spec=observation_spec, action_spec=action_spec, state_spec=Composite(entries), noise_spec=noise
        )
        self.config = config
        self.key = key
        self.small_shape = small
        self.action_vector = action
        self.register_buffer("no_action", _no_action(action), persistent=False)
        self.denoiser = _denoiser(c.denoiser, planes, c.context, action.size)
        self.reward_end = self.upsampler = None
        if c.reward_end is not None:
            r = c.reward_end
            self.reward_end = RewardEndHead(small, action.size, r.hidden, r.cond, r.depths, r.channels, r.attends)
        if c.upsampler is not None:
            self.upsampler = _denoiser(c.upsampler.denoiser, planes, c.upsampler.context + 1, 0)
        keep_channels_last(self)

    # -- how it is sampled -------------------------------------------------------------------------------------------

    @property
    def sampler(self) -> EDMSampler:
        """How frames are drawn: number of steps, order, churn, noise on the context; an entry of the configuration.

        Set it before a simulator is built: what noise a step needs (``noise_spec``) follows from it.
        """
        return self.config.sampler

    @sampler.setter
    def sampler(self, value: EDMSampler) -> None:
        self._configure(replace(self.config, sampler=value))

    @property
    def upsampler_sampler(self) -> EDMSampler | None:
        """Likewise of the upsampler; ``None`` without one."""
        return None if self.config.upsampler is None else self.config.upsampler.sampler

    @upsampler_sampler.setter
    def upsampler_sampler(self, value: EDMSampler) -> None:
        if self.config.upsampler is None:
            raise ValueError("this Diamond has no upsampler, whose sampler could be set; set .sampler.")
        self._configure(replace(self.config, upsampler=replace(self.config.upsampler, sampler=value)))

    def _configure(self, config: DiamondConfig) -> None:
        _check_upsampler(config)
        self.config = config
        spec = _noise_spec(config, self.small_shape, self._shape)
        self.noise_spec = Composite(observe=Composite(), imagine=spec["imagine"]).to(self.noise_spec.device)

    # -- the protocol ------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> frozenset[str]:
        """No reward and no continuation without a model of them."""
        return super().capabilities - (set() if self.reward_end is not None else {"reward", "continue"})

    def prepare(self, sequences: TensorDictBase) -> None:
        """Warn of rewards that the model does not tell apart."""
        if self.reward_end is not None:
            self.reward_end.rewards.prepare(rewards_in(sequences))

    def objective(self) -> DiamondLoss:
        """The paper's losses for this model."""
        c, up = self.config, self.config.upsampler
        return DiamondLoss(
            self,
            segments=c.segments,
            autoregressive=c.autoregressive,
            reward_steps=c.reward_end.steps if c.reward_end is not None else 0,
            reward_windows=c.reward_end.windows if c.reward_end is not None else 0,
            upsampler_autoregressive=up.autoregressive if up is not None else 0,
            lr=c.lr,
            weight_decay=c.weight_decay,
            warmup=c.warmup,
            max_norm=c.max_norm,
            reward_max_norm=c.reward_max_norm,
        )

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """No frame, no action: the first choice stands for it, as in the paper."""
        state = super().initial_state(batch_size, device)
        if "actions" in state:
            state["actions"] = state["actions"] + self.no_action.to(device)
        return state

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """One step of the filter: the frame enters, and the memory takes in the real transition."""
        time = is_init.ndim - 1
        after = self.observe_sequence(
            state,
            action.unsqueeze(time),
            {self.key: observation[self.key].unsqueeze(time)},
            is_init.unsqueeze(time),
            None,
        )
        return {key: value.squeeze(time) for key, value in after.items()}

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The filter along a sequence: windows of frames and actions; the memory's convolutions all at once."""
        time, n = is_init.ndim - 2, self.config.context
        pixels, vector = observation[self.key], self.action_vector(action)
        small = pixels if self.upsampler is None else self.downsampled(pixels)
        seen, count = [], state["seen"]
        for first in is_init.unbind(time):
            count = torch.where(first, 1, (count + 1).clamp(max=n))
            seen.append(count)
        after = {"seen": torch.stack(seen, time)}
        after["frames"] = windows_along(state["frames"], small, after["seen"], time)
        if "actions" in state:
            real = (after["seen"] - 1).clamp(max=n - 1)
            after["actions"] = windows_along(state["actions"], vector, real, time, self.no_action)
        if self.upsampler is not None:
            after["large"] = windows_along(state["large"], pixels, after["seen"], time)
        if self.reward_end is not None:
            known = torch.cat([state["seen"].unsqueeze(time), after["seen"].narrow(time, 0, len(seen) - 1)], time) > 0
            before = torch.cat(
                [state["frames"].select(time, n - 1).unsqueeze(time), small.narrow(time, 0, len(seen) - 1)], time
            )
            before = torch.where(aligned(known, before), from_bytes(before), 0.0)
            code = self.code(before, vector, from_bytes(small))
            after["h"], after["c"] = self.reward_end.advance_sequence(code, state["h"], state["c"], is_init)
        return {key: after[key] for key in keys_of(self.state_spec)}

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream: the next frame by diffusion, then what the transition pays and whether it ends."""
        vector, noise = self.action_vector(action), noise or {}
        after = self._dream(state, vector, noise)
        reward = cont = None
        if self.reward_end is not None:
            last = state["frames"].select(vector.ndim - 1, -1)
            last = torch.where(aligned(state["seen"] > 0, last), from_bytes(last), 0.0)
            following = after["frames"].select(vector.ndim - 1, -1)
            code = self.code(last, vector, from_bytes(following))
            after["h"], after["c"] = self.reward_end.advance(code, state["h"], state["c"])
            rewards, ends = self.reward_end.raw(after["h"])
            draw = noise["reward"].squeeze(-1) if "reward" in noise else None
            reward, cont = self.reward_end.rewards.reward(rewards, draw).unsqueeze(-1), self.reward_end.cont(ends)
        return Prediction({key: after[key] for key in keys_of(self.state_spec)}, reward, cont)

    def decode(self, state: State) -> Observation:
        """The last frame."""
        frames = state["frames" if self.upsampler is None else "large"]
        return {self.key: frames.select(frames.ndim - 4, -1).clone()}

    # -- parts of the verbs, which the objective shares --------------------------------------------------------------

    def code(self, frame: Tensor, action: Tensor, following: Tensor) -> Tensor:
        """What the memory reads of transitions between float frames ``[*B, H, W, C]``: ``[*B, F]``."""
        assert self.reward_end is not None
        lead = frame.shape[:-3]
        before, after = (x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2) for x in (frame, following))
        rows = action.reshape(-1, action.shape[-1])
        shares = self._shares(len(rows), frame.device)
        pieces = [self.reward_end.encode(before[part], rows[part], after[part]) for part in shares]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).reshape(*lead, -1)

    def downsampled(self, pixels: Tensor) -> Tensor:
        """Large frames as small ones, uint8 ``[*B, H, W, C]``: bicubic, rounded."""
        height, width, planes = self.small_shape
        planar = pixels.reshape(-1, *self._shape).permute(0, 3, 1, 2).to(torch.float32)
        small = F.interpolate(planar, (height, width), mode="bicubic", antialias=True).round().clamp(0.0, 255.0)
        return small.to(torch.uint8).permute(0, 2, 3, 1).reshape(*pixels.shape[:-3], height, width, planes)

    def upsampled(self, small: Tensor) -> Tensor:
        """Small float images ``[n, C, H, W]`` as the upsampler's network sees them: bicubic, not clamped."""
        assert self.config.upsampler is not None
        return F.interpolate(small, scale_factor=float(self.config.upsampler.factor), mode="bicubic")

    def _dream(self, state: State, vector: Tensor, noise: Mapping[str, Tensor]) -> State:
        """Frames, actions and their number after a step."""
        lead, axis = vector.shape[:-1], vector.ndim - 1
        flat = {key: value.reshape(-1, *value.shape[axis:]) for key, value in (*state.items(), *noise.items())}
        rows = flat["seen"].shape[0]
        seen = flat["seen"].clamp(max=self.config.context)
        actions = vector.reshape(rows, 1, -1)
        if "actions" in state:
            actions = torch.cat([flat["actions"], actions], 1)
        after = {"seen": (seen + 1).clamp(max=self.config.context)}
        if "actions" in state:
            after["actions"] = actions[:, 1:]
        fresh: dict[str, list[Tensor]] = {"frames": [], "large": []}
        for part in self._shares(rows, vector.device):
            x = self._draw(flat, actions, part)
            fresh["frames"].append(to_bytes(x).permute(0, 2, 3, 1))
            if self.upsampler is not None:
                fresh["large"].append(to_bytes(self._draw_large(flat, x, part)).permute(0, 2, 3, 1))
        for key, pieces in fresh.items():
            if pieces:
                following = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
                after[key] = torch.cat([flat[key][:, 1:], following.unsqueeze(1)], 1)
        return {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()}

    def _draw(self, flat: Mapping[str, Tensor], actions: Tensor, part: slice) -> Tensor:
        """The next (small) frame of some rows, ``[n, C, H, W]``."""
        context = _context(flat["frames"][part], flat["seen"][part])
        sampler, acts = self.sampler, actions[part]
        start, churn = _base(flat, "frame", part, context[:, : self.small_shape[2]]), _planar(flat.get("churn"), part)
        contexts, sigma_context = [context] * sampler.steps, None
        if sampler.s_cond > 0:
            sigma_context = context.new_full((len(context),), sampler.s_cond)
            added = flat.get("context_noise")
            if added is not None:  # [n, steps, context, H, W, C], each on top of those before
                steps = (sampler.s_cond * added[part]).cumsum(1).unbind(1)
                contexts = [context + frames_as_channels(step) for step in steps]

        def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
            return self.denoiser.denoise(x, x.new_full((len(x),), sigma), contexts[step], acts, sigma_context)

        return sampler.sample(denoise, start, churn)

    def _draw_large(self, flat: Mapping[str, Tensor], small: Tensor, part: slice) -> Tensor:
        """The next large frame, from the small one ``[n, C, H, W]``."""
        upsampler, sampler = self.upsampler, self.upsampler_sampler
        assert upsampler is not None and sampler is not None
        large = flat["large"][part]
        past = _context(large, flat["seen"][part].clamp(max=large.shape[1]))
        context = torch.cat([past, self.upsampled(small)], 1)
        start = _base(flat, "large_frame", part, context[:, : self.small_shape[2]])

        def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
            return upsampler.denoise(x, x.new_full((len(x),), sigma), context)

        return sampler.sample(denoise, start, _planar(flat.get("large_churn"), part))

    def _shares(self, rows: int, device: torch.device) -> list[slice]:
        """Rows to be taken at once."""
        return row_chunks(rows, math.prod(self._shape[:2]), device)

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        config: DiamondConfig | None = None,
    ) -> "Diamond":
        """A model with the weights of github.com/eloialonso/diamond, branch ``main`` (Atari) or ``csgo``.

        Args:
            weights: an agent's checkpoint: one flat mapping; what belongs to the actor-critic is left out.
            observation_spec: of the environment: 64x64 images for Atari, 150x280 for CS:GO.
            action_spec: likewise: a choice of the game's own actions, or 51 bits.
            config: sizes; those of the paper that go with the weights if not given.

        Raises:
            BadModelError: if keys or shapes are not those of this configuration.
        """
        if config is None:
            is_csgo = any(str(key).startswith("upsampler.") for key in weights)
            config = DiamondConfig.csgo() if is_csgo else DiamondConfig.atari()
        return load_mapped(cls(config, observation_spec, action_spec), weights, RULES)


def _check_upsampler(config: DiamondConfig) -> None:
    """Refuse what the upsampler would not do."""
    up = config.upsampler
    if up is not None and up.context > config.context:
        raise ValueError(
            f"the upsampler sees no more past frames than the denoiser; got {up.context} and {config.context}: change "
            f"upsampler.context or context."
        )
    if up is not None and up.sampler.s_cond > 0:
        raise ValueError(
            f"the upsampler's past frames carry no noise; got s_cond={up.sampler.s_cond}: set it in the sampler of "
            f"small frames, or to 0 here."
        )


def _no_action(action: ActionVector) -> Tensor:
    """The vector that stands where there was no action: the first choice; zeros where there is no choice."""
    vector = torch.zeros(action.size)
    if isinstance(action.described, DiscreteCodec):
        first = 0
        for classes in action.described.classes:
            vector[first] = 1.0
            first += classes
    return vector


def _bytes(count: int, shape: tuple[int, ...]) -> TensorSpec:
    return Bounded(0, 255, torch.Size((count, *shape)), dtype=torch.uint8)


def _denoiser(config: DenoiserConfig, planes: int, context: int, action: int) -> EDMDenoiser:
    c = config
    network = FrameNetwork(
        image_channels=planes,
        context=context,
        action=action,
        action_steps=context,
        noised_context=c.noised_context,
        cond=c.cond,
        depths=c.depths,
        channels=c.channels,
        attends=c.attends,
    )
    return EDMDenoiser(network, c.sigma_data, c.sigma_offset)


def _noise_spec(config: DiamondConfig, small: tuple[int, ...], large: tuple[int, ...]) -> Composite:
    """The z of a dream's step: only what its samplers use."""
    sampler, upsampler = config.sampler, config.upsampler and config.upsampler.sampler
    entries: dict[str, TensorSpec] = {"frame": Unbounded(torch.Size(small))}
    if sampler.churns:
        entries["churn"] = Unbounded(torch.Size((sampler.steps, *small)))
    if sampler.s_cond > 0:
        entries["context_noise"] = Unbounded(torch.Size((sampler.steps, config.context, *small)))
    if config.reward_end is not None:
        entries["reward"] = Bounded(0, 1, torch.Size([1]))
    if upsampler is not None:
        entries["large_frame"] = Unbounded(torch.Size(large))
        if upsampler.churns:
            entries["large_churn"] = Unbounded(torch.Size((upsampler.steps, *large)))
    return Composite(imagine=Composite(entries))


def _context(frames: Tensor, seen: Tensor) -> Tensor:
    """Frames ``[n, t, H, W, C]`` as a network reads them, ``[n, tC, H, W]``: zero where there is none."""
    count = frames.shape[1]
    known = torch.arange(count, device=frames.device) >= count - seen
    floats = torch.where(known[:, :, None, None, None], from_bytes(frames), 0.0)
    return frames_as_channels(floats)


def _base(flat: Mapping[str, Tensor], key: str, part: slice, like: Tensor) -> Tensor:
    """Where sampling begins, ``[n, C, H, W]``; zero without noise."""
    noise = flat.get(key)
    return torch.zeros_like(like) if noise is None else noise[part].permute(0, 3, 1, 2)


def _planar(noise: Tensor | None, part: slice) -> Tensor | None:
    """Noise of each step, ``[n, steps, H, W, C]``, as ``[steps, n, C, H, W]``."""
    return None if noise is None else noise[part].permute(1, 0, 4, 2, 3)
