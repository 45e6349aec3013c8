"""A transformer over words and codes of images in one sequence, as LWM's; frames and actions make it a world."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from tensordict import NestedKey
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.component import Component
from wmcomponents.dynamics.tokens.block_transformer import CacheBounds, Generated
from wmcomponents.dynamics.tokens.frame_context import FrameContext
from wmcomponents.functional.top_k import drawn_class
from wmcomponents.nn import (
    CachedTransformer,
    CachePosition,
    Float32RMSNorm,
    InterleavedRoPE,
    SequenceMask,
    SwiGLU,
    empty_kv_cache,
    gpt_init_,
)

EPS = 1e-6
"""Of the norms."""


class Words(NamedTuple):
    """Which words of the vocabulary a world speaks in.

    Attributes:
        actions: of each action.
        rewards: of each class of reward.
        ends: of "goes on" and "terminates".
    """

    actions: tuple[int, ...]
    rewards: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def last(cls, vocabulary: int, actions: int, rewards: int) -> "Words":
        """The last words of a vocabulary, which texts hardly use: actions, then rewards, then ends.

        Args:
            vocabulary: number of words.
            actions: number of actions.
            rewards: number of classes of reward.

        Raises:
            ValueError: if there are not so many words.
        """
        first = vocabulary - actions - rewards - 2
        if first < 0:
            raise ValueError(
                f"a world of {actions} actions and {rewards} rewards speaks in {actions + rewards + 2} words; the "
                f"vocabulary has {vocabulary}."
            )
        numbers = tuple(range(first, vocabulary))
        return cls(numbers[:actions], numbers[actions : actions + rewards], numbers[-2:])

    def check(self, vocabulary: int, actions: int, rewards: int) -> None:
        """Refuse words that cannot be told apart.

        Raises:
            ValueError: if words are missing, used twice, or outside the vocabulary.
        """
        wanted = {"actions": actions, "rewards": rewards, "ends": 2}
        for name, count in wanted.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} need {count} words, one each; got {len(getattr(self, name))}.")
        used = [*self.actions, *self.rewards, *self.ends]
        if len(set(used)) < len(used) or not all(0 <= word < vocabulary for word in used):
            raise ValueError(f"words are different numbers from 0 to {vocabulary - 1}; got {self}.")


class TextVisionLogits(NamedTuple):
    """What both heads say at every position of a sequence.

    Attributes:
        text: of the next word, ``[*B, T, text vocabulary]``.
        vision: of the next code, ``[*B, T, vision vocabulary]``.
    """

    text: Tensor
    vision: Tensor


class TextVisionTransformer(Component, FrameContext):
    """LLaMA over words and codes: each kind has a table of its own at the entrance and a head of its own at the exit.

    RMS norms, SwiGLU, rotary positions of neighbouring features, no biases. A sequence is numbers and a mask that says
    which of them are codes: the numbers of both kinds overlap. Behind the K codes of an image stands the code ``eof``,
    the first behind the codebook; :meth:`read` takes any such sequence, :meth:`generate` continues a text with images.

    As dynamics it reads frames and actions by turns: the K codes of a frame, ``eof``, the word of an action, the codes
    of the next frame ... At an action the text head tells the reward and the end, each by its own words among
    themselves, and the vision head the first code of the next frame. LWM's paper has no actions: this is ours, and
    needs no further weights.

    ================= ====================================== =======================================
    key               what                                   shape
    ================= ====================================== =======================================
    tokens            read: codes of x_t                     int64 ``[*B, T, K]``
    action_token      read: a_t, the action's number         int64 ``[*B, T]``
    token_logits      written: of the next code at each       ``[*B, T, K + 1, vision vocabulary]``
                      slot but that of ``eof``
    reward_logits     written: of r_{t+1}                    ``[*B, T, rewards]``
    terminated_logits written: of terminated_{t+1}           ``[*B, T, 2]``
    ================= ====================================== =======================================

    Args:
        codes: size of the codebook.
        actions: number of actions.
        spare: codes of the vision table beside the codebook's; the first is ``eof``.
        text_vocabulary: number of words.
        frame_tokens: K.
        max_frames: frames that fit into the context; it has ``max_frames * (K + 2)`` positions.
        layers: transformer blocks.
        heads: attention heads.
        dim: size of the embeddings.
        hidden: width of the feed-forward, a multiple of 8.
        theta: base of the rotary positions; grows with the context.
        rewards: number of reward classes.
        words: of actions, rewards and ends; the last of the vocabulary if not given.
        top_k: of how many codes, the likeliest, the next one is drawn; all if not given.
        in_keys: keys read.
        out_keys: keys written.

    Raises:
        ValueError: for fewer than two frames, a width that is no multiple of 8, or words that cannot be.

    Reference: Liu et al., World Model on Million-Length Video and Language with Blockwise RingAttention (2024).
    """

    def __init__(
        self,
        codes: int,
        actions: int,
        *,
        spare: int = 256,
        text_vocabulary: int = 32_000,
        frame_tokens: int = 256,
        max_frames: int = 16,
        layers: int = 32,
        heads: int = 32,
        dim: int = 4096,
        hidden: int = 11_008,
        theta: float = 50e6,
        rewards: int = 3,
        words: Words | None = None,
        top_k: int | None = None,
        in_keys: Sequence[NestedKey] = ("tokens", "action_token"),
        out_keys: Sequence[NestedKey] = ("token_logits", "reward_logits", "terminated_logits"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if max_frames < 2:
            raise ValueError(f"the context holds at least two frames, or no step could be imagined; got {max_frames}.")
        if hidden % 8 or spare < 1:
            raise ValueError(f"hidden is a multiple of 8, spare at least 1 (eof); got {hidden} and {spare}.")
        words = Words.last(text_vocabulary, actions, rewards) if words is None else words
        words.check(text_vocabulary, actions, rewards)
        self.codes, self.actions, self.eof = codes, actions, codes
        self.text_vocabulary, self.vision_vocabulary = text_vocabulary, codes + spare
        self.frame_tokens, self.frame_positions, self.block = frame_tokens, frame_tokens + 1, frame_tokens + 2
        self.max_frames, self.max_positions, self.mask_block = max_frames, max_frames * self.block, 1
        self.layers, self.heads, self.dim, self.top_k = layers, heads, dim, top_k
        self.text_embedding = nn.Embedding(text_vocabulary, dim)
        self.vision_embedding = nn.Embedding(self.vision_vocabulary, dim)
        self.transformer = CachedTransformer(
            layers,
            dim,
            heads,
            bias=False,
            rope=InterleavedRoPE(dim // heads, theta),
            norm=lambda size: Float32RMSNorm(size, EPS),
            # The width that is meant is two thirds of what the layer is told.
            feed_forward=lambda size: nn.Sequential(SwiGLU(size, hidden // 2 * 3, bias=False)),
        )
        self.text_head = nn.Linear(dim, text_vocabulary, bias=False)
        self.vision_head = nn.Linear(dim, self.vision_vocabulary, bias=False)
        self.apply(gpt_init_)
        for name, numbers in words._asdict().items():
            self.register_buffer(f"{name}_words", torch.tensor(numbers), persistent=False)

    actions_words: Tensor
    rewards_words: Tensor
    ends_words: Tensor

    # -- whole sequences -----------------------------------------------------------------------------------------------

    def embed(
        self, tokens: Int[Tensor, "*batch t"], is_vision: Bool[Tensor, "*batch t"]
    ) -> Float[Tensor, "*batch t dim"]:
        """Words and codes, each from its own table.

        Args:
            tokens: numbers of words and codes.
            is_vision: which are codes.

        Raises:
            IndexError: on a CPU, for a number that its table does not have.
        """
        words = self.text_embedding(tokens.masked_fill(is_vision, 0))
        codes = self.vision_embedding(tokens.masked_fill(~is_vision, 0))
        return torch.where(is_vision.unsqueeze(-1), codes, words)

    def read(
        self,
        tokens: Int[Tensor, "n t"],
        is_vision: Bool[Tensor, "n t"],
        mask: Tensor | SequenceMask | None = None,
        position: Int[Tensor, "*rows t"] | None = None,
    ) -> TextVisionLogits:
        """What both heads say along a sequence of words and codes.

        Args:
            tokens: numbers of words and codes.
            is_vision: which are codes.
            mask: who sees whom; causal if not given. Packed examples: ``SequenceMask(block=1, segments=...)``.
            position: of each entry; 0 to T - 1 if not given.
        """
        mask = SequenceMask(block=1) if mask is None else mask
        hidden = self.transformer(self.embed(tokens, is_vision), mask, position)
        return TextVisionLogits(self.text_head(hidden), self.vision_head(hidden))

    def compute(self, tokens: Int[Tensor, "*batch t k"], action: Int[Tensor, "*batch t"]) -> tuple[Tensor, ...]:
        """Logits along sequences of frames and actions; see the class.

        Args:
            tokens: of x_t, int64 ``[*B, T, K]``.
            action: a_t, int64 ``[*B, T]``.

        Raises:
            ValueError: if there are more frames than the context holds.
        """
        return self.along(tokens, action, None)

    def along(
        self, tokens: Int[Tensor, "*batch t k"], action: Int[Tensor, "*batch t"], episode: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The same of several episodes behind one another, which do not see each other.

        Args:
            tokens: of x_t, int64 ``[*B, T, K]``.
            action: a_t, int64 ``[*B, T]``.
            episode: number of the episode that a step belongs to, ``[*B, T]``; one alone if not given.

        Raises:
            ValueError: if there are more frames than the context holds.
        """
        lead, steps = action.shape[:-1], action.shape[-1]
        if steps > self.max_frames:
            raise ValueError(
                f"the context has {self.max_positions} positions, {self.max_frames} frames with their actions; got "
                f"{steps} frames: cut the sequence, or build the transformer with a longer context."
            )
        frames = self.embed_frame(tokens.reshape(-1, tokens.shape[-1]))
        acts = self.embed_action(action.reshape(-1))
        x = torch.cat([frames, acts], 1).reshape(-1, steps * self.block, self.dim)
        segments = None if episode is None else episode.reshape(-1, steps).repeat_interleave(self.block, 1)
        hidden = self.transformer(x, SequenceMask(block=1, segments=segments)).unflatten(1, (steps, self.block))
        telling = torch.cat([hidden[:, :, : self.frame_tokens], hidden[:, :, -1:]], 2)
        found = (self.vision_head(telling), *self._said(hidden[:, :, -1]))
        return tuple(value.reshape(*lead, *value.shape[1:]) for value in found)

    def embed_frame(self, tokens: Int[Tensor, "n k"]) -> Float[Tensor, "n p dim"]:
        """The codes of a frame, and ``eof`` behind them."""
        return self.vision_embedding(F.pad(tokens, (0, 1), value=self.eof))

    def embed_action(self, action: Int[Tensor, " n"]) -> Float[Tensor, "n one dim"]:
        """The word of an action."""
        return self.text_embedding(self.actions_words[action]).unsqueeze(1)

    def _said(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of rewards and ends, each among their own words: the rest of the head is not computed."""
        weight = self.text_head.weight
        return F.linear(hidden, weight[self.rewards_words]), F.linear(hidden, weight[self.ends_words])

    # -- with a KV cache -----------------------------------------------------------------------------------------------

    @property
    def kv_cache_shape(self) -> tuple[int, ...]:
        """Of one row's keys and values: layers, 2, heads, positions, size of a head."""
        return (self.layers, 2, self.heads, self.max_positions, self.dim // self.heads)

    def empty_kv_cache(self, batch_size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """A KV cache in which nothing is in use, ``[*B, *kv_cache_shape]``."""
        return empty_kv_cache(batch_size, self.layers, self.heads, self.max_positions, self.dim, device=device)

    @torch.no_grad()
    def decode_step(
        self,
        x: Float[Tensor, "n t dim"],
        kv_cache: Tensor,
        length: Tensor,
        bounds: CacheBounds,
        present: Tensor | None = None,
    ) -> Tensor:
        """Read embedded entries that follow on those in the KV cache, which is written IN PLACE.

        Args:
            x: embedded entries, ``[N, T, dim]``.
            kv_cache: keys and values, ``[N, layers, 2, heads, S, d]``.
            length: positions in use, int64 ``[N, 1]``; the entries follow on them.
            bounds: what is known of the lengths without looking.
            present: of no use to a causal mask.

        Returns:
            Outputs ``[N, T, dim]``.
        """
        count = x.shape[1]
        position = length + torch.arange(count, device=x.device)
        reach = None if bounds.longest is None else bounds.longest + count
        cache_position = CachePosition(position, kv_cache.shape[-2], uniform=bounds.uniform, reach=reach)
        return self.transformer.decode_step(x, kv_cache, cache_position)

    @torch.no_grad()
    def imagine(
        self,
        tokens: Int[Tensor, "n k"],
        kv_cache: Tensor,
        length: Int[Tensor, "n 1"],
        action: Int[Tensor, " n"],
        noise: Float[Tensor, "n k"] | None,
    ) -> Generated:
        """Read an action and generate the next frame, code by code.

        Args:
            tokens: the current frame, int64 ``[N, K]``.
            kv_cache: keys and values, ``[N, *kv_cache_shape]``, written IN PLACE.
            length: positions in use, int64 ``[N, 1]``.
            action: a_t, int64 ``[N]``.
            noise: uniform in [0, 1), one number a code, ``[N, K]``; the likeliest code each time if not given.
        """
        length, bounds = self.evict_if_full(tokens, kv_cache, length)
        at_action = self.decode_step(self.embed_action(action), kv_cache, length, bounds)[:, 0]
        hidden, found = at_action, []
        for number in range(self.frame_tokens):
            drawn = None if noise is None else noise[:, number]
            found.append(drawn_class(self._of_codes(hidden), drawn, self.top_k))
            is_last = number == self.frame_tokens - 1
            x = self.embed_frame(found[-1].unsqueeze(1)) if is_last else self.vision_embedding(found[-1]).unsqueeze(1)
            hidden = self.decode_step(x, kv_cache, length + 1 + number, bounds.moved(1 + number))[:, 0]
        return Generated(torch.stack(found, 1), length + self.block, *self._said(at_action), at_action)

    @torch.no_grad()
    def generate(
        self,
        prompt: Int[Tensor, "n p"],
        frames: int,
        *,
        unconditional: Int[Tensor, "n u"] | None = None,
        guidance: float = 1.0,
        top_k: int | None = None,
        first: Int[Tensor, "n f k"] | None = None,
        noise: Float[Tensor, "n m k"] | None = None,
    ) -> Int[Tensor, "n m k"]:
        r"""Images that follow on a text, code by code, guided away from what would follow without it.

        .. math:: l = u + s (c - u)

        with logits c behind the prompt and u behind the unconditional one. Behind every frame stands ``eof``, which is
        not drawn; both sequences go on with the same codes. The paper makes an image with s = 5 out of all codes, and
        the further frames of a video, behind that image, with s = 1 out of 1,000.

        Args:
            prompt: words, int64 ``[N, P]``, of which the last ones begin an image.
            frames: M, how many frames are generated.
            unconditional: words that begin an image without a text, ``[N, U]``; for ``guidance`` other than 1.
            guidance: s.
            top_k: of how many codes, the likeliest, each is drawn; all if not given.
            first: frames that are there already, ``[N, F, K]``.
            noise: uniform in [0, 1), one number a code, ``[N, M, K]``; the likeliest code each time if not given.

        Returns:
            The codes of the frames that were generated, int64 ``[N, M, K]``.

        Raises:
            ValueError: for guidance without an unconditional prompt, or no frame to generate.

        Reference: Ho and Salimans, Classifier-Free Diffusion Guidance (2022); Liu et al. (2024), section 4.3.
        """
        if frames < 1 or (guidance != 1.0 and unconditional is None):
            raise ValueError(
                f"guidance other than 1 compares with an unconditional prompt, and at least one frame is made; got "
                f"guidance={guidance}, frames={frames}: pass unconditional=."
            )
        texts = [prompt] if guidance == 1.0 or unconditional is None else [prompt, unconditional]
        streams = [self._stream(text, frames, first) for text in texts]
        made: list[Tensor] = []
        for frame in range(frames):
            for number in range(self.frame_tokens):
                logits = self._of_codes(streams[0].hidden)
                if len(streams) > 1:
                    without = self._of_codes(streams[1].hidden)
                    logits = without + guidance * (logits - without)
                made.append(drawn_class(logits, None if noise is None else noise[:, frame, number], top_k))
                is_last = number == self.frame_tokens - 1
                x = self.embed_frame(made[-1].unsqueeze(1)) if is_last else self.vision_embedding(made[-1]).unsqueeze(1)
                streams = [self._go_on(stream, x) for stream in streams]
        return torch.stack(made, 1).unflatten(1, (frames, self.frame_tokens))

    def _stream(self, text: Tensor, frames: int, first: Tensor | None) -> "_Stream":
        x = self.text_embedding(text)
        if first is not None:
            x = torch.cat([x, self.embed_frame(first.flatten(0, 1)).reshape(len(text), -1, self.dim)], 1)
        length = x.shape[1] + frames * self.frame_positions
        cache = empty_kv_cache([len(text)], self.layers, self.heads, length, self.dim, device=x.device, dtype=x.dtype)
        return self._go_on(_Stream(cache, 0, x[:, 0]), x)

    def _go_on(self, stream: "_Stream", x: Tensor) -> "_Stream":
        at = torch.full((x.shape[0], 1), stream.length, device=x.device)
        hidden = self.decode_step(x, stream.kv_cache, at, CacheBounds(stream.length, stream.length))
        return _Stream(stream.kv_cache, stream.length + x.shape[1], hidden[:, -1])

    def _of_codes(self, hidden: Tensor) -> Tensor:
        """Logits of the codebook's codes alone: what an image is made of."""
        return F.linear(hidden, self.vision_head.weight[: self.codes])


class _Stream(NamedTuple):
    """A sequence that is being written: its cache, its length, the last output."""

    kv_cache: Tensor
    length: int
    hidden: Tensor
