"""MaskGIT: tokens drawn in a few rounds, the surest first; and how many of them are masked in training."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wmcomponents.functional.distributions.categorical import inverse_cdf_index, softmax


class MaskSchedule(Protocol):
    """How a frame is revealed, round by round."""

    def masked(self, step: int, steps: int, tokens: int) -> int:
        """How many of a frame's tokens are masked behind a round, from 0."""
        ...

    def heat(self, step: int, steps: int) -> float:
        """Factor on the temperature in a round."""
        ...

    @property
    def is_confidence_tempered(self) -> bool:
        """Whether a token is as sure as its probability at the temperature, or as that of the logits as they are."""
        ...


class CosineSchedule:
    r"""Behind round s of S, :math:`\lceil N \cos(\tfrac{\pi}{2} \tfrac{s + 1}{S}) \rceil` tokens are masked; then none.

    Reference: Chang et al., MaskGIT (2022), section 3.3; as 1x-technologies/1xgpt has it.

    Example:
        >>> [CosineSchedule().masked(step, 4, 16) for step in range(4)]
        [15, 12, 7, 0]
    """

    is_confidence_tempered = False

    def masked(self, step: int, steps: int, tokens: int) -> int:
        """How many are masked behind a round."""
        return 0 if step == steps - 1 else math.ceil(math.cos(math.pi / 2 * (step + 1) / steps) * tokens)

    def heat(self, step: int, steps: int) -> float:
        """One: the temperature is the same in all rounds."""
        return 1.0


class WarmingSchedule:
    r"""The cosine again, and a temperature that grows with what is revealed: near to greedy first.

    .. math:: m_s = \cos(\tfrac{\pi}{2} \tfrac{s + 1}{S}), \qquad T_s = T\, (1 - m_s)

    Behind round s one token more than :math:`N - round(N (1 - m_s))` is masked; the one that still is behind the last
    round has been drawn.

    Reference: p-doom/jasmine, an open code of Genie.

    Example:
        >>> [WarmingSchedule().masked(step, 4, 16) for step in range(4)]
        [16, 12, 7, 1]
    """

    is_confidence_tempered = True

    def masked(self, step: int, steps: int, tokens: int) -> int:
        """How many are masked behind a round."""
        return min(tokens, tokens - round(tokens * self.heat(step, steps)) + 1)

    def heat(self, step: int, steps: int) -> float:
        """Share of the frame that is revealed behind the round."""
        return 1.0 - math.cos(math.pi * (step + 1) / (2 * steps))


class MaskGITNoise(NamedTuple):
    """Uniform numbers in [0, 1) that decide all rounds.

    Attributes:
        choice: draws the tokens, ``[B, S, N]``, of factorised ones ``[B, S, N, F]``; None takes the likeliest.
        order: the order in which tokens are revealed, ``[B, S, N]``, the largest first; None reveals the surest first.
    """

    choice: Tensor | None = None
    order: Tensor | None = None


@torch.no_grad()
def maskgit_decode(
    predict: Callable[[Tensor, Tensor], Tensor],
    tokens: Int[Tensor, "b n"],
    masked: Bool[Tensor, "b n"],
    steps: int,
    *,
    schedule: MaskSchedule | None = None,
    temperature: float = 1.0,
    noise: MaskGITNoise | None = None,
) -> Int[Tensor, "b n"]:
    """Draw the masked tokens of frames in a few rounds; what is revealed is never changed.

    In each round all masked tokens are drawn from what the network says, and those that are surest (or random ones)
    are kept. Surest tends to copy the frame before, as 1xgpt's authors say, who reveal at random.

    Args:
        predict: the network: (tokens, whether they are masked) to logits ``[B, N, V]``; of factorised tokens
            ``[B, N, F, V]``, the factor that counts least first, whose token is the sum of f_i V^i.
        tokens: of the frames; where they are masked anything.
        masked: which are to be drawn.
        steps: S, the rounds: 25 in the paper.
        schedule: how many are masked behind each; :class:`CosineSchedule` if not given.
        temperature: divides the logits: 2 in the paper's large model, 1 for CoinRun.
        noise: decides what is drawn and in which order; the likeliest, the surest first, if not given.

    Raises:
        ValueError: without a round, or for a temperature that is not above 0.

    Reference: Chang et al., MaskGIT (2022); Bruce et al., Genie (2024), section 2.
    """
    if steps < 1 or not temperature > 0:
        raise ValueError(f"at least one round at a temperature above 0; got steps={steps}, temperature={temperature}.")
    schedule = CosineSchedule() if schedule is None else schedule
    noise = MaskGITNoise() if noise is None else noise
    count = tokens.shape[1]
    for step in range(steps):
        logits = predict(tokens, masked)
        tempered = softmax(logits / (temperature * schedule.heat(step, steps)))
        picked = tempered.argmax(-1) if noise.choice is None else inverse_cdf_index(tempered, noise.choice[:, step])
        if noise.order is None:
            probs = tempered if schedule.is_confidence_tempered else softmax(logits)
            confidence = probs.gather(-1, picked.unsqueeze(-1)).squeeze(-1)
            confidence = confidence.prod(-1) if picked.ndim > 2 else confidence
        else:
            confidence = noise.order[:, step]
        if picked.ndim > 2:
            powers = logits.shape[-1] ** torch.arange(picked.shape[-1], device=picked.device)
            picked = (picked * powers).sum(-1)
        tokens = torch.where(masked, picked, tokens)
        rank = confidence.masked_fill(~masked, math.inf).argsort(dim=-1, stable=True).argsort(-1)
        masked = masked & (rank < schedule.masked(step, steps, count))
    return tokens


def random_token_mask(rate: Float[Tensor, " b"], noise: Float[Tensor, "b t n"]) -> Bool[Tensor, "b t n"]:
    """Which tokens of films are masked in training: each by itself at its film's rate, and none of the first frame.

    Args:
        rate: of each film: uniform in [0.5, 1] in the paper.
        noise: uniform in [0, 1).

    Reference: Bruce et al., Genie (2024), section 2.1.
    """
    masked = noise < rate.view(-1, 1, 1)
    return masked & (torch.arange(noise.shape[1], device=noise.device) > 0).view(1, -1, 1)


def cosine_token_mask(
    first: Int[Tensor, " b"], u: Float[Tensor, "b t"], noise: Float[Tensor, "b t n"]
) -> Bool[Tensor, "b t n"]:
    r"""Which tokens of films are masked in training where frames before a first one stay as they are.

    From that frame on each token of frame t is masked with probability :math:`\cos(\tfrac{\pi}{2} u_t)`.

    Args:
        first: of each film, the first frame that is masked: drawn anew half of the time, else the second.
        u: uniform in [0, 1), one number a frame.
        noise: uniform in [0, 1).

    Reference: the collator of 1x-technologies/1xgpt.
    """
    behind = torch.arange(u.shape[1], device=u.device) >= first.unsqueeze(1)
    return (noise < (math.pi / 2 * u).cos().unsqueeze(-1)) & behind.unsqueeze(-1)


def corrupted_tokens(
    tokens: Int[Tensor, "b t n"],
    rate: Float[Tensor, " b"],
    noise: Float[Tensor, "b t n"],
    other: Int[Tensor, "b t n"],
) -> Int[Tensor, "b t n"]:
    """Films in which some tokens are others, so that a network learns not to believe all it has drawn itself.

    Args:
        tokens: of the films.
        rate: of each film, uniform in [0, 0.2] in 1xgpt.
        noise: uniform in [0, 1): which are others.
        other: what they are then, uniform.

    Reference: the collator of 1x-technologies/1xgpt.
    """
    return torch.where(noise < rate.view(-1, 1, 1), other, tokens)
