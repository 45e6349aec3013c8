"""Worlds of texts, images and actions by turns, whose images are dreamt code by code."""

from collections.abc import Callable, Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.text_vectors import text_vectors
from wmcomponents.dynamics import Streams, TextImageActionTransformer
from wmcomponents.functional import GuidanceSchedule
from wmcomponents.functional.broadcast import aligned
from wmcomponents.models.tokens.base import CachedTransformerModel, rows_of
from wmcomponents.models.tokens.codebook import codes_from_frames_
from wmcomponents.models.tokens.gaia1.tokenizer import DistilledTokenizer
from wmcomponents.world_model import Noise, Observation, Prediction, State

Encode = Callable[[Sequence[str]], Tensor]
"""A text encoder: texts to their vectors, ``[N, L, W]``."""

MOST_FRAMES = 2**31 - 1
"""Frames that a dream counts."""


class TextImageActionModel(CachedTransformerModel[DistilledTokenizer, TextImageActionTransformer]):
    """Base of models whose state is a frame's codes, the text, and what a transformer over both and actions remembers.

    Args:
        tokenizer: of single frames.
        dynamics: the transformer.
        observation_spec: of one real observation: an image, and a text where there are any.
        action_spec: of one real action.
        image_key: of the image in an observation.
        text_key: of the text; ``None`` where there are none.
        guidance: how strongly codes are led away from what would follow without the text; ``None`` for not at all.
        codes_from_data: whether the codebook begins with vectors of real frames (:meth:`prepare`).

    Raises:
        ValueError: for guidance without texts.
    """

    fitted: Tensor

    def __init__(
        self,
        tokenizer: DistilledTokenizer,
        dynamics: TextImageActionTransformer,
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        image_key: str,
        text_key: str | None,
        guidance: GuidanceSchedule | None,
        codes_from_data: bool,
    ) -> None:
        if guidance is not None and text_key is None:
            raise ValueError(
                "guidance leads away from what would follow without the text, and the observation has none: give it a "
                "text, or leave guidance at 0."
            )
        streams, part = 1 if guidance is None else 2, dynamics.text
        leaves: dict[str, TensorSpec] = {
            "tokens": Categorical(tokenizer.quantizer.codes, shape=torch.Size([tokenizer.length])),
            "kv_cache": Unbounded(torch.Size([streams, *dynamics.kv_cache_shape])),
            "length": Bounded(0, dynamics.max_positions, torch.Size([1]), dtype=torch.int64),
            "recent": Unbounded(torch.Size([streams, dynamics.kept_positions, dynamics.dim])),
            "hidden": Unbounded(dynamics.dim),
        }
        if text_key is not None:
            leaves["said"] = Unbounded(torch.Size([part.count, part.width]))
        if guidance is not None:
            leaves["unwanted"] = Unbounded(torch.Size([part.count, part.width]))
            leaves["guided"] = Bounded(0, MOST_FRAMES, torch.Size([1]), dtype=torch.int64)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(leaves),
            noise_spec=Composite(
                observe=Composite(),
                imagine=Composite(tokens=Bounded(0, 1, torch.Size([tokenizer.length]))),
            ),
        )
        self.image_key, self.text_key, self.guidance = image_key, text_key, guidance
        self.tokenizer, self.dynamics, self.action_vector = tokenizer, dynamics, ActionVector(action_spec)
        self.codes_from_data = codes_from_data
        if codes_from_data:
            self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @property
    def capabilities(self) -> frozenset[str]:
        """Pictures, features and an objective; no reward and no end."""
        return super().capabilities - {"reward", "continue"}

    @torch.no_grad()
    def prepare(self, sequences: TensorDictBase) -> None:
        """Let the codebook begin with vectors of real frames, once, where that was asked for."""
        super().prepare(sequences)
        if self.codes_from_data and not bool(self.fitted):
            codes_from_frames_(self.tokenizer, sequences[self.image_key])
            self.fitted.fill_(True)

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero."""
        return self.action_vector.null(batch_size).to(device)

    def free_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """An action that says nothing: the model goes on as it thinks likely.

        Args:
            batch_size: ``*B``.
            device: of the action.

        Raises:
            ValueError: if actions are whole numbers, which cannot be missing.
        """
        nothing = self.null_action(batch_size, device)
        if self.dynamics.action.are_choices:
            return nothing
        if not nothing.is_floating_point():
            raise ValueError(f"a missing number is NaN, and actions are {nothing.dtype}: rescale them to floats.")
        return torch.full_like(nothing, float("nan"))

    # -- texts ---------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_texts(self, encode: Encode, texts: Sequence[str]) -> Tensor:
        """Texts as observations show them: float ``[N, M, W]``, cut or filled up with zeros.

        Args:
            encode: the text encoder that the model learned with, such as T5's; its outputs behind the end of a text are
                best zero, which says nothing.
            texts: N of them.

        Raises:
            ValueError: if the encoder is of another width, or the model has no texts.
        """
        part = self.dynamics.text
        if not part.width:
            raise ValueError("this model has no texts: its observation is an image alone.")
        found = encode(texts).detach()
        return text_vectors(found, part.count, part.width).to(part.nothing.device)

    def told(self, state: State, text: Tensor, unwanted: Tensor | None = None) -> State:
        """A state whose further frames follow a text; guidance begins anew. What it remembers is that of the one given.

        Args:
            state: ``[*B]``. One that has seen nothing (:meth:`initial_state`) dreams its first frame from the text.
            text: ``[*B, M, W]`` or ``[M, W]``; zeros say nothing.
            unwanted: a *negative prompt*, which a guided model leads away from, of the same shape; what would follow
                without any text if not given.

        Raises:
            ValueError: if the model has no texts or is not guided, or a text is of another encoder.
        """
        part = self.dynamics.text
        if self.text_key is None or (unwanted is not None and self.guidance is None):
            raise ValueError(
                "texts are read where the observation has one, and unwanted ones where guidance is above 0: build the "
                "model so."
            )
        given = {"said": text} if unwanted is None else {"said": text, "unwanted": unwanted}
        changed = {}
        for key, value in given.items():
            if value.shape[-2:] != (part.count, part.width):
                raise ValueError(
                    f"a text is {part.count} vectors of {part.width} numbers; got {list(value.shape)}: "
                    f"see encode_texts."
                )
            changed[key] = value.to(state[key]).expand_as(state[key]).clone()
        if self.guidance is not None:
            changed["guided"] = torch.zeros_like(state["guided"])
        return {**state, **changed}

    # -- the verbs -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same step of ``[*B]`` rows as :meth:`imagine`, written into the KV cache that it is given."""
        lead, rows = state["length"].shape[:-1], _rows_of(state)
        drawn = None if noise is None else noise["tokens"].reshape(-1, self.tokenizer.length)
        scales = None if self.guidance is None else self.guidance.at(rows["guided"], self.tokenizer.length)
        vector = self.action_vector(action.reshape(-1, *action.shape[len(lead) :]))
        step = self.dynamics.imagine(_streams(rows), vector, self._texts(rows), drawn, scales)
        after = {key: rows[key].clone() for key in ("said", "unwanted") if key in rows}
        after = {**after, "kv_cache": rows["kv_cache"], **step._asdict()}
        if self.guidance is not None:
            after["guided"] = rows["guided"] + 1
        return Prediction({key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()}, None, None)

    @torch.no_grad()
    def decode(self, state: State) -> Observation:
        """What the codes look like, rounded to bytes, by the tokenizer's own decoder; and the text that was said."""
        shown = {self.image_key: self.tokenizer.pixels(state["tokens"])}
        if self.text_key is not None:
            shown[self.text_key] = state["said"].to(self.observation_spec[self.text_key].dtype)
        return shown

    @torch.no_grad()
    def features(self, state: State) -> Tensor:
        """The codes' vectors side by side, and the transformer's output that the frame's first code was told from."""
        return torch.cat([self.tokenizer.quantizer.lookup(state["tokens"]).flatten(-2), state["hidden"]], -1)

    def _read(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> dict[str, Tensor]:
        """The codes of all images, and the texts."""
        read = {"tokens": self.tokenizer.tokens(observation[self.image_key])}
        return read if self.text_key is None else {**read, "said": observation[self.text_key].float()}

    @torch.no_grad()
    def _filtered(self, state: State, action: Tensor, seen: dict[str, Tensor], is_init: Tensor) -> State:
        """One step of the filter, written into the cache that it is given."""
        lead, rows, begins = is_init.shape[:-1], _rows_of(state), is_init.reshape(-1, 1)
        read = {key: value.reshape(-1, *value.shape[len(lead) :]) for key, value in seen.items()}
        if "said" in read:
            rows["said"] = read["said"].clone()
        if "unwanted" in rows:
            rows["unwanted"] = rows["unwanted"].masked_fill(aligned(begins, rows["unwanted"]), 0.0)
            rows["guided"] = torch.zeros_like(rows["guided"])
        vector = self.action_vector(action.reshape(-1, *action.shape[len(lead) :]))
        step = self.dynamics.observe(_streams(rows), vector, self._texts(rows), read["tokens"].clone(), begins)
        after = {**rows, **step._asdict()}
        return {key: value.reshape(*lead, *value.shape[1:]) for key, value in after.items()}

    def _texts(self, rows: State) -> Tensor | None:
        """What is said in each stream, ``[N, streams, M, W]``."""
        if self.text_key is None:
            return None
        return torch.stack([rows[key] for key in ("said", "unwanted") if key in rows], 1)


def _rows_of(state: State) -> State:
    """Leading dimensions flattened into one; the streams of a row lie behind one another, so that they are rows too."""
    rows = rows_of(state)
    return {**rows, "kv_cache": rows["kv_cache"].contiguous()}


def _streams(rows: State) -> Streams:
    return Streams(rows["kv_cache"], rows["length"], rows["recent"])
