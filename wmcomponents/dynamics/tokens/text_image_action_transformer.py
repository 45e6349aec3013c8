"""A causal transformer over text, image and action by turns, as GAIA-1's: what was said, seen and done."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.dynamics.tokens.block_transformer import CacheBounds, is_free_to_look
from wmcomponents.dynamics.tokens.conditions import ActionTokens, TextTokens
from wmcomponents.dynamics.tokens.sliding_cache import made_room
from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.token_guidance import guided_logits
from wmcomponents.functional.top_k import drawn_class
from wmcomponents.nn import CachedTransformer, CachePosition, LearnedPositions, SequenceMask, empty_kv_cache, gpt_init_


class Streams(NamedTuple):
    """What the transformer remembers of N rows; a row that is guided is read in two streams, whose texts differ.

    Attributes:
        kv_cache: keys and values, ``[N, streams, *kv_cache_shape]``, contiguous.
        length: positions in use, the same in all streams, int64 ``[N, 1]``; 0 where nothing was seen.
        recent: entries of the newest frames without positions, and the actions between them, which are read again
            where the context is full: ``[N, streams, kept_positions, dim]``.
    """

    kv_cache: Tensor
    length: Tensor
    recent: Tensor


class Step(NamedTuple):
    """One frame further, of N rows.

    Attributes:
        tokens: of the frame, int64 ``[N, K]``.
        length: positions of the KV cache in use now, int64 ``[N, 1]``.
        recent: see :class:`Streams`.
        hidden: the output that the frame's first code is told from, of the first stream, ``[N, dim]``.
    """

    tokens: Tensor
    length: Tensor
    recent: Tensor
    hidden: Tensor


class TextImageActionTransformer(Component):
    r"""Text, image, action, text, image, action ...: a causal transformer that foretells the image's codes alone.

    .. math:: L = - \sum_t \sum_i \log p(z_{t,i} \mid z_{<t}, z_{t,<i}, c_{\le t}, a_{<t})

    Step t is the M tokens of the text c_t, the K codes of the image z_t and the L tokens of the action a_t: the action
    stands behind the image, and leads to the next. Positions are factorised: a learned vector for each step, and one
    for each place in a step. The first code of an image is told from the last token of the text before it, with which a
    film can begin. Where there are no texts, one token says so.

    The context holds ``max_frames`` steps. Where another one does not fit, the window slides: the newest ``kept``
    frames, with the actions between them, are read again at the first positions, and everything before is forgotten.

    ============= ================================================ ==============================
    key           what                                             shape
    ============= ================================================ ==============================
    tokens        read: codes of z_t                               int64 ``[*B, T, K]``
    action_vector read: a_t                                        float ``[*B, T, A]``
    text          read, if there: c_t                              float ``[*B, T, M, W]``
    token_logits  written: of the codes of z_t, each from all       ``[*B, T, K, vocabulary]``
                  that stands before it
    ============= ================================================ ==============================

    Args:
        vocabulary: number of an image's codes.
        actions: sizes of the parts of an action's vector that are a token each; see :class:`ActionTokens`.
        are_choices: whether these are choices, one-hot, rather than numbers.
        text_tokens: M, vectors of a text.
        text_width: W, size of such a vector; 0 where there are no texts.
        frame_tokens: K.
        max_frames: steps in the context, at least 2.
        kept: frames that are read again where it is full; fewer than ``max_frames``.
        layers: transformer blocks.
        heads: attention heads.
        dim: size of the embeddings.
        dropout: in training, of attention and residuals.
        top_k: of how many codes, the likeliest, the next one is drawn; all if not given.
        in_keys: keys read.
        out_keys: keys written.

    Raises:
        ValueError: if the context holds no two steps, or not fewer frames are kept than it holds; on call, if there are
            more, or a text is of another encoder.
        IndexError: on call, on a CPU, for a code out of range.

    Reference: Hu et al., GAIA-1: A Generative World Model for Autonomous Driving (2023), section 2.1, 2.3, 5.1.

    Example:
        >>> sizes = {"frame_tokens": 4, "max_frames": 3, "kept": 1, "layers": 1, "heads": 2, "dim": 8}
        >>> dynamics = TextImageActionTransformer(6, (1, 1), text_tokens=2, text_width=5, **sizes)
        >>> tokens = torch.zeros(7, 3, 4, dtype=torch.int64)
        >>> dynamics(tokens=tokens, action_vector=torch.zeros(7, 3, 2), text=torch.zeros(7, 3, 2, 5)).shape
        torch.Size([7, 3, 4, 6])
    """

    def __init__(
        self,
        vocabulary: int,
        actions: Sequence[int],
        *,
        are_choices: bool = False,
        text_tokens: int = 0,
        text_width: int = 0,
        frame_tokens: int = 576,
        max_frames: int = 26,
        kept: int = 25,
        layers: int = 32,
        heads: int = 32,
        dim: int = 4096,
        dropout: float = 0.0,
        top_k: int | None = None,
        in_keys: Sequence[NestedKey] = ("tokens", "action_vector", "text"),
        out_keys: Sequence[NestedKey] = ("token_logits",),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[2:])
        if not 0 < kept < max_frames:
            raise ValueError(
                f"the context holds at least two frames, of which fewer are kept where it is full, and at least one; "
                f"got kept={kept} of max_frames={max_frames}."
            )
        self.text = TextTokens(dim, count=text_tokens, width=text_width)
        self.action = ActionTokens(dim, actions, are_choices=are_choices)
        self.frame_tokens, self.max_frames, self.kept, self.top_k = frame_tokens, max_frames, kept, top_k
        self.layers, self.heads, self.dim = layers, heads, dim
        self.frame_positions = self.text.count + frame_tokens
        self.block = self.frame_positions + self.action.count
        self.kept_positions, self.max_positions = (n * self.block - self.action.count for n in (kept, max_frames))
        self.token_embedding = nn.Embedding(vocabulary, dim)
        self.times, self.places = LearnedPositions(max_frames, dim), LearnedPositions(self.block, dim)
        self.transformer = CachedTransformer(layers, dim, heads, dropout=dropout)
        self.token_head = nn.Linear(dim, vocabulary, bias=False)
        self.apply(gpt_init_)

    # -- whole sequences -----------------------------------------------------------------------------------------------

    def compute(
        self,
        tokens: Int[Tensor, "*batch t k"],
        action: Float[Tensor, "*batch t a"],
        text: Float[Tensor, "*batch t m w"] | None = None,
    ) -> Float[Tensor, "*batch t k vocabulary"]:
        """Logits of the codes of each frame, ``[*B, T, K, vocabulary]``; see the class.

        Args:
            tokens: of z_t, int64 ``[*B, T, K]``.
            action: a_t, ``[*B, T, A]``.
            text: c_t, ``[*B, T, M, W]``; nothing is said if not given.
        """
        steps, first = tokens.shape[-2], self.text.count - 1
        if steps > self.max_frames:
            raise ValueError(
                f"the context holds {self.max_frames} frames with their texts and actions; got {steps}: cut the "
                f"sequence, or build the transformer with a longer context."
            )
        parts = [self.text(text, tokens.shape[:-1]), self.token_embedding(tokens), self.action(action)]
        x = torch.cat(parts, -2) + self.times.weight[:steps].unsqueeze(1) + self.places.weight
        hidden = self.transformer(x.reshape(-1, steps * self.block, self.dim), SequenceMask(block=1))
        telling = hidden.unflatten(1, (steps, self.block))[:, :, first : first + self.frame_tokens]
        return self.token_head(telling).reshape(*tokens.shape, -1)

    # -- with a KV cache -----------------------------------------------------------------------------------------------

    @property
    def kv_cache_shape(self) -> tuple[int, ...]:
        """Of one stream's keys and values: layers, 2, heads, positions, size of a head."""
        return (self.layers, 2, self.heads, self.max_positions, self.dim // self.heads)

    def empty_kv_cache(self, batch_size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """A KV cache in which nothing is in use, ``[*B, *kv_cache_shape]``."""
        return empty_kv_cache(batch_size, self.layers, self.heads, self.max_positions, self.dim, device=device)

    @torch.no_grad()
    def observe(self, past: Streams, action: Tensor, text: Tensor | None, seen: Tensor, is_init: Tensor) -> Step:
        """Read an action, a text and the real frame that followed; where ``is_init``, text and frame alone.

        Args:
            past: what is remembered; its cache is written IN PLACE, and emptied where ``is_init``.
            action: ``[N, A]``.
            text: of each stream, ``[N, streams, M, W]``; nothing is said if not given.
            seen: codes of the frame, int64 ``[N, K]``.
            is_init: bool ``[N, 1]``.
        """
        length = past.length.masked_fill(is_init, 0)
        first = length == 0
        past = Streams(past.kv_cache, length, past.recent.masked_fill(aligned(first, past.recent), 0.0))
        begins, entries, cache, at, bounds = self._entered(past, action, text, seen)
        act, frame = entries.split([self.action.count, self.frame_positions], 1)
        # A row that begins has its frame first. What its last places are filled with is wiped out below.
        x = torch.where(aligned(begins, act), torch.cat([frame, act], 1), entries)
        outputs = self._decode(x, cache, at, bounds)
        behind = past.kv_cache[..., self.frame_positions :, :]
        behind.masked_fill_(aligned(first, behind), 0.0)
        return self._step(seen, past, entries, begins, at, self._telling(outputs, begins))

    @torch.no_grad()
    def imagine(
        self,
        past: Streams,
        action: Tensor,
        text: Tensor | None,
        noise: Float[Tensor, "n k"] | None,
        guidance: Float[Tensor, "n k"] | None = None,
    ) -> Step:
        """Read an action and a text, and generate the next frame, code by code.

        A row that has seen nothing begins with the text: nothing led to its first frame, and the action is not read.

        Args:
            past: what is remembered; its cache is written IN PLACE.
            action: ``[N, A]``.
            text: of each stream, ``[N, streams, M, W]``; nothing is said if not given.
            noise: uniform in [0, 1), one number a code, ``[N, K]``; the likeliest code each time if not given.
            guidance: how far each code is led away from what the second stream says, ``[N, K]``; there is one stream
                alone if not given.
        """
        begins, entries, cache, at, bounds = self._entered(past, action, text)
        act, said = entries.split([self.action.count, self.text.count], 1)
        x = torch.where(aligned(begins, act), torch.cat([said, act], 1), entries)
        telling = hidden = self._telling(self._decode(x, cache, at, bounds), begins)
        # A row that begins writes its codes over what its action left: it is seen by none of them.
        start = at + self.text.count + torch.where(begins, 0, self.action.count)
        bounds = CacheBounds.of(start) if is_free_to_look(start) else CacheBounds()
        streams, codes, embedded = past.kv_cache.shape[1], [], [entries]
        for number in range(self.frame_tokens):
            logits = self.token_head(hidden).unflatten(0, (-1, streams))
            if guidance is None:
                logits = logits[:, 0]
            else:
                logits = guided_logits(logits[:, 0], logits[:, 1], guidance[:, number : number + 1])
            codes.append(drawn_class(logits, None if noise is None else noise[:, number], self.top_k))
            embedded.append(self.token_embedding(codes[-1]).repeat_interleave(streams, 0).unsqueeze(1))
            hidden = self._decode(embedded[-1], cache, start + number, bounds.moved(number))[:, 0]
        return self._step(torch.stack(codes, 1), past, torch.cat(embedded, 1), begins, at, telling)

    def _entered(
        self, past: Streams, action: Tensor, text: Tensor | None, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, CacheBounds]:
        """All streams as rows: which begin, entries of action, text and frame, cache, lengths with room for them."""
        rows, streams = past.kv_cache.shape[:2]
        parts = [self.action(action).unsqueeze(1).expand(-1, streams, -1, -1), self.text(text, (rows, streams))]
        if seen is not None:
            parts.append(self.token_embedding(seen).unsqueeze(1).expand(-1, streams, -1, -1))
        # A view, or an error: what is written into a copy would be lost.
        cache, length = past.kv_cache.view(-1, *self.kv_cache_shape), past.length.repeat_interleave(streams, 0)
        recent, due = past.recent.flatten(0, 1), length + self.block > self.max_positions
        length, bounds = made_room(cache, length, recent, due, self.kept_positions, self._read_again)
        return length == 0, torch.cat(parts, 2).flatten(0, 1), cache, length, bounds

    def _telling(self, outputs: Tensor, begins: Tensor) -> Tensor:
        """The output at the last token of the text, which a frame's first code is told from."""
        last = self.text.count - 1
        return torch.where(begins, outputs[:, last], outputs[:, self.action.count + last])

    def _step(
        self, tokens: Tensor, past: Streams, entries: Tensor, begins: Tensor, at: Tensor, telling: Tensor
    ) -> Step:
        """What is remembered behind a frame."""
        rows, streams = past.kv_cache.shape[:2]
        act = entries[:, : self.action.count]
        led = torch.cat([act.masked_fill(aligned(begins, act), 0.0), entries[:, self.action.count :]], 1)
        recent = torch.cat([past.recent, led.unflatten(0, (rows, streams))], 2)[:, :, -self.kept_positions :]
        after = at + torch.where(begins, self.frame_positions, self.block)
        first = after.unflatten(0, (rows, streams))[:, 0], telling.unflatten(0, (rows, streams))[:, 0]
        return Step(tokens, first[0], recent, first[1])

    def _read_again(self, recent: Tensor, kv_cache: Tensor) -> None:
        start = torch.zeros(recent.shape[0], 1, dtype=torch.int64, device=recent.device)
        self._decode(recent, kv_cache, start, CacheBounds(0, 0))

    def _decode(self, x: Tensor, kv_cache: Tensor, length: Tensor, bounds: CacheBounds) -> Tensor:
        """Outputs ``[N, T, dim]`` of entries that follow on those in the KV cache, which is written IN PLACE."""
        count = x.shape[1]
        position = length + torch.arange(count, device=x.device)
        reach = None if bounds.longest is None else bounds.longest + count
        place = CachePosition(position, kv_cache.shape[-2], uniform=bounds.uniform, reach=reach)
        x = x + self.times(position // self.block) + self.places(position % self.block)
        return self.transformer.decode_step(x, kv_cache, place)
