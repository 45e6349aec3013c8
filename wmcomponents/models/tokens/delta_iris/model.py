"""Delta-IRIS: Micheli, Alonso and Fleuret, Efficient World Models with Context-Aware Tokenization (ICML 2024)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, OneHot, TensorSpec, Unbounded

from wmcomponents.codecs import RewardDistribution, SignReward, SymlogReward
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.dynamics import DeltaTransformer
from wmcomponents.functional.distributions.categorical import softmax
from wmcomponents.models.tokens.base import RewardedTransformerModel, choices_of, rows_of
from wmcomponents.models.tokens.delta_iris import official as official
from wmcomponents.models.tokens.delta_iris.config import (
    DeltaIRISConfig,
    DeltaIRISNetworkConfig,
    DeltaIRISTokenizerConfig,
)
from wmcomponents.models.tokens.delta_iris.objective import DeltaIRISLoss
from wmcomponents.models.tokens.iris.official import merged
from wmcomponents.nn import CosineQuantizer
from wmcomponents.pretrained.key_map import load_mapped
from wmcomponents.tokenizers import DeltaTokenizer
from wmcomponents.world_model import Noise, Observation, Prediction, State

REWARDS: dict[str, type[RewardDistribution]] = {"sign": SignReward, "two_hot": SymlogReward}


class DeltaIRIS(RewardedTransformerModel[DeltaTokenizer[CosineQuantizer], DeltaTransformer]):
    """Delta-IRIS: an autoencoder of the changes between frames, and a transformer over frames, actions and changes.

    State: ``frame`` uint8 ``[*B, H, W, C]``, the present frame; ``vector`` float ``[*B, dim]``, what the transformer
    sees of it; ``tokens`` int64 ``[*B, K]``, the change that led to it, 0 where an episode begins; ``kv_cache`` float
    ``[*B, layers, 2, heads, positions, d]``, keys and values of what the transformer has read; ``length`` int64
    ``[*B, 1]``, how many positions of it are in use; ``hidden`` float ``[*B, dim]``, the transformer's output at the
    last action, zero where an episode begins. Features: ``vector`` and ``hidden``.

    A step reads what it has not read yet (the last token of the change before, the frame, the action), and tells
    reward, end and the change token by token; the change and the frame give the next frame, rounded to bytes. Errors in
    pixels add up along a dream. Where no further block fits into the context, the row forgets all of it and begins
    anew with the present frame: of each row by itself. Observing, the change is encoded from the real frames.

    The cache is large (1 MB a row at the paper's size for Atari). :meth:`imagine` copies it; :meth:`imagine_inplace`,
    which a simulator uses, writes into the one it is given. Steps are not differentiable: tokens are choices.

    Args:
        config: sizes; a preset such as ``DeltaIRISConfig.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one square uint8 image.
        action_spec: spec of one real action, one choice out of several.

    Raises:
        ValueError: if the observation is not such an image, or does not halve as it should, or the action is not a
            choice.

    Example:
        >>> image = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = DeltaIRIS(DeltaIRISConfig.tiny(), image, OneHot(3))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'features', 'inplace', 'objective', 'reward']
    """

    config_class = DeltaIRISConfig
    config: DeltaIRISConfig

    def __init__(self, config: DeltaIRISConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        image_key, shape = image_of(observation_spec, "Delta-IRIS", is_square=True)
        actions, net = choices_of(action_spec, "Delta-IRIS"), config.network
        levels = net.levels(shape[0])
        if net.transformer.rewards not in REWARDS:
            raise ValueError(f"rewards are {' or '.join(map(repr, REWARDS))}; got {net.transformer.rewards!r}.")
        rewards = REWARDS[net.transformer.rewards]()
        tokenizer = _tokenizer(net.tokenizer, levels, shape, actions, image_key)
        dynamics = _dynamics(net, levels, shape, actions, rewards.size, image_key)
        drawn: dict[str, TensorSpec] = {"reward": Bounded(0, 1, torch.Size([1]))} if rewards.draws else {}
        drawn["tokens"] = Bounded(0, 1, torch.Size([tokenizer.length]))
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                frame=Bounded(0, 255, torch.Size(shape), dtype=torch.uint8),
                vector=Unbounded(dynamics.dim),
                tokens=Categorical(net.tokenizer.vocabulary, shape=torch.Size([tokenizer.length])),
                kv_cache=Unbounded(torch.Size(dynamics.kv_cache_shape)),
                length=Bounded(0, dynamics.max_positions, torch.Size([1]), dtype=torch.int64),
                hidden=Unbounded(dynamics.dim),
            ),
            noise_spec=Composite(observe=Composite(), imagine=Composite(drawn)),
        )
        self.config, self.image_key = config, image_key
        self.tokenizer, self.dynamics, self.rewards = tokenizer, dynamics, rewards

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        heads: int | None = None,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
    ) -> "DeltaIRIS":
        """The world model of an agent's checkpoint of vmicheli/delta-iris; its actor and critic are left out.

        Args:
            weights: the agent's ``state_dict``.
            heads: of the attention, which the weights do not tell; one for 64 features, as published, if not given.
            observation_spec: the key of the image; ``pixels`` if not given.
            action_spec: of the environment; a one-hot choice if not given.

        Raises:
            BadModelError: if a key is unknown, missing, or of another shape.
        """
        sizes = official.sizes(weights)
        shape, actions, dim = sizes.pop("shape"), sizes.pop("actions"), sizes.pop("dim")
        # What the shapes do not tell is the paper's for the environment that has such rewards.
        base = DeltaIRISConfig.atari() if sizes["rewards"] == "sign" else DeltaIRISConfig.crafter()
        config = base.vary(**sizes, heads=max(1, dim // 64) if heads is None else heads)
        shown = Composite(pixels=Bounded(0, 255, torch.Size(shape), dtype=torch.uint8))
        model = cls(
            config,
            shown if observation_spec is None else observation_spec,
            OneHot(actions) if action_spec is None else action_spec,
        )
        return load_mapped(model, merged(weights), official.RULES).eval()

    def objective(self) -> DeltaIRISLoss:
        """The paper's losses for this model: the tokenizer's first, then the transformer's."""
        return DeltaIRISLoss(self, self.config.loss, optimizer=self.config.optimizer)

    # -- the verbs -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same step of ``[*B]`` rows as :meth:`imagine`, written into the KV cache that it is given."""
        lead = state["length"].shape[:-1]
        rows, act = rows_of(state), self.action_token(action).reshape(-1)
        made = self.dynamics.imagine(
            rows["vector"],
            rows["tokens"][:, -1],
            rows["kv_cache"],
            rows["length"],
            act,
            None if noise is None else noise["tokens"].reshape(-1, self.tokenizer.length),
        )
        draw = noise["reward"].reshape(-1) if noise is not None and self.rewards.draws else None
        frame = self.tokenizer.pixels(rows["frame"], act, made.tokens)
        after = {"frame": frame, "vector": self.dynamics.frame_vector(frame), "tokens": made.tokens}
        after |= {"kv_cache": rows["kv_cache"], "length": made.length, "hidden": made.hidden}
        return Prediction(
            {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()},
            self.rewards.reward(made.reward, draw).reshape(*lead, 1),
            softmax(made.terminated)[:, :1].reshape(*lead, 1),
        )

    def decode(self, state: State) -> Observation:
        """The frame."""
        return {self.image_key: state["frame"].clone()}

    def features(self, state: State) -> Tensor:
        """What the transformer sees of the frame, and its output at the last action."""
        return torch.cat([state["vector"], state["hidden"]], -1)

    @torch.no_grad()
    def _read(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> dict[str, Tensor]:
        """All frames, what the transformer sees of them, and the changes that led to them."""
        time, frames = is_init.ndim - 2, observation[self.image_key]
        before = torch.cat([state["frame"].unsqueeze(time), frames.narrow(time, 0, frames.shape[time] - 1)], time)
        tokens = self.tokenizer.tokens(before, self.action_token(action), frames)
        tokens = tokens.masked_fill(is_init, 0)
        return {"frame": frames, "vector": self.dynamics.frame_vector(frames), "tokens": tokens}

    @torch.no_grad()
    def _filtered(self, state: State, action: Tensor, seen: dict[str, Tensor], is_init: Tensor) -> State:
        """One step of the filter, written into the cache that it is given."""
        lead = is_init.shape[:-1]
        rows = rows_of(state)
        now = {key: value.reshape(-1, *value.shape[len(lead) :]).clone() for key, value in seen.items()}
        length, hidden = self.dynamics.observe(
            rows["vector"],
            rows["tokens"][:, -1],
            rows["kv_cache"],
            rows["length"],
            self.action_token(action).reshape(-1),
            now["tokens"],
            is_init.reshape(-1, 1),
        )
        after = {**now, "kv_cache": rows["kv_cache"], "length": length, "hidden": hidden}
        return {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()}


Levels = tuple[tuple[int, ...], tuple[bool, ...]]
"""Multiples of the channels of each residual block, and whether the map halves behind it."""


def _tokenizer(
    config: DeltaIRISTokenizerConfig, levels: Levels, shape: tuple[int, int, int], actions: int, image_key: str
) -> DeltaTokenizer[CosineQuantizer]:
    c, (mults, halves) = config, levels
    return DeltaTokenizer(
        shape,
        actions,
        CosineQuantizer(c.vocabulary, c.code, beta=c.beta, revival=c.revival),
        tokens=c.tokens,
        features=c.features,
        context=c.context,
        action_channels=c.action_channels,
        channels=c.channels,
        context_channels=c.context_channels,
        mults=mults,
        halves=halves,
        in_keys=(image_key, "action_token", ("next", image_key)),
    )


def _dynamics(
    config: DeltaIRISNetworkConfig,
    levels: Levels,
    shape: tuple[int, int, int],
    actions: int,
    rewards: int,
    image_key: str,
) -> DeltaTransformer:
    c, (mults, halves) = config.transformer, levels
    return DeltaTransformer(
        config.tokenizer.vocabulary,
        actions,
        shape,
        tokens=config.tokenizer.tokens,
        max_blocks=c.max_blocks,
        layers=c.layers,
        heads=c.heads,
        features=c.frame_features,
        dropout=c.dropout,
        channels=c.frame_channels,
        mults=mults,
        halves=halves,
        rewards=rewards,
        in_keys=(image_key, "action_token", "tokens"),
    )
