"""Delta-IRIS: Micheli, Alonso and Fleuret, Efficient World Models with Context-Aware Tokenization (ICML 2024)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, OneHot, TensorSpec, Unbounded

from wmcomponents.codecs import RewardDistribution, SignReward, SymlogReward
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.dynamics import DeltaTransformer
from wmcomponents.functional.distributions.categorical import softmax
from wmcomponents.models.tokens.base import CachedTransformerModel, choices_of, rows_of
from wmcomponents.models.tokens.delta_iris import official as official
from wmcomponents.models.tokens.delta_iris.objective import DeltaIRISLoss
from wmcomponents.models.tokens.iris.official import merged
from wmcomponents.nn import CosineQuantizer
from wmcomponents.pretrained.key_map import load_mapped
from wmcomponents.tokenizers import DeltaTokenizer
from wmcomponents.world_model import Noise, Observation, Prediction, State

REWARDS: dict[str, type[RewardDistribution]] = {"sign": SignReward, "two_hot": SymlogReward}


@dataclass(frozen=True)
class DeltaIRISConfig:
    """Sizes and training of a Delta-IRIS world model; the defaults are the paper's for Atari.

    Attributes:
        tokens: of the change from a frame to the next, a square number.
        mults: of the channels of every CNN, one for each residual block.
        halves: whether height and width halve behind the block.
        largest_map: if given, ``mults`` and ``halves`` follow from the image instead: blocks of one width, and as
            many halvings, at least one, as bring its side to at most this.
        channels: of the tokenizer's encoder and decoder, a multiple of 32.
        features: of the encoder's output and of the codes' part of the decoder's input.
        context_channels: of the CNN through which the decoder sees the frame before, a multiple of 32.
        context: of that CNN's output.
        action_channels: of what the decoder sees of the action.
        vocabulary: codes in the codebook.
        code: size of a code.
        beta: factor on the commitment loss.
        revival: updates of the codebook in which unused codes are revived.
        layers: of the transformer.
        heads: of its attention.
        frame_channels: of the CNN through which it sees frames, a multiple of 32.
        frame_features: of that CNN's output; with its height and width they make the size of the embeddings.
        dropout: in the transformer's training.
        max_blocks: frames in its context.
        rewards: ``"sign"``, drawn, or ``"two_hot"`` in symlog space, of which the mean is taken.
        tokenizer_steps: updates of the tokenizer before those of the transformer.
        tokenizer_every: after those, every how many updates the tokenizer is trained on; 0 for never again.
        tokenizer_frames: transitions in one of its updates, drawn from the batch; 0 takes all.
        tokenizer_rate: learning rate of the tokenizer.
        tokenizer_decay: weight decay of its linear maps.
        absolute: factor on the absolute error of a frame.
        squared: factor on its squared error.
        worst: factor on the squared error of its worst pixel.
        transformer_rate: learning rate of the transformer.
        token_scale: factor on its loss of tokens.
        reward_scale: factor on its loss of rewards.
        termination_scale: factor on its loss of terminations.
    """

    tokens: int = 4
    mults: tuple[int, ...] = (1, 1, 2, 2, 4)
    halves: tuple[bool, ...] = (True, False, True, True, False)
    largest_map: int = 0
    channels: int = 64
    features: int = 64
    context_channels: int = 32
    context: int = 16
    action_channels: int = 4
    vocabulary: int = 1024
    code: int = 64
    beta: float = 0.02
    revival: int = 400
    layers: int = 3
    heads: int = 4
    frame_channels: int = 32
    frame_features: int = 4
    dropout: float = 0.0
    max_blocks: int = 26
    rewards: Literal["sign", "two_hot"] = "sign"
    tokenizer_steps: int = 5400
    tokenizer_every: int = 2
    tokenizer_frames: int = 0
    tokenizer_rate: float = 1e-4
    tokenizer_decay: float = 0.0
    absolute: float = 0.1
    squared: float = 1.0
    worst: float = 0.01
    transformer_rate: float = 1e-4
    token_scale: float = 0.1
    reward_scale: float = 1.0
    termination_scale: float = 0.1

    @classmethod
    def tiny(cls, **changes: Any) -> "DeltaIRISConfig":
        """For images of 16 or 32 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper.

        Its size follows from the image, as that of the transformer's embeddings does: 0.9 million parameters at 16
        pixels a side, 11 at 32 and 64, 17 at 36, 4 at 96.
        """
        # At a quarter of the side, small things blur: a dream decodes its own frames, and soon shows the mean image.
        halving = {} if changes.keys() & {"mults", "halves"} else {"largest_map": 16}
        sizes = {"mults": (1, 1), "halves": (True, False), "channels": 32, "features": 16, "context": 8, **halving}
        codes = {"vocabulary": 64, "code": 16, "action_channels": 2}
        context = {"layers": 3, "frame_features": 2, "max_blocks": 16}
        training = {"tokenizer_steps": 900, "tokenizer_every": 0, "tokenizer_frames": 64, "token_scale": 1.0}
        rates = {"tokenizer_rate": 1e-3, "transformer_rate": 1e-3, "worst": 0.03}
        return cls(**{**sizes, **codes, **context, **training, **rates, **changes})

    @classmethod
    def pong(cls, **changes: Any) -> "DeltaIRISConfig":
        """For ALE/Pong at 64x64 on a CPU. Not a scaled-down paper."""
        sizes = {"mults": (1, 1), "halves": (True, True), "channels": 32, "features": 16, "context": 32}
        codes = {"vocabulary": 128, "code": 32}
        context = {"layers": 3, "frame_features": 1, "max_blocks": 8}
        training = {"tokenizer_steps": 400, "tokenizer_every": 0, "tokenizer_frames": 16, "token_scale": 1.0}
        rates = {"tokenizer_rate": 1e-3, "transformer_rate": 1e-3, "worst": 0.03}
        return cls(**{**sizes, **codes, **context, **training, **rates, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "DeltaIRISConfig":
        """Atari 100k at 64x64: 4,065,715 parameters in the tokenizer, 3,577,257 in the transformer with 4 actions."""
        return cls(**changes)

    @classmethod
    def crafter(cls, **changes: Any) -> "DeltaIRISConfig":
        """Crafter at 64x64: 5,409,611 parameters in the tokenizer, 11,948,457 in the transformer with 17 actions."""
        sizes = {"context_channels": 64, "context": 8, "heads": 8, "frame_features": 8, "max_blocks": 21}
        training = {"revival": 0, "rewards": "two_hot", "tokenizer_steps": 5000, "tokenizer_decay": 0.01}
        scales = {"token_scale": 1.0, "termination_scale": 1.0}
        return cls(**{**sizes, **training, **scales, **changes})


class DeltaIRIS(CachedTransformerModel):
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
        ['continue', 'decode', 'inplace', 'features', 'objective', 'reward']
    """

    config_class = DeltaIRISConfig
    config: DeltaIRISConfig

    def __init__(self, config: DeltaIRISConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        key, shape = image_of(observation_spec, "Delta-IRIS", is_square=True)
        actions = choices_of(action_spec, "Delta-IRIS")
        mults, halves = (
            (c.mults, c.halves) if not c.largest_map else levels_of(shape[0], c.largest_map, math.isqrt(c.tokens))
        )
        if c.rewards not in REWARDS:
            raise ValueError(f"rewards are {' or '.join(map(repr, REWARDS))}; got {c.rewards!r}.")
        rewards = REWARDS[c.rewards]()
        tokenizer = DeltaTokenizer(
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
            in_keys=(key, "action_token", ("next", key)),
        )
        dynamics = DeltaTransformer(
            c.vocabulary,
            actions,
            shape,
            tokens=c.tokens,
            max_blocks=c.max_blocks,
            layers=c.layers,
            heads=c.heads,
            features=c.frame_features,
            dropout=c.dropout,
            channels=c.frame_channels,
            mults=mults,
            halves=halves,
            rewards=rewards.size,
            in_keys=(key, "action_token", "tokens"),
        )
        drawn: dict[str, Any] = {"reward": Bounded(0, 1, torch.Size([1]))} if rewards.draws else {}
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                frame=Bounded(0, 255, torch.Size(shape), dtype=torch.uint8),
                vector=Unbounded(dynamics.dim),
                tokens=Categorical(c.vocabulary, shape=torch.Size([c.tokens])),
                kv_cache=Unbounded(torch.Size(dynamics.kv_cache_shape)),
                length=Bounded(0, dynamics.max_positions, torch.Size([1]), dtype=torch.int64),
                hidden=Unbounded(dynamics.dim),
            ),
            noise_spec=Composite(
                observe=Composite(),
                imagine=Composite(**drawn, tokens=Bounded(0, 1, torch.Size([c.tokens]))),
            ),
        )
        self.config, self.image_key = config, key
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
        config = DeltaIRISConfig(**{**asdict(base), **sizes, "heads": max(1, dim // 64) if heads is None else heads})
        shown = Composite(pixels=Bounded(0, 255, torch.Size(shape), dtype=torch.uint8))
        model = cls(
            config,
            shown if observation_spec is None else observation_spec,
            OneHot(actions) if action_spec is None else action_spec,
        )
        return load_mapped(model, merged(weights), official.RULES).eval()

    def objective(self) -> DeltaIRISLoss:
        """The paper's losses for this model: the tokenizer's first, then the transformer's."""
        c = self.config
        return DeltaIRISLoss(
            self,
            tokenizer_steps=c.tokenizer_steps,
            tokenizer_every=c.tokenizer_every,
            tokenizer_frames=c.tokenizer_frames,
            tokenizer_rate=c.tokenizer_rate,
            tokenizer_decay=c.tokenizer_decay,
            transformer_rate=c.transformer_rate,
            absolute=c.absolute,
            squared=c.squared,
            worst=c.worst,
            token_scale=c.token_scale,
            reward_scale=c.reward_scale,
            termination_scale=c.termination_scale,
        )

    # -- the verbs -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same step as :meth:`imagine`, written into the cache that it is given."""
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
    def _read(self, state: State, action: Tensor, observation: Observation, is_init: Tensor) -> dict[str, Tensor]:
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


def levels_of(side: int, largest: int, cells: int = 2) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Blocks of one width, and the halvings behind them, that bring an image's side to at most ``largest``.

    There are two blocks at least, and one halving. Where the image does not halve so often to a map that the tokens
    can share, the map stays up to twice as large.

    Args:
        side: of the image.
        largest: of the map.
        cells: of the map along a side, one for each token.

    Raises:
        ValueError: if no map of such a size can be reached.

    Example:
        >>> levels_of(64, 16)
        ((1, 1), (True, True))
    """
    times = 1
    while side % (cells * 2 ** (times + 1)) == 0 and side >> times > largest:
        times += 1
    if side % (cells * 2) or side >> times > 2 * largest:
        raise ValueError(
            f"an image of {side}x{side} does not halve to a map of at most {2 * largest}x{2 * largest} that {cells} "
            f"tokens a side can share: resize it (16x16, 32x32, 64x64, 96x96), or give mults and halves."
        )
    blocks = max(2, times)
    return (1,) * blocks, (True,) * times + (False,) * (blocks - times)
