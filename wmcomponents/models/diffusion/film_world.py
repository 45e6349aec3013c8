"""What worlds of diffusion over films share: a window of frames, filtered frame by frame and dreamt by denoising."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.functional.broadcast import keep_where
from wmcomponents.functional.film_window import place_of, put_at, stands_at, with_room
from wmcomponents.heads import RewardEndHead
from wmcomponents.nn.chunks import row_chunks
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import Noise, Observation, Prediction, State, keys_of

WINDOW, LED, FILLED, SAID = "window", "led", "filled", "said"
"""State keys: the frames, the actions that led to them, how many there are, and the text that was said last."""


S = TypeVar("S")
"""A config of how frames are drawn: steps, guidance and what else may be chosen after training."""


class FilmPast(NamedTuple):
    """What a new frame of n rows is drawn from.

    Attributes:
        frames: oldest first, ``[n, P, ...]``; those behind ``count`` are of no meaning.
        led: vectors of the actions that led to them, ``[n, P, A]``; 0 where none did.
        count: how many there are, ``[n, 1]``.
        said: the text, ``[n, M, E]``; ``None`` where there are none.
    """

    frames: Tensor
    led: Tensor
    count: Tensor
    said: Tensor | None = None


class FilmDiffusionWorld(PretrainedModel, Generic[S]):
    """Base of worlds that draw frame after frame by diffusion, out of a window of frames.

    A family says how pictures become frames and back (:meth:`frames_of`, :meth:`pixels_of`), how new ones are drawn
    (:meth:`draw`) and out of what noise (:meth:`step_noise`), and sets its networks; then it calls
    :meth:`settle_sampling` with the part ``sampling`` of its config. Frames are pixels or latents, as the network reads
    them; they become pictures when someone looks.

    State: ``window`` float ``[*B, W, ...]``, frames, oldest first; ``led`` float ``[*B, W, A]``, the vector of the
    action that led to each, 0 where none did; ``filled`` int64 ``[*B, 1]``, how many there are, what lies behind them
    is of no meaning; with a model of reward and end ``h`` and ``c``, its memory; with texts ``said``, float
    ``[*B, M, E]``, the one beside the last observation, with which a dream goes on.

    Args:
        observation_spec: spec of one real observation: one uint8 image, and a text where there are any.
        action_spec: spec of one real action.
        image_key: of the image.
        frames: W.
        shape: of a frame, channels first.
        reward_end: foretells reward and end from frames that follow each other; ``None`` for none.
        text_key: of the text, vectors ``[M, E]`` of an encoder; ``None`` where there are none.
        at_once: most frames that are drawn together; W - 1 if not given.

    Attributes:
        action_vector: actions as vectors.
        window: W.
        at_once: most frames that are drawn together.

    Raises:
        ValueError: if the window has fewer than 2 frames.
    """

    reward_end: RewardEndHead | None
    config: Any

    def __init__(
        self,
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        image_key: str,
        frames: int,
        shape: Sequence[int],
        reward_end: RewardEndHead | None = None,
        text_key: str | None = None,
        at_once: int | None = None,
    ) -> None:
        if frames < 2:
            raise ValueError(f"what follows is told from what was, so a window has at least 2 frames; got {frames}.")
        vector = ActionVector(action_spec)
        entries: dict[str, TensorSpec] = {
            WINDOW: Unbounded(torch.Size([frames, *shape])),
            LED: Unbounded(torch.Size([frames, vector.size])),
            FILLED: Bounded(0, frames, torch.Size([1]), dtype=torch.int64),
        }
        if reward_end is not None:
            entries |= {key: Unbounded(torch.Size([reward_end.hidden])) for key in ("h", "c")}
        if text_key is not None:
            entries[SAID] = Unbounded(observation_spec[text_key].shape)
        super().__init__(observation_spec=observation_spec, action_spec=action_spec, state_spec=Composite(entries))
        self.image_key, self.window, self.frame_shape = image_key, frames, tuple(shape)
        self.text_key = text_key
        self.action_vector, self.reward_end = vector, reward_end
        self.at_once = frames - 1 if at_once is None else at_once

    # -- what a family writes ------------------------------------------------------------------------------------------

    @abstractmethod
    def frames_of(self, pixels: Tensor) -> Tensor:
        """Frames of images uint8 ``[*B, H, W, C]``, ``[*B, ...]``, without gradient."""

    @abstractmethod
    def pixels_of(self, frames: Tensor) -> Tensor:
        """Images uint8 ``[*B, H, W, C]`` of frames ``[*B, ...]``, without gradient."""

    @abstractmethod
    def draw(self, past: FilmPast, led: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """New frames of n rows, ``[n, K, ...]``.

        Args:
            past: at most W - K frames.
            led: vectors of the actions that lead to them, ``[n, K, A]``.
            noise: as :meth:`step_noise` has it; what is missing is 0.
        """

    @abstractmethod
    def make_sampler(self, sampling: S) -> None:
        """Make what draws frames from now on; the model is as it was where numbers do not fit.

        Args:
            sampling: how frames are drawn.

        Raises:
            ValueError: if they do not fit.
        """

    @abstractmethod
    def step_noise(self, frames: int = 1) -> dict[str, TensorSpec]:
        """Spec of the noise out of which so many frames are drawn, by name; without what reward and end take."""

    def observe_noise(self) -> dict[str, TensorSpec]:
        """Spec of the noise out of which what is seen becomes a frame, by name; none unless a family says so."""
        return {}

    def seen_frames(self, pixels: Tensor, noise: Noise | None) -> Tensor:
        """Frames of images that are observed; :meth:`frames_of` unless a family draws them out of noise.

        Args:
            pixels: uint8 ``[*B, H, W, C]``.
            noise: as :meth:`observe_noise` has it, ``[*B, ...]``; ``None`` for the mode.
        """
        return self.frames_of(pixels)

    def settle_sampling(self, sampling: S) -> None:
        """Say how frames are drawn from now on; what noise a step takes follows from it.

        Args:
            sampling: how frames are drawn.

        Raises:
            ValueError: if its numbers do not fit the model.
        """
        self.make_sampler(sampling)
        self._sampling = sampling
        noise = {"observe": Composite(self.observe_noise()), "imagine": Composite(self._noise_of(1))}
        self.noise_spec = Composite(noise).to(self.noise_spec.device)

    @property
    def sampling(self) -> S:
        """How frames are drawn.

        Set it before a simulator is built: what noise a step needs (``noise_spec``) follows from it.
        """
        return self._sampling

    @sampling.setter
    def sampling(self, value: S) -> None:
        self.settle_sampling(value)
        self.config = self.config.vary(sampling=value)

    # -- the protocol --------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> frozenset[str]:
        """Pictures and an objective; reward and end where the model foretells them."""
        missing = {"features"} if self.reward_end is not None else {"features", "reward", "continue"}
        return super().capabilities - missing

    def prepare(self, sequences: TensorDictBase) -> None:
        """Warn of rewards that the model does not tell apart."""
        if self.reward_end is not None:
            self.reward_end.rewards.prepare(rewards_in(sequences))

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The first choice, or the action whose vector is zero; nothing led to a film's first frame."""
        return self.action_vector.null(batch_size).to(device)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The window with the observation at its end; alone in it where an episode begins."""
        frames = self.seen_frames(observation[self.image_key], noise)
        return self._seen(state, action, frames, is_init, self._text(observation))

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """As :meth:`observe` of each step; the observations become frames all at once."""
        time, states = is_init.ndim - 2, []
        for step in self._steps(action, observation, is_init, noise):
            state = self._seen(state, *step)
            states.append(state)
        return {key: torch.stack([one[key] for one in states], time) for key in states[0]}

    def observe_last(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The last state of :meth:`observe_sequence`, without keeping those before it."""
        for step in self._steps(action, observation, is_init, noise):
            state = self._seen(state, *step)
        return state

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream, of ``[*B]`` rows: the next frame by diffusion, then reward and end."""
        time = action.ndim - self.action_spec.ndim
        after = self.imagine_film(state, action.unsqueeze(time), noise)
        step = {key: value.squeeze(time) for key, value in after.state.items()}
        return Prediction(step, *(None if one is None else one.squeeze(time) for one in after[1:]))

    def imagine_film(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """Several frames at once, for as many actions: what follows ``[*B, K]``, as K steps of a dream would.

        How they are drawn together is the family's affair; of the past fewer frames are looked at than in K single
        steps where the window has no room for all.

        Args:
            state: ``[*B, ...]``.
            action: ``[*B, K, ...]``, one for each frame, K at most :attr:`at_once`.
            noise: ``[*B, ...]``, as :meth:`film_noise_spec` has it; ``None`` for none.

        Raises:
            ValueError: for no frame, or more than are drawn together.
        """
        led, given = self.action_vector(action), noise or {}
        lead, count = led.shape[:-2], led.shape[-2]
        self._check_count(count)

        def rows(value: Tensor) -> Tensor:
            return value.reshape(-1, *value.shape[len(lead) :])

        old, led = {key: rows(value) for key, value in state.items()}, rows(led)
        drawn_from = {key: rows(value) for key, value in given.items()}
        place = place_of(old[FILLED], self.window, count)
        window, path = (with_room(old[key], old[FILLED], count) for key in (WINDOW, LED))
        kept = self.window - count
        new = [
            self.draw(
                FilmPast(window[part, :kept], path[part, :kept], place[part], old[SAID][part] if SAID in old else None),
                led[part],
                {key: value[part] for key, value in drawn_from.items()},
            )
            for part in self._shares(len(led), led.device)
        ]
        frames = new[0] if len(new) == 1 else torch.cat(new)
        states, reward, cont = self._outcomes(old, led, frames, drawn_from)
        shaped = {key: value.reshape(*lead, *value.shape[1:]) for key, value in states.items()}
        outcome = (None if one is None else one.reshape(*lead, *one.shape[1:]) for one in (reward, cont))
        return Prediction({key: shaped[key] for key in keys_of(self.state_spec)}, *outcome)

    def film_noise_spec(self, frames: int) -> Composite:
        """Spec of the noise of :meth:`imagine_film`.

        Args:
            frames: K.

        Raises:
            ValueError: for no frame, or more than are drawn together.
        """
        self._check_count(frames)
        return Composite(self._noise_of(frames))

    def decode(self, state: State) -> Observation:
        """The newest frame as a picture; that of no frame before the first; and the text that was said."""
        frame = self.newest_frame(state)
        lead = frame.shape[: frame.ndim - len(self.frame_shape)]
        pixels = self.pixels_of(frame.reshape(-1, *self.frame_shape))
        shown = {self.image_key: pixels.reshape(*lead, *pixels.shape[1:])}
        if self.text_key is not None:
            shown[self.text_key] = state[SAID].to(self.observation_spec[self.text_key].dtype)
        return shown

    def newest_frame(self, state: State) -> Tensor:
        """The newest frame of states ``[*B, ...]``, ``[*B, ...]``; that of no frame before the first.

        Args:
            state: of the world.
        """
        lead = state[FILLED].shape[:-1]
        rows = {key: state[key].reshape(-1, *state[key].shape[len(lead) :]) for key in (WINDOW, FILLED)}
        return self._newest(rows).reshape(*lead, *self.frame_shape)

    # -- reward and end ------------------------------------------------------------------------------------------------

    def code(self, frame: Tensor, led: Tensor, following: Tensor) -> Tensor:
        """What the memory of reward and end reads of transitions, ``[*B, F]``.

        Args:
            frame: x_t, ``[*B, C, H, W]``.
            led: vectors of a_t, ``[*B, A]``.
            following: x_{t+1}.
        """
        assert self.reward_end is not None
        lead, event = frame.shape[:-3], frame.shape[-3:]
        before, after, action = frame.reshape(-1, *event), following.reshape(-1, *event), led.reshape(-1, led.shape[-1])
        shares = row_chunks(len(action), math.prod(event[1:]), frame.device)
        pieces = [self.reward_end.encode(before[part], action[part], after[part]) for part in shares]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).reshape(*lead, -1)

    def _outcomes(
        self, old: Mapping[str, Tensor], led: Tensor, frames: Tensor, noise: Mapping[str, Tensor]
    ) -> tuple[State, Tensor | None, Tensor | None]:
        """States, rewards and P(not terminated) along new frames, ``[n, K, ...]``."""
        state, states, rewards, conts = dict(old), [], [], []
        for k in range(led.shape[1]):
            frame, action = frames[:, k], led[:, k]
            after = self._followed(state, frame, action)
            if self.reward_end is not None:
                code = self.code(self._newest(state), action, frame)
                after["h"], after["c"] = self.reward_end.advance(code, state["h"], state["c"])
                logits, ends = self.reward_end.raw(after["h"])
                draw = noise["reward"][:, k] if "reward" in noise else None
                rewards.append(self.reward_end.rewards.reward(logits, draw).unsqueeze(-1))
                conts.append(self.reward_end.cont(ends))
            states.append(after)
            state = after
        joined = {key: torch.stack([one[key] for one in states], 1) for key in states[0]}
        return joined, torch.stack(rewards, 1) if rewards else None, torch.stack(conts, 1) if conts else None

    # -- the window ----------------------------------------------------------------------------------------------------

    def _steps(
        self, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """The action that led to each step of a sequence ``[*B, T, ...]``, its frame, whether it is a first, a text."""
        time, text = is_init.ndim - 2, self._text(observation)
        frames = self.seen_frames(observation[self.image_key], noise)
        for t in range(is_init.shape[time]):
            said = None if text is None else text.select(time, t)
            yield action.select(time, t), frames.select(time, t), is_init.select(time, t), said

    def _text(self, observation: Observation) -> Tensor | None:
        return None if self.text_key is None else observation[self.text_key].float()

    def _seen(self, state: State, action: Tensor, frame: Tensor, is_init: Tensor, said: Tensor | None) -> State:
        """The state with a real frame ``[*B, ...]`` at its end, and what was before it where the episode goes on."""
        lead = is_init.shape[:-1]
        goes_on = ~is_init
        state = {key: keep_where(value, goes_on) for key, value in state.items()}
        # What is no action, where an episode begins, may be anything.
        is_led = goes_on & (state[FILLED] > 0)
        led = keep_where(self.action_vector(keep_where(action, is_led)), is_led)
        flat = {key: value.reshape(-1, *value.shape[len(lead) :]) for key, value in state.items()}
        if said is not None:
            flat[SAID] = said.reshape(-1, *said.shape[len(lead) :])
        new, led = frame.reshape(-1, *self.frame_shape), led.reshape(-1, led.shape[-1])
        after = self._followed(flat, new, led)
        if self.reward_end is not None:
            known = keep_where(self._newest(flat), flat[FILLED] > 0)
            memory = self.reward_end.advance(self.code(known, led, new), flat["h"], flat["c"])
            keeps = goes_on.reshape(-1, 1)
            after["h"], after["c"] = (keep_where(one, keeps) for one in memory)
        return {key: after[key].reshape(*lead, *after[key].shape[1:]) for key in keys_of(self.state_spec)}

    def _followed(self, state: Mapping[str, Tensor], frame: Tensor, led: Tensor) -> State:
        """Rows ``[n, ...]`` with one more frame at their end; the oldest leaves where there is no room."""
        filled, place = state[FILLED], place_of(state[FILLED], self.window)
        moved = {key: with_room(state[key], filled) for key in (WINDOW, LED)}
        return {
            WINDOW: put_at(moved[WINDOW], frame.unsqueeze(1), place),
            LED: put_at(moved[LED], led.unsqueeze(1), place),
            FILLED: place + 1,
            **{key: state[key].clone() for key in (SAID,) if key in state},
        }

    def _newest(self, state: Mapping[str, Tensor]) -> Tensor:
        return stands_at(state[WINDOW], (state[FILLED] - 1).clamp_min(0))

    def _noise_of(self, frames: int) -> dict[str, TensorSpec]:
        outcome: dict[str, TensorSpec] = {}
        if self.reward_end is not None:
            outcome["reward"] = Bounded(0, 1, torch.Size([frames]))
        return {**self.step_noise(frames), **outcome}

    def _shares(self, rows: int, device: torch.device) -> list[slice]:
        """Rows to be drawn at once."""
        return row_chunks(rows, self.window * math.prod(self.frame_shape[1:]), device)

    def _check_count(self, frames: int) -> None:
        if not 0 < frames <= self.at_once:
            raise ValueError(
                f"of a window of {self.window} frames at least 1 and at most {self.at_once} are drawn at once; got "
                f"{frames} actions."
            )
