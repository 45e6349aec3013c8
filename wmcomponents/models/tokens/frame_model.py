"""Worlds whose frames are grids of tokens, each tokenized by itself, and a transformer over frames and actions."""

from typing import TypeVar

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import RewardDistribution
from wmcomponents.dynamics import TextVisionTransformer, TokenTransformer
from wmcomponents.functional.distributions.categorical import softmax
from wmcomponents.models.tokens.base import RewardedTransformerModel, rows_of
from wmcomponents.models.tokens.codebook import codes_from_frames_
from wmcomponents.nn import VectorQuantizer
from wmcomponents.tokenizers import ImageTokenizer
from wmcomponents.world_model import Noise, Observation, Prediction, State

D = TypeVar("D", bound=TokenTransformer | TextVisionTransformer)


class FrameTokenModel(RewardedTransformerModel[ImageTokenizer[VectorQuantizer], D]):
    """Base of models whose state is a frame's tokens, a KV cache, its length, and the output at the last action.

    Args:
        tokenizer: of single frames.
        dynamics: the transformer.
        observation_spec: of one real observation.
        action_spec: of one real action.
        image_key: of the image in an observation.
        rewards: how logits tell a reward.
        codes_from_data: whether the codebook begins with vectors of real frames (:meth:`prepare`).
    """

    fitted: Tensor

    def __init__(
        self,
        tokenizer: ImageTokenizer[VectorQuantizer],
        dynamics: D,
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        image_key: str,
        rewards: RewardDistribution,
        codes_from_data: bool,
    ) -> None:
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                tokens=Categorical(tokenizer.quantizer.codes, shape=torch.Size([tokenizer.length])),
                kv_cache=Unbounded(torch.Size(dynamics.kv_cache_shape)),
                length=Bounded(0, dynamics.max_positions, torch.Size([1]), dtype=torch.int64),
                hidden=Unbounded(dynamics.dim),
            ),
            noise_spec=Composite(
                observe=Composite(),
                imagine=Composite(
                    reward=Bounded(0, 1, torch.Size([1])),
                    tokens=Bounded(0, 1, torch.Size([tokenizer.length])),
                ),
            ),
        )
        self.image_key, self.codes_from_data = image_key, codes_from_data
        self.tokenizer, self.dynamics, self.rewards = tokenizer, dynamics, rewards
        if codes_from_data:
            self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def prepare(self, sequences: TensorDictBase) -> None:
        """Let the codebook begin with vectors of real frames, once, where that was asked for."""
        super().prepare(sequences)
        if not self.codes_from_data or bool(self.fitted):
            return
        codes_from_frames_(self.tokenizer, sequences[self.image_key])
        self.fitted.fill_(True)

    # -- the verbs -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same step of ``[*B]`` rows as :meth:`imagine`, written into the KV cache that it is given."""
        lead = state["length"].shape[:-1]
        rows = rows_of(state)
        made = self.dynamics.imagine(
            rows["tokens"],
            rows["kv_cache"],
            rows["length"],
            self.action_token(action).reshape(-1),
            None if noise is None else noise["tokens"].reshape(-1, self.tokenizer.length),
        )
        after = {"tokens": made.tokens, "kv_cache": rows["kv_cache"], "length": made.length, "hidden": made.hidden}
        return Prediction(
            {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()},
            self.rewards.reward(made.reward, None if noise is None else noise["reward"].reshape(-1)).reshape(*lead, 1),
            softmax(made.terminated)[:, :1].reshape(*lead, 1),
        )

    @torch.no_grad()
    def decode(self, state: State) -> Observation:
        """What the tokens look like, rounded to bytes."""
        return {self.image_key: self.tokenizer.pixels(state["tokens"])}

    @torch.no_grad()
    def features(self, state: State) -> Tensor:
        """The codes of the frame side by side, and the transformer's output at the last action."""
        return torch.cat([self.tokenizer.quantizer.lookup(state["tokens"]).flatten(-2), state["hidden"]], -1)

    def _read(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> dict[str, Tensor]:
        """The tokens of all images."""
        return {"tokens": self.tokenizer.tokens(observation[self.image_key])}

    @torch.no_grad()
    def _filtered(self, state: State, action: Tensor, seen: dict[str, Tensor], is_init: Tensor) -> State:
        """One step of the filter, written into the cache that it is given."""
        lead = is_init.shape[:-1]
        rows = rows_of(state)
        tokens = seen["tokens"].reshape(-1, seen["tokens"].shape[-1])
        length, hidden = self.dynamics.observe(
            rows["tokens"],
            rows["kv_cache"],
            rows["length"],
            self.action_token(action).reshape(-1),
            tokens,
            is_init.reshape(-1, 1),
        )
        after = {"tokens": tokens.clone(), "kv_cache": rows["kv_cache"], "length": length, "hidden": hidden}
        return {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()}


def halvings_of(side: int, grid: int) -> int:
    """How often an image's side is halved until it is the grid's.

    Raises:
        ValueError: if it does not come to that.
    """
    scale, rest = divmod(side, grid)
    if rest or scale < 1 or scale & (scale - 1):
        raise ValueError(
            f"an image's side is grid={grid} times a power of two, as every level halves it; got {side}: resize "
            f"the image, or choose another grid."
        )
    return scale.bit_length() - 1
