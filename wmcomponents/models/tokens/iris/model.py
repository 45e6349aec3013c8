"""IRIS: Micheli, Alonso and Fleuret, Transformers are Sample-Efficient World Models (ICLR 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, Composite, OneHot, TensorSpec, Unbounded

from wmcomponents.codecs import SignReward
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.dynamics import TokenTransformer
from wmcomponents.functional.distributions.categorical import softmax
from wmcomponents.models.tokens.base import CachedTransformerModel, choices_of, rows_of
from wmcomponents.models.tokens.iris import official as official
from wmcomponents.models.tokens.iris.objective import IRISLoss, Perceptual
from wmcomponents.nn import VectorQuantizer, VQGANDecoder, VQGANEncoder, farthest_first
from wmcomponents.nn.memory_format import keep_channels_last
from wmcomponents.pretrained.key_map import load_mapped
from wmcomponents.tokenizers import ImageTokenizer
from wmcomponents.tokenizers.image import network_image
from wmcomponents.world_model import Noise, Observation, Prediction, State

FAST_TRAINING = {
    **{"tokenizer_rate": 1e-3, "transformer_rate": 1e-3, "absolute": 0.1, "squared": 1.0, "worst": 0.01},
    **{"codes_from_data": True, "revival": 400},
}
"""Of our own presets: a few hundred updates must do."""

FITTING_FRAMES = 256
"""Real frames out of which a codebook begins."""


@dataclass(frozen=True)
class IRISConfig:
    """Sizes and training of an IRIS world model; the defaults are the paper's for Atari.

    Attributes:
        grid: side of the square of tokens that stand for an image: K = grid * grid.
        channels: of every level of the autoencoder, a multiple of 32. There are as many levels as lead from the
            image's side to the grid's by halving.
        blocks: residual blocks at a level of the encoder; the decoder has one more.
        attention: sides at which attention follows each residual block.
        latent_channels: of the encoder's output and the decoder's input.
        vocabulary: codes in the codebook.
        code: size of a code.
        beta: factor on the commitment loss.
        layers: of the transformer.
        heads: of its attention.
        dim: of its embeddings.
        dropout: in its training.
        causality: whether tokens of one frame see each other; the paper's is ``"causal"``.
        max_frames: frames in its context.
        tokenizer_steps: updates of the tokenizer before those of the transformer.
        tokenizer_every: after those, every how many updates the tokenizer is trained on; 0 for never again.
        tokenizer_frames: frames in one of its updates, drawn from the batch; 0 takes all.
        tokenizer_rate: learning rate of the tokenizer.
        absolute: factor on the absolute error of a reconstruction.
        squared: factor on its squared error; the paper has none.
        worst: factor on the squared error of a frame's worst number; the paper has none.
        revival: updates in which codes without use are given to what is far from all others; the paper has none.
        codes_from_data: whether the codebook begins with vectors of real frames that lie far apart, fitted before
            training, instead of small random numbers.
        transformer_rate: learning rate of the transformer.
    """

    grid: int = 4
    channels: int = 64
    blocks: int = 2
    attention: tuple[int, ...] = (8, 16)
    latent_channels: int = 512
    vocabulary: int = 512
    code: int = 512
    beta: float = 1.0
    layers: int = 10
    heads: int = 4
    dim: int = 256
    dropout: float = 0.1
    causality: Literal["causal", "block_causal"] = "causal"
    max_frames: int = 20
    tokenizer_steps: int = 4000
    tokenizer_every: int = 2
    tokenizer_frames: int = 256
    tokenizer_rate: float = 1e-4
    absolute: float = 1.0
    squared: float = 0.0
    worst: float = 0.0
    revival: int = 0
    codes_from_data: bool = False
    transformer_rate: float = 1e-4

    @classmethod
    def tiny(cls, **changes: Any) -> "IRISConfig":
        """For images of 16 or 32 pixels a side, on a CPU: minutes, not hours. Not a scaled-down paper."""
        sizes = {"channels": 32, "blocks": 1, "attention": (), "latent_channels": 32, "vocabulary": 64, "code": 16}
        context = {"layers": 3, "dim": 128, "dropout": 0.0, "max_frames": 8}
        training = {"tokenizer_steps": 500, "tokenizer_every": 0, "tokenizer_frames": 64}
        return cls(**{**sizes, **context, **training, **FAST_TRAINING, **changes})

    @classmethod
    def pong(cls, **changes: Any) -> "IRISConfig":
        """For ALE/Pong at 64x64 on a CPU; ours. The ball is a pixel or two."""
        sizes = {"channels": 32, "blocks": 1, "attention": (8,), "latent_channels": 64, "vocabulary": 256, "code": 32}
        context = {"layers": 4, "dim": 128, "dropout": 0.0, "max_frames": 8}
        training = {"tokenizer_steps": 400, "tokenizer_every": 0, "tokenizer_frames": 16}
        return cls(**{**sizes, **context, **training, **FAST_TRAINING, **changes})

    @classmethod
    def atari(cls, **changes: Any) -> "IRISConfig":
        """Atari 100k at 64x64: 4,027,523 parameters in the tokenizer, 8,447,493 in the transformer with 4 actions."""
        return cls(**changes)


class IRIS(CachedTransformerModel):
    """IRIS: a discrete autoencoder of images, and a transformer over their tokens and the actions.

    State: ``tokens`` int64 ``[*B, K]``, the present frame; ``kv_cache`` float ``[*B, layers, 2, heads, positions, d]``,
    keys and values of all that the transformer has read; ``length`` int64 ``[*B, 1]``, how many positions of it are in
    use; ``hidden`` float ``[*B, dim]``, the transformer's output at the last action, zero where an episode begins.
    Features: the codes of the tokens, as the decoder reads them, and ``hidden``.

    A step reads the action, and from its output the reward, the end and the first token; each further token from the
    output at the one before. Where a whole block no longer fits, the context is rebuilt from the present frame alone,
    and positions start at 0 again: of each row by itself.

    The cache is large (7 MB a row at the paper's size). :meth:`imagine` copies it; :meth:`imagine_inplace`, which a
    simulator uses, writes into the one it is given. Steps are not differentiable: tokens are choices.

    Args:
        config: sizes; a preset such as ``IRISConfig.atari()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one square uint8 image, whose side is ``grid`` times a power
            of two.
        action_spec: spec of one real action, one choice out of several.

    Raises:
        ValueError: if the observation is not such an image, or the action not a choice.

    Example:
        >>> image = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
        >>> model = IRIS(IRISConfig.tiny(), image, OneHot(3))
        >>> sorted(model.capabilities)
        ['continue', 'decode', 'inplace', 'features', 'objective', 'reward']
    """

    config_class = IRISConfig
    config: IRISConfig

    def __init__(self, config: IRISConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        c = config
        image_key, side, colours = _image(observation_spec, c.grid)
        actions = choices_of(action_spec, "IRIS")
        words, rewards = c.grid * c.grid, SignReward()
        dynamics = TokenTransformer(
            c.vocabulary,
            actions,
            frame_tokens=words,
            max_frames=c.max_frames,
            layers=c.layers,
            heads=c.heads,
            dim=c.dim,
            dropout=c.dropout,
            causality=c.causality,
            rewards=rewards.size,
        )
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                tokens=Categorical(c.vocabulary, shape=torch.Size([words])),
                kv_cache=Unbounded(torch.Size(dynamics.kv_cache_shape)),
                length=Bounded(0, dynamics.max_positions, torch.Size([1]), dtype=torch.int64),
                hidden=Unbounded(c.dim),
            ),
            noise_spec=Composite(
                observe=Composite(),
                imagine=Composite(
                    reward=Bounded(0, 1, torch.Size([1])),
                    tokens=Bounded(0, 1, torch.Size([words])),
                ),
            ),
        )
        self.config, self.image_key = config, image_key
        levels = (side // c.grid).bit_length()
        attends = [level for level in range(levels) if side >> level in c.attention]
        shape = (c.channels, (1,) * levels, c.blocks, attends, c.latent_channels)
        self.tokenizer = ImageTokenizer(
            (side, side, colours),
            VQGANEncoder(*shape, channels_in=colours),
            VQGANDecoder(*shape, channels_out=colours),
            VectorQuantizer(c.vocabulary, c.code, beta=c.beta),
            features=c.latent_channels,
            grid=(c.grid, c.grid),
            in_keys=(image_key,),
        )
        keep_channels_last(self.tokenizer)
        self.dynamics, self.rewards = dynamics, rewards
        if c.codes_from_data:
            self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    fitted: Tensor

    @classmethod
    def from_official(
        cls,
        weights: Mapping[str, Any],
        *,
        heads: int = 4,
        observation_spec: Composite | None = None,
        action_spec: TensorSpec | None = None,
    ) -> "IRIS":
        """The world model of an agent's checkpoint of eloialonso/iris; its actor and critic are left out.

        Args:
            weights: the agent's ``state_dict``.
            heads: of the attention, which the weights do not tell.
            observation_spec: the key of the image; ``pixels`` if not given.
            action_spec: of the environment; a one-hot choice if not given.

        Raises:
            BadModelError: if a key is unknown, missing, or of another shape.
        """
        sizes = official.sizes(weights)
        side, actions = sizes.pop("side"), sizes.pop("actions")
        shown = Composite(pixels=Bounded(0, 255, torch.Size([side, side, 3]), dtype=torch.uint8))
        model = cls(
            IRISConfig(**sizes, heads=heads),
            shown if observation_spec is None else observation_spec,
            OneHot(actions) if action_spec is None else action_spec,
        )
        return load_mapped(model, official.merged(weights), official.RULES).eval()

    def objective(self, perceptual: Perceptual | nn.Module | None = None) -> IRISLoss:
        """The paper's losses for this model: the tokenizer's first, then the transformer's.

        Args:
            perceptual: distance of images, such as ``LPIPS(backbone)``; no perceptual loss if not given.
        """
        c = self.config
        return IRISLoss(
            self,
            tokenizer_steps=c.tokenizer_steps,
            tokenizer_every=c.tokenizer_every,
            tokenizer_frames=c.tokenizer_frames,
            tokenizer_rate=c.tokenizer_rate,
            absolute=c.absolute,
            squared=c.squared,
            worst=c.worst,
            revival=c.revival,
            transformer_rate=c.transformer_rate,
            perceptual=perceptual,
        )

    @torch.no_grad()
    def prepare(self, sequences: TensorDictBase) -> None:
        """Let the codebook begin with vectors of real frames, once, where the configuration says so."""
        super().prepare(sequences)
        if not self.config.codes_from_data or bool(self.fitted):
            return
        pixels = sequences[self.image_key].flatten(0, sequences.ndim - 1)
        chosen = torch.linspace(0, pixels.shape[0] - 1, min(FITTING_FRAMES, pixels.shape[0])).long()
        z = self.tokenizer.encode(network_image(pixels[chosen].to(self.fitted.device)))
        codebook = self.tokenizer.quantizer.embedding.weight
        codebook.copy_(farthest_first(z.flatten(0, 1), codebook.shape[0]))
        self.fitted.fill_(True)

    # -- the verbs -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same step, written into the cache that it is given."""
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

    def _read(self, state: State, action: Tensor, observation: Observation, is_init: Tensor) -> dict[str, Tensor]:
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


def _image(spec: Composite, grid: int) -> tuple[str, int, int]:
    """Key, side and colours of the image."""
    key, (side, _, colours) = image_of(spec, "IRIS", is_square=True)
    scale, rest = divmod(side, grid)
    if rest or scale & (scale - 1):
        raise ValueError(
            f"an image's side is grid={grid} times a power of two, as every level halves it; got {side}: resize "
            f"the image, or choose another grid."
        )
    return key, side, colours
