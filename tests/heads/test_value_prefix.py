"""EfficientZero's value prefix."""

import pytest
import torch
from torch import nn

from tests.support.parts import scramble
from wmcomponents.codecs import Support
from wmcomponents.heads import RewardHead, ValuePrefixHead
from wmcomponents.nn import Perceptron


def head(horizon=3):
    torch.manual_seed(0)
    made = ValuePrefixHead(nn.Identity(), 4, Support.integers(5), lstm=6, hidden=[8], horizon=horizon, zero=False)
    return scramble(made).eval()


def fresh(part, rows=2):
    return {k: torch.zeros(rows, *spec.shape, dtype=spec.dtype) for k, spec in part.memory_specs().items()}


def run(part, latents):
    memory, rewards, prefixes, counts = fresh(part), [], [], []
    for latent in latents:
        logits, reward, memory = part.advance(latent, memory)
        rewards.append(reward)
        prefixes.append(part.support.mean(logits).unsqueeze(-1))
        counts.append(memory["since_reset"][0].item())
    return torch.stack(rewards), torch.stack(prefixes), counts


def test_rewards_are_differences_of_prefixes_and_the_prefix_itself_after_a_reset():
    latents = torch.randn(7, 2, 4)
    rewards, prefixes, counts = run(head(), latents)
    assert counts == [1, 2, 0, 1, 2, 0, 1]
    for first in (0, 3, 6):
        torch.testing.assert_close(rewards[first], prefixes[first])
        torch.testing.assert_close(rewards[first : first + 3].cumsum(0), prefixes[first : first + 3])


def test_a_reset_erases_what_was_before():
    latents = torch.randn(6, 2, 4)
    other = torch.cat([torch.randn(3, 2, 4), latents[3:]])
    torch.testing.assert_close(run(head(), latents)[0][3:], run(head(), other)[0][3:])
    assert not torch.allclose(run(head(4), latents)[0][3:], run(head(4), other)[0][3:])


def test_targets_are_undiscounted_sums_since_the_last_reset():
    assert head(3).targets(torch.arange(1.0, 8.0)).tolist() == [1, 3, 6, 4, 9, 15, 7]
    alone = RewardHead(Perceptron(4, [], 11), Support.integers(5))
    assert alone.targets(torch.arange(3.0)).tolist() == [0, 1, 2]


def test_a_horizon_is_at_least_one_step():
    with pytest.raises(ValueError, match="at least 1"):
        head(0)
