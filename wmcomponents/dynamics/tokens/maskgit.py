"""A film's next tokens by MaskGIT: masked tokens are told from the others, from the past and from the actions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.dynamics.tokens.action_joining import ActionJoining
from wmcomponents.functional.maskgit import MaskGITNoise, MaskSchedule, maskgit_decode
from wmcomponents.nn import Quantizer
from wmcomponents.nn.space_time.transformer import STTransformer


class MaskedEmbedding(nn.Module):
    """A learned vector for each token, and one for all that are masked.

    Args:
        vocabulary: number of tokens.
        dim: size of a vector.
    """

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.vocabulary, self.dim = vocabulary, dim
        self.embedding = nn.Embedding(vocabulary, dim)
        self.mask = nn.Parameter(torch.zeros(dim))
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.mask, std=0.02)

    def forward(self, tokens: Int[Tensor, "*batch"], masked: Bool[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        """Vectors of tokens; what is masked is not looked at.

        Args:
            tokens: where they are masked any number.
            masked: where they are.
        """
        shown = self.embedding(tokens.masked_fill(masked, 0))
        return torch.where(masked.unsqueeze(-1), self.mask.to(shown.dtype), shown)


class FactorizedEmbedding(nn.Module):
    """Tokens of a large vocabulary as several digits, whose vectors are summed; one vector for all that are masked.

    Args:
        base: values of a digit.
        digits: the one that counts least first; there are base ** digits tokens.
        dim: size of a vector.

    Reference: 1x-technologies/1xgpt, with MAGVIT2's 2^18 tokens as two digits of 512.
    """

    def __init__(self, base: int, digits: int, dim: int) -> None:
        super().__init__()
        self.base, self.digits, self.dim, self.vocabulary = base, digits, dim, base**digits
        self.embeddings = nn.ModuleList(nn.Embedding(base, dim) for _ in range(digits))
        self.mask = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Int[Tensor, "*batch"], masked: Bool[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        """Vectors of tokens; what is masked is not looked at."""
        tokens = tokens.masked_fill(masked, 0)
        digits = [tokens // self.base**place % self.base for place in range(self.digits)]
        shown = torch.stack([embed(digit) for embed, digit in zip(self.embeddings, digits, strict=True)]).sum(0)
        return torch.where(masked.unsqueeze(-1), self.mask.to(shown.dtype), shown)


class SkippedEmbedding(nn.Module):
    """A learned vector for each token, plus a map of its vector in the tokenizer's codebook.

    Args:
        embedding: the learned vectors.
        quantizer: of the tokenizer, which remains its owner; no gradient reaches it.

    Reference: token input skip of Savov et al., Exploration-Driven Generative Interactive Environments (2025).
    """

    def __init__(self, embedding: MaskedEmbedding, quantizer: Quantizer) -> None:
        super().__init__()
        self.embedding = embedding
        self.vocabulary, self.dim = embedding.vocabulary, embedding.dim
        self.map = nn.Linear(quantizer.dim, embedding.dim)
        self._quantizer = (quantizer,)  # in a tuple, so that its weights are not this part's

    def forward(self, tokens: Int[Tensor, "*batch"], masked: Bool[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        """Vectors of tokens; what is masked is not looked at."""
        codes = self._quantizer[0].lookup(tokens.masked_fill(masked, 0)).detach()
        return self.embedding(tokens, masked) + self.map(codes) * (~masked).unsqueeze(-1)


class MaskGITDecoding(NamedTuple):
    """How a frame is drawn.

    Attributes:
        steps: rounds.
        temperature: divides the logits.
        schedule: how many tokens are masked behind each round.
    """

    steps: int
    temperature: float
    schedule: MaskSchedule


class MaskGITDynamics(Component):
    """Logits of all tokens of films of which some are masked.

    ============ ================================================= ================================
    key          what                                              shape
    ============ ================================================= ================================
    tokens       read: of the frames; where masked any number      int64 ``[*B, T, N]``
    masked       read: where they are                              bool ``[*B, T, N]``
    action       read: vectors of what led to each frame; that of  float ``[*B, T, A]``
                 the first frame is not looked at
    token_logits written                                           float ``[*B, T, N, V]``
    ============ ================================================= ================================

    Args:
        embedding: of tokens, such as :class:`MaskedEmbedding`.
        joining: how actions meet tokens.
        transformer: over ``joining.extra`` tokens more than a frame has, from ``joining.dim`` numbers to V logits.
        in_keys: keys read.
        out_keys: keys written.

    Reference: Bruce et al., Genie (2024), section 2.
    """

    def __init__(
        self,
        embedding: nn.Module,
        joining: ActionJoining,
        transformer: STTransformer,
        *,
        in_keys: Sequence[NestedKey] = ("tokens", "masked", "action"),
        out_keys: Sequence[NestedKey] = ("token_logits",),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.embedding, self.joining, self.transformer = embedding, joining, transformer

    def compute(
        self,
        tokens: Int[Tensor, "*batch t n"],
        masked: Bool[Tensor, "*batch t n"],
        action: Float[Tensor, "*batch t a"],
    ) -> Float[Tensor, "*batch t n v"]:
        """Logits of whole films."""
        lead = tokens.shape[:-2]
        flat = (value.reshape(-1, *value.shape[len(lead) :]) for value in (tokens, masked, action))
        y = self.transformer(self._embedded(*flat))[:, :, self.joining.extra :]
        return y.reshape(*lead, *y.shape[1:])

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "b p n"],
        led: Float[Tensor, "b p a"],
        action: Float[Tensor, "b a"],
        place: Int[Tensor, "b 1"],
        decoding: MaskGITDecoding,
        noise: MaskGITNoise | None = None,
    ) -> Int[Tensor, "b n"]:
        """The tokens of one more frame. The past is read once, and its keys and values serve all rounds.

        Args:
            tokens: of the past.
            led: vectors of the actions that led to its frames.
            action: that of the action that leads to the new frame.
            place: how many frames of the past each row has; the others are not looked at.
            decoding: rounds, temperature, schedule.
            noise: see :func:`wmcomponents.functional.maskgit.maskgit_decode`.
        """
        return self.draw(self.remember(tokens, led), action, place, tokens.shape[2], decoding, noise)

    @torch.no_grad()
    def draw(
        self,
        past: list[list[Any]],
        action: Float[Tensor, "b a"],
        place: Int[Tensor, "b 1"],
        count: int,
        decoding: MaskGITDecoding,
        noise: MaskGITNoise | None = None,
    ) -> Int[Tensor, "b n"]:
        """The tokens of one more frame behind a past that was read.

        Args:
            past: as :meth:`remember` gave it.
            action: see :meth:`generate`, like everything else.
            place: of the frame.
            count: tokens of a frame.
            decoding: rounds, temperature, schedule.
            noise: decides what is drawn.
        """
        blank = torch.zeros(len(action), count, dtype=torch.int64, device=action.device)
        return maskgit_decode(
            self.following(past, action, place),
            blank,
            torch.ones_like(blank, dtype=torch.bool),
            decoding.steps,
            schedule=decoding.schedule,
            temperature=decoding.temperature,
            noise=noise,
        )

    def remember(self, tokens: Int[Tensor, "b p n"], led: Float[Tensor, "b p a"]) -> list[list[Any]]:
        """What one more frame needs of frames that are known."""
        return self.transformer.remember(self._embedded(tokens, torch.zeros_like(tokens, dtype=torch.bool), led))

    def following(
        self, past: list[list[Any]], action: Float[Tensor, "b a"], place: Int[Tensor, "b 1"]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Logits ``[B, N, V]`` of one more frame as a function of its tokens ``[B, N]`` and of which are masked.

        Args:
            past: as :meth:`remember` gave it.
            action: that leads to the frame.
            place: of the frame, see :meth:`generate`.
        """

        def logits(tokens: Tensor, masked: Tensor) -> Tensor:
            x = self._embedded_frame(tokens, masked, action, place)
            return self.transformer.follow(x, past, place)[:, self.joining.extra :]

        return logits

    def extend(
        self,
        past: list[list[Any]],
        tokens: Int[Tensor, "b n"],
        action: Float[Tensor, "b a"],
        place: Int[Tensor, "b 1"],
    ) -> list[Float[Tensor, "b m k"]]:
        """What frames behind one more known frame need of it; see :meth:`STTransformer.pack`.

        Args:
            past: as :meth:`remember` gave it, of the frames before.
            tokens: of the frame.
            action: that led to it.
            place: of the frame, see :meth:`generate`.
        """
        x = self._embedded_frame(tokens, torch.zeros_like(tokens, dtype=torch.bool), action, place)
        return self.transformer.extend(x, past, place)

    def _embedded_frame(self, tokens: Tensor, masked: Tensor, action: Tensor, place: Tensor) -> Tensor:
        return self.joining(self.embedding(tokens, masked).unsqueeze(1), action.unsqueeze(1), place > 0).squeeze(1)

    def _embedded(self, tokens: Tensor, masked: Tensor, action: Tensor) -> Tensor:
        known = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        known[:, 0] = False
        return self.joining(self.embedding(tokens, masked), action, known)
