"""What worlds of a film's tokens share: a window of frames, filtered frame by frame and dreamt by MaskGIT."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.dynamics import MaskGITDecoding, MaskGITDynamics
from wmcomponents.functional import CosineSchedule, MaskGITNoise, WarmingSchedule, one_hot
from wmcomponents.functional.broadcast import aligned, keep_where
from wmcomponents.heads import FilmOutcomeHead
from wmcomponents.models.tokens.base import owned
from wmcomponents.models.tokens.film_cache import FilmCache
from wmcomponents.models.tokens.film_config import FilmDecodingConfig
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.tokenizers import LatentActionModel, VideoTokenizer
from wmcomponents.world_model import Noise, Observation, Prediction, State

LABEL = "latent_action"
"""Key of the codes that were told from recorded films."""


class FilmTokenWorld(PretrainedModel):
    """Base of models that see films as tokens and draw the next frame's tokens in a few rounds.

    A family says what its action's vector is to the dynamics (:meth:`action_code`), sets the parts, and gives an
    objective.

    Args:
        observation_spec: spec of one real observation: one uint8 image.
        action_spec: spec of one action of the dream.
        frames: W, of the window.
        shape: (H, W, C) of a frame.
        tokens: N, of a frame.
        vocabulary: number of tokens that there are.
        rounds: in which a frame is drawn.
        reveals_randomly: whether tokens are kept in a random order, in place of the surest first.

    Attributes:
        tokenizer: frames to tokens and back.
        dynamics: of the tokens.
        outcomes: reward and end of the window's newest frame; None where neither is predicted.
        decoding: rounds, temperature and schedule of a dream's frames.
        cache: of keys and values in the state; None where there is none.
        image_key: of the observation.
    """

    tokenizer: VideoTokenizer
    dynamics: MaskGITDynamics
    outcomes: FilmOutcomeHead | None
    decoding: MaskGITDecoding
    image_key: str

    def __init__(
        self,
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        frames: int,
        shape: Sequence[int],
        tokens: int,
        vocabulary: int,
        rounds: int,
        reveals_randomly: bool,
    ) -> None:
        if frames < 2:
            raise ValueError(f"what follows is told from what was, so a window has at least 2 frames; got {frames}.")
        vector, numbers = ActionVector(action_spec), Bounded(0, 1, torch.Size([rounds, tokens]))
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                frames=Bounded(0, 255, torch.Size([frames, *shape]), dtype=torch.uint8),
                tokens=Categorical(vocabulary, shape=torch.Size([frames, tokens])),
                led=Unbounded(torch.Size([frames, vector.size])),
                filled=Bounded(0, frames, torch.Size([1]), dtype=torch.int64),
            ),
            noise_spec=Composite(
                observe=Composite(),
                imagine=Composite({"choice": numbers, **({"order": numbers.clone()} if reveals_randomly else {})}),
            ),
        )
        self.action_vector = vector
        self.window = frames
        self.cache: FilmCache | None = None

    @abstractmethod
    def action_code(self, vector: Tensor) -> Tensor:
        """What the dynamics read of an action's vector ``[*B, A]``: ``[*B, E]``."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Pictures, features and an objective; reward and end where a part foretells them."""
        lacks = set() if self.outcomes is not None else {"reward", "continue"}
        return super().capabilities - lacks - (set() if self.cache is not None else {"inplace"})

    def keep_cache(self) -> None:
        """Let keys and values of past frames stand in the state; called once the parts are there."""
        tokens, led = self.state_spec["tokens"].shape[-1], self.state_spec["led"].shape[-1]
        size = self.action_code(torch.zeros(led, device=next(self.parameters()).device)).shape[-1]
        self.cache = FilmCache(self.dynamics, self.window, tokens, size)
        self.state_spec = Composite({**dict(self.state_spec.items()), **self.cache.spec()})

    def prepare(self, sequences: TensorDictBase) -> None:
        """Warn of rewards that the model does not tell apart."""
        if self.outcomes is not None:
            self.outcomes.rewards.prepare(rewards_in(sequences))

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The first choice, or the action whose vector is zero; nothing led to a film's first frame."""
        return self.action_vector.null(batch_size).to(device)

    # -- the verbs -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The window with the frame at its end, and its tokens in the light of the frames before it."""
        return self._uncached(self._filtered(state, action, observation, is_init))

    @torch.no_grad()
    def observe_last(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The last state of a sequence ``[*B, T]``; caches of the others are never held at once."""
        time = is_init.ndim - 2
        for t in range(is_init.shape[time]):
            shown = {key: value.select(time, t) for key, value in observation.items()}
            state = self._filtered(state, action.select(time, t), shown, is_init.select(time, t))
        return self._uncached(state)

    def _filtered(self, state: State, action: Tensor, observation: Observation, is_init: Tensor) -> State:
        goes_on = ~is_init
        state = {key: keep_where(state[key], goes_on) for key in ("frames", "tokens", "led", "filled")}
        is_led = goes_on & (state["filled"] > 0)
        frame, led = observation[self.image_key], keep_where(self.action_vector(action), is_led)
        before, place = self._with_room(state)
        frames = self._put(before["frames"], frame, place)
        lead = is_init.ndim - 1
        tokens = self.tokenizer.tokens(frames.reshape(-1, *frames.shape[lead:])).reshape(before["tokens"].shape)
        newest = _at(tokens, place)
        return self._after(before, frames, self._put(before["tokens"], newest, place), led, place)

    def _uncached(self, state: State) -> State:
        """The state, with a cache that holds nothing where there is one."""
        return state if self.cache is None else {**state, **self.cache.empty(state["filled"])}

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The window with a frame at its end that the dynamics draw, and what it pays."""
        return self.imagine_inplace(state if self.cache is None else owned(state), action, noise)

    @torch.no_grad()
    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same, written into the cache that the state has, if it has one."""
        before, place = self._with_room(state)
        lead, led = place.shape[:-1], self.action_vector(action)

        def rows(value: Tensor) -> Tensor:
            return value.reshape(-1, *value.shape[len(lead) :])

        past = slice(0, self.window - 1)  # the last place is the new frame's, where the window is full
        drawn = None
        if noise is not None:
            drawn = MaskGITNoise(rows(noise["choice"]), rows(noise["order"]) if "order" in noise else None)
        known = rows(before["tokens"])[:, past], self.action_code(rows(before["led"])[:, past])
        if self.cache is None:
            kept, read = {}, self.dynamics.remember(*known)
        else:
            cache = rows(state["kv_cache"]).contiguous()
            read = self.cache.past(self.dynamics, cache, rows(state["cached"]), *known, rows(place))
            kept = {"kv_cache": cache.view(*lead, *cache.shape[1:]), "cached": place.clone()}
        new = self.dynamics.draw(
            read, self.action_code(rows(led)), rows(place), known[0].shape[2], self.decoding, drawn
        )
        tokens = self._put(before["tokens"], new.reshape(*lead, -1), place)
        shown = self.tokenizer.pixels(rows(tokens)).reshape(before["frames"].shape)
        frames = self._put(before["frames"], _at(shown, place), place)
        after = self._after(before, frames, tokens, led, place)
        return Prediction({**after, **kept}, *self._outcome(after, place))

    def _outcome(self, after: State, place: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Reward and P(not terminated) of the frame at a place, each ``[*B, 1]``."""
        if self.outcomes is None:
            return None, None
        codes = self.tokenizer.quantizer.lookup(after["tokens"])
        rewards, ends = self.outcomes.compute(codes, self.action_code(after["led"]))
        reward = self.outcomes.rewards.reward(_at(rewards, place)).unsqueeze(-1)
        return reward, self.outcomes.cont(_at(ends, place))

    def decode(self, state: State) -> Observation:
        """The newest frame: the real one that was seen, or what the dreamt one's tokens look like."""
        return {self.image_key: self._newest(state["frames"], state["filled"])}

    @torch.no_grad()
    def features(self, state: State) -> Tensor:
        """The codes of the newest frame side by side, ``[*B, N E]``; zeros before the first."""
        tokens = self._newest(state["tokens"], state["filled"])
        return keep_where(self.tokenizer.quantizer.lookup(tokens).flatten(-2), state["filled"] > 0)

    # -- the window ----------------------------------------------------------------------------------------------------

    def _with_room(self, state: State) -> tuple[State, Tensor]:
        """Windows with room for one more frame, the oldest left out where there was none; and its place ``[*B, 1]``."""
        filled = state["filled"]
        is_full = filled >= self.window
        moved = {}
        for key in ("frames", "tokens", "led"):
            value = state[key]
            # What rolls over from the front is written over.
            moved[key] = torch.where(aligned(is_full, value), value.roll(-1, filled.ndim - 1), value)
        return moved, filled.clamp_max(self.window - 1)

    def _put(self, window: Tensor, new: Tensor, place: Tensor) -> Tensor:
        """A window ``[*B, W, ...]`` with something new ``[*B, ...]`` at a place ``[*B, 1]``."""
        is_there = torch.arange(self.window, device=place.device) == place
        return torch.where(aligned(is_there, window), new.unsqueeze(place.ndim - 1), window)

    def _after(self, before: State, frames: Tensor, tokens: Tensor, led: Tensor, place: Tensor) -> State:
        return {
            "frames": frames,
            "tokens": tokens,
            "led": self._put(before["led"], led, place),
            "filled": place + 1,
        }

    def _newest(self, window: Tensor, filled: Tensor) -> Tensor:
        return _at(window, (filled - 1).clamp_min(0))


class UnlabelledFilmWorld(FilmTokenWorld):
    """Base of film worlds whose actions are codes that they infer from films themselves.

    Recorded sequences need no actions, and their own are not looked at: :meth:`relabelled` puts codes in their place.

    Attributes:
        action_model: tells what led from frame to frame. To play, only its codebook is needed.
    """

    action_model: LatentActionModel

    @property
    def infers_actions(self) -> bool:
        """Its actions are codes."""
        return True

    def action_code(self, vector: Tensor) -> Tensor:
        """The vectors of codes ``[*B, K]``, one-hot: ``[*B, E]``."""
        codebook = self.action_model.quantizer.lookup(torch.arange(vector.shape[-1], device=vector.device))
        return vector.to(codebook.dtype) @ codebook

    def infer_codes(self, pixels: Tensor) -> Tensor:
        """What led to each frame but the first of films ``[B, T, H, W, C]``: numbers of codes, int64 ``[B, T - 1]``.

        Raises:
            ValueError: for films of a single frame, or of more than the window.
        """
        return self.action_model.tokens(pixels)

    @torch.no_grad()
    def relabelled(self, sequences: TensorDictBase) -> TensorDictBase:
        """Recorded sequences ``[B, T]`` with the code of each step in place of its action, told from two frames.

        They are under ``latent_action`` too, by which a second call knows that nothing is left to do.
        """
        if LABEL in sequences.keys():
            return sequences
        shown, following = sequences[self.image_key], sequences.get(("next", self.image_key), None)
        if following is None:  # what the last step led to is not known, and its action leads to nothing that is
            following = torch.cat([shown[:, 1:], shown[:, -1:]], 1)
        device = next(self.parameters()).device
        pairs = torch.stack([shown, following], 2).flatten(0, 1)
        codes = torch.cat([self.infer_codes(part.to(device)) for part in pairs.split(1024)]).view(shown.shape[:2])
        out = sequences.clone(False)
        out["action"] = one_hot(codes, self.action_spec.shape[-1], torch.bool).to(shown.device)
        out[LABEL] = codes.to(shown.device)
        return out


def _at(window: Tensor, place: Tensor) -> Tensor:
    """What stands at a place ``[*B, 1]`` of a window ``[*B, W, ...]``."""
    index = place.view(*place.shape, *(1,) * (window.ndim - place.ndim))
    return window.take_along_dim(index, place.ndim - 1).squeeze(place.ndim - 1)


def decoding_of(config: FilmDecodingConfig) -> MaskGITDecoding:
    """How a frame is drawn.

    Raises:
        ValueError: for no round, or a temperature that is not above 0.
    """
    c = config
    schedules = {"cosine": CosineSchedule(), "warming": WarmingSchedule()}
    if c.rounds < 1 or not c.temperature > 0:
        raise ValueError(f"rounds is at least 1, temperature above 0; got {c.rounds}, {c.temperature}.")
    return MaskGITDecoding(c.rounds, c.temperature, schedules[c.schedule])
