"""DIAMOND (Alonso et al., Diffusion for World Modeling: Visual Details Matter in Atari, 2024), Atari and CS:GO."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.codecs.observation import DiscreteCodec
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.denoisers import EDMDenoiser, FrameNetwork
from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.edm import from_bytes, to_bytes
from wmcomponents.functional.edm_sampler import EDMSampler
from wmcomponents.functional.windows import windows_along
from wmcomponents.heads import RewardEndHead
from wmcomponents.models.diffusion.diamond.config import DenoiserConfig, DiamondConfig, DiamondNetworkConfig
from wmcomponents.models.diffusion.diamond.objective import DiamondLoss
from wmcomponents.models.diffusion.diamond.official import RULES
from wmcomponents.models.diffusion.diamond.sampling import SamplingNoise, context_of, draw_frame
from wmcomponents.models.diffusion.diamond.specs import check_network, noise_spec, small_shape, state_spec
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
    reward_end: RewardEndHead | None
    upsampler: EDMDenoiser | None
    no_action: Tensor

    def __init__(self, config: DiamondConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        net = config.network
        check_network(net)
        self.image_key, self._shape = image_of(observation_spec, "Diamond")
        self.small_shape, action = small_shape(net, self._shape), ActionVector(action_spec)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=state_spec(net, self.small_shape, self._shape, action.size),
            noise_spec=noise_spec(net, self.small_shape, self._shape),
        )
        self.config = config
        self.action_vector = action
        self.register_buffer("no_action", _no_action(action), persistent=False)
        channels = self._shape[2]
        self.denoiser = _denoiser(net.denoiser, channels, net.context, action.size)
        self.reward_end = self.upsampler = None
        if net.reward_end is not None:
            r = net.reward_end
            self.reward_end = RewardEndHead(
                self.small_shape, action.size, r.hidden, r.cond, r.depths, r.channels, r.attends
            )
        if net.upsampler is not None:
            self.upsampler = _denoiser(net.upsampler.denoiser, channels, net.upsampler.context + 1, 0)
        keep_channels_last(self)

    # -- how it is sampled -------------------------------------------------------------------------------------------

    @property
    def sampler(self) -> EDMSampler:
        """How frames are drawn: number of steps, order, churn, noise on the context; an entry of the configuration.

        Set it before a simulator is built: what noise a step needs (``noise_spec``) follows from it.
        """
        return self.config.network.sampler

    @sampler.setter
    def sampler(self, value: EDMSampler) -> None:
        self._configure(replace(self.config.network, sampler=value))

    @property
    def upsampler_sampler(self) -> EDMSampler | None:
        """How large frames are drawn from small ones; ``None`` without an upsampler."""
        return None if self.config.network.upsampler is None else self.config.network.upsampler.sampler

    @upsampler_sampler.setter
    def upsampler_sampler(self, value: EDMSampler) -> None:
        upsampler = self.config.network.upsampler
        if upsampler is None:
            raise ValueError("this Diamond has no upsampler, whose sampler could be set; set .sampler.")
        self._configure(replace(self.config.network, upsampler=replace(upsampler, sampler=value)))

    def _configure(self, network: DiamondNetworkConfig) -> None:
        check_network(network)
        self.config = replace(self.config, network=network)
        self.noise_spec = noise_spec(network, self.small_shape, self._shape).to(self.noise_spec.device)

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
        return DiamondLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """No frame, no action: the first choice stands for it, as in the paper."""
        state = super().initial_state(batch_size, device)
        if "actions" in state:
            state["actions"] = state["actions"] + self.no_action.to(device)
        return state

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """One step of the filter: the frame ``[*B, H, W, C]`` enters, and the memory takes in the real transition."""
        time = is_init.ndim - 1
        after = self.observe_sequence(
            state,
            action.unsqueeze(time),
            {self.image_key: observation[self.image_key].unsqueeze(time)},
            is_init.unsqueeze(time),
            None,
        )
        return {key: value.squeeze(time) for key, value in after.items()}

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The filter along a sequence ``[*B, T]``: windows of frames and actions; the convolutions all at once."""
        time, n = is_init.ndim - 2, self.config.network.context
        pixels, vector = observation[self.image_key], self.action_vector(action)
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
        """One step of the dream, of ``[*B]`` rows: the next frame by diffusion, then reward and end."""
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
        return {self.image_key: frames.select(frames.ndim - 4, -1).clone()}

    # -- parts of the verbs, which the objective shares --------------------------------------------------------------

    def code(self, frame: Tensor, action: Tensor, following: Tensor) -> Tensor:
        """What the memory reads of transitions, ``[*B, F]``.

        Args:
            frame: x_t, floats ``[*B, H, W, C]``.
            action: vectors of a_t, ``[*B, A]``.
            following: x_{t+1}, floats ``[*B, H, W, C]``.
        """
        assert self.reward_end is not None
        lead = frame.shape[:-3]
        before, after = (x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2) for x in (frame, following))
        rows = action.reshape(-1, action.shape[-1])
        shares = self._shares(len(rows), frame.device)
        pieces = [self.reward_end.encode(before[part], rows[part], after[part]) for part in shares]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).reshape(*lead, -1)

    def downsampled(self, pixels: Tensor) -> Tensor:
        """Large frames as small ones, uint8 ``[*B, H, W, C]``: bicubic, rounded."""
        height, width, channels = self.small_shape
        planar = pixels.reshape(-1, *self._shape).permute(0, 3, 1, 2).to(torch.float32)
        small = F.interpolate(planar, (height, width), mode="bicubic", antialias=True).round().clamp(0.0, 255.0)
        return small.to(torch.uint8).permute(0, 2, 3, 1).reshape(*pixels.shape[:-3], height, width, channels)

    def upsampled(self, small: Tensor) -> Tensor:
        """Small float images ``[n, C, H, W]`` as the upsampler's network sees them: bicubic, not clamped."""
        assert self.config.network.upsampler is not None
        return F.interpolate(small, scale_factor=float(self.config.network.upsampler.factor), mode="bicubic")

    def _dream(self, state: State, vector: Tensor, noise: Mapping[str, Tensor]) -> State:
        """Frames, actions and their number after a step."""
        lead, axis = vector.shape[:-1], vector.ndim - 1
        flat = {key: value.reshape(-1, *value.shape[axis:]) for key, value in (*state.items(), *noise.items())}
        rows = flat["seen"].shape[0]
        seen = flat["seen"].clamp(max=self.config.network.context)
        actions = vector.reshape(rows, 1, -1)
        if "actions" in state:
            actions = torch.cat([flat["actions"], actions], 1)
        after = {"seen": (seen + 1).clamp(max=self.config.network.context)}
        if "actions" in state:
            after["actions"] = actions[:, 1:]
        drawn = [self._draw(flat, actions, part) for part in self._shares(rows, vector.device)]
        for key, frames in zip(("frames", "large"), zip(*drawn, strict=True), strict=False):
            following = frames[0] if len(frames) == 1 else torch.cat(frames)
            after[key] = torch.cat([flat[key][:, 1:], following.unsqueeze(1)], 1)
        return {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()}

    def _draw(self, flat: Mapping[str, Tensor], actions: Tensor, rows: slice) -> tuple[Tensor, ...]:
        """The next frame of some rows, uint8 ``[n, H, W, C]``; with an upsampler the small one and the large one."""
        seen, channels = flat["seen"][rows], self.small_shape[2]
        context = context_of(flat["frames"][rows], seen)
        noise = SamplingNoise.of(flat, rows, context[:, :channels])
        x = draw_frame(self.denoiser, self.sampler, context, actions[rows], noise)
        small = to_bytes(x).permute(0, 2, 3, 1)
        sampler = self.upsampler_sampler
        if self.upsampler is None or sampler is None:
            return (small,)
        large = flat["large"][rows]
        past = context_of(large, seen.clamp(max=large.shape[1]))
        context = torch.cat([past, self.upsampled(x)], 1)
        noise = SamplingNoise.of(flat, rows, context[:, :channels], "large_")
        x = draw_frame(self.upsampler, sampler, context, None, noise)
        return small, to_bytes(x).permute(0, 2, 3, 1)

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
            action_spec: of the environment: a choice of the game's own actions, or 51 bits.
            config: sizes; those of the paper that go with the weights if not given.

        Raises:
            BadModelError: if keys or shapes are not those of this configuration.
        """
        if config is None:
            is_csgo = any(str(key).startswith("upsampler.") for key in weights)
            config = DiamondConfig.csgo() if is_csgo else DiamondConfig.atari()
        return load_mapped(cls(config, observation_spec, action_spec), weights, RULES)


def _no_action(action: ActionVector) -> Tensor:
    """The vector that stands where there was no action: the first choice; zeros where there is no choice."""
    vector = torch.zeros(action.size)
    if isinstance(action.codec, DiscreteCodec):
        first = 0
        for classes in action.codec.classes:
            vector[first] = 1.0
            first += classes
    return vector


def _denoiser(config: DenoiserConfig, channels: int, context: int, action: int) -> EDMDenoiser:
    c = config
    network = FrameNetwork(
        image_channels=channels,
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
