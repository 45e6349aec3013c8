"""The actor-critic of IRIS, Delta-IRIS and DIAMOND: convolutions, a long short-term memory, two linear heads."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from wmcomponents._global_batch import global_mean
from wmcomponents.codecs import SquaredError
from wmcomponents.functional import categorical_entropy, lambda_return
from wmcomponents.heads import HeadDistribution, NumberDistribution
from wmcomponents.nn.chunks import row_chunks
from wmcomponents.nn.conv.frame_cnn import channels_first

IMAGES_AT_ONCE = 1024
"""Images of a burn-in that are encoded together at most, which bounds its memory."""


class RecurrentStep(NamedTuple):
    """What a recurrent actor-critic makes of one image.

    Attributes:
        logits: of the actions, ``[N, A]``.
        raw_value: what the critic says, ``[N, value.size]``.
        hx: output of the memory, ``[N, D]``.
        cx: its cell, ``[N, D]``.
    """

    logits: Tensor
    raw_value: Tensor
    hx: Tensor
    cx: Tensor


class RecurrentActorCritic(nn.Module):
    """A policy and a value of images, with one encoder and one memory for both.

    Args:
        encoder: flat features ``[N, F]`` of images ``[N, C, H, W]`` in [0, 1].
        features: F.
        actions: alternatives of the choice.
        units: D, size of the memory.
        value: what the critic's raw outputs mean; a number under the squared error if not given.
        zero_heads: whether actor and critic begin at zero (DIAMOND).

    Example:
        >>> from wmcomponents.nn import PooledConvs
        >>> agent = RecurrentActorCritic(PooledConvs(), 1024, actions=4, units=16)
        >>> hx, cx = agent.initial_state(2)
        >>> step = agent.step(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), hx, cx)
        >>> step.logits.shape, agent.value.mean(step.raw_value).shape
        (torch.Size([2, 4]), torch.Size([2, 1]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        *,
        actions: int,
        units: int = 512,
        value: HeadDistribution | None = None,
        zero_heads: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.units = encoder, units
        self.lstm = nn.LSTMCell(features, units)
        self.value = NumberDistribution(1, SquaredError()) if value is None else value
        self.actor, self.critic = nn.Linear(units, actions), nn.Linear(units, self.value.size)
        if zero_heads:
            for parameter in (*self.actor.parameters(), *self.critic.parameters()):
                nn.init.zeros_(parameter)

    def initial_state(self, rows: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """The empty memory: two times zeros ``[rows, D]``."""
        zeros = torch.zeros(2, rows, self.units, device=device)
        return zeros[0], zeros[1]

    def step(
        self, pixels: Shaped[Tensor, "n h w c"], hx: Float[Tensor, "n d"], cx: Float[Tensor, "n d"]
    ) -> RecurrentStep:
        """What it makes of one more image.

        Args:
            pixels: the image, as the environment shows it: bytes, planes of truths, or numbers in [0, 1].
            hx: output of the memory so far.
            cx: its cell so far.
        """
        hx, cx = self.lstm(self._encoded(pixels), (hx, cx))
        return RecurrentStep(self.actor(hx), self.critic(hx), hx, cx)

    @torch.no_grad()
    def burn_in(
        self, pixels: Shaped[Tensor, "n t h w c"], known: Bool[Tensor, "n t"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The memory, two times ``[N, D]``, after real images that came before a dream.

        Args:
            pixels: the images.
            known: false where an image is padding, which leaves the memory as it is (IRIS); without, all are read
                (Delta-IRIS).
        """
        hx, cx = self.initial_state(len(pixels), pixels.device)
        flat = pixels.flatten(0, 1)
        shares = row_chunks(len(flat), flat.shape[1] * flat.shape[2], flat.device, IMAGES_AT_ONCE)
        if not len(flat):
            return hx, cx
        encoded = torch.cat([self._encoded(flat[share]) for share in shares]).unflatten(0, pixels.shape[:2])
        for t, features in enumerate(encoded.unbind(1)):
            new_hx, new_cx = self.lstm(features, (hx, cx))
            is_known = None if known is None else known[:, t, None]
            hx = new_hx if is_known is None else torch.where(is_known, new_hx, hx)
            cx = new_cx if is_known is None else torch.where(is_known, new_cx, cx)
        return hx, cx

    def _encoded(self, pixels: Tensor) -> Tensor:
        if pixels.dtype is torch.uint8:
            return self.encoder(channels_first(pixels))
        planes = pixels.permute(0, 3, 1, 2)
        return self.encoder(planes.to(torch.float32, memory_format=torch.contiguous_format))


class RecurrentLosses(NamedTuple):
    """Means over steps, weighted; their sum is minimised.

    Attributes:
        actor: of the policy's gradient.
        critic: of the critic's error.
        entropy: the negative entropy bonus.
    """

    actor: Tensor
    critic: Tensor
    entropy: Tensor


def recurrent_returns(
    reward: Float[Tensor, "*batch t"],
    terminated: Bool[Tensor, "*batch t"],
    next_value: Float[Tensor, "*batch t"],
    *,
    discount: float,
    lam: float = 0.95,
    truncated: Bool[Tensor, "*batch t"] | None = None,
) -> Float[Tensor, "*batch t"]:
    """Lambda returns of dreamt steps that may end, or be cut, on the way; no gradient.

    Args:
        reward: of each step; DIAMOND's is its sign.
        terminated: whether the step ended its episode.
        next_value: value of the image that the step led to, the last one of an episode that ended included.
        discount: gamma.
        lam: lambda.
        truncated: whether the episode was cut there: its return goes on with ``next_value`` alone.

    Reference: IRIS (2023), eq. 6; DIAMOND (2024), appendix.
    """
    goes_on = discount * (~terminated).to(reward.dtype)
    share = torch.full_like(reward, lam) if truncated is None else lam * (~truncated).to(reward.dtype)
    return lambda_return(reward, goes_on, next_value.detach(), share).detach()


def until_first_end(ended: Bool[Tensor, "*batch t"]) -> Bool[Tensor, "*batch t"]:
    """True up to the first step that ended its episode, which counts: behind it a dream means nothing (Delta-IRIS)."""
    before = ended.cumsum(-1) - ended.to(torch.int64)
    return before == 0


def recurrent_losses(
    logits: Float[Tensor, "*batch t a"],
    action: Int[Tensor, "*batch t"],
    raw_value: Float[Tensor, "*batch t v"],
    returns: Float[Tensor, "*batch t"],
    value: HeadDistribution,
    *,
    entropy_scale: float,
    baseline: Float[Tensor, "*batch t"] | None = None,
    counts: Bool[Tensor, "*batch t"] | None = None,
) -> RecurrentLosses:
    """REINFORCE with a baseline, the critic's error, and the entropy bonus.

    Args:
        logits: of the actions.
        action: those taken.
        raw_value: what the critic said.
        returns: what the steps earned.
        value: what the critic's raw outputs mean.
        entropy_scale: weight of the entropy, in nats.
        baseline: what was expected; the critic's own value if not given (Delta-IRIS: that of its target network).
        counts: false where a step means nothing.
    """
    log_probs = logits.log_softmax(-1)
    expected = value.mean(raw_value).squeeze(-1) if baseline is None else baseline
    taken = log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    actor = -taken * (returns - expected).detach()
    critic = value.loss(raw_value, returns.unsqueeze(-1))
    entropy = categorical_entropy(log_probs)
    if counts is None:
        return RecurrentLosses(actor.mean(), critic.mean(), -entropy_scale * entropy.mean())
    number = global_mean(counts.sum().to(actor.dtype))
    means = [each[counts].sum() / number for each in (actor, critic, entropy)]
    return RecurrentLosses(means[0], means[1], -entropy_scale * means[2])
