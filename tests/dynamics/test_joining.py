"""How proprioception and actions stand beside patches, and come apart again."""

from functools import partial

import pytest
import torch

from wmcomponents.dynamics import AsTokens, FrameParts, InChannels

WAYS = {
    "channels": (InChannels, 2, 4),
    "channels, repeated": (partial(InChannels, proprio_repeats=2, action_repeats=3), 2, 4),
    "channels, no proprioception": (InChannels, 0, 4),
    "tokens": (AsTokens, 8, 8),
    "tokens, no proprioception": (AsTokens, 0, 8),
}


@pytest.mark.parametrize(("build", "proprio", "action"), WAYS.values(), ids=WAYS)
def test_what_was_joined_comes_apart_and_an_action_is_exchanged_alone(build, proprio, action):
    joining = build(8, proprio, action)
    parts = FrameParts(torch.randn(3, 5, 8), torch.randn(3, proprio), torch.randn(3, action))
    tokens = joining.join(parts)
    assert tokens.shape == (3, joining.count(5), joining.dim)
    for found, given in zip(joining.part(tokens), parts, strict=True):
        assert torch.equal(found, given)
    other = torch.randn(3, action)
    found = joining.part(joining.with_action(tokens, other))
    assert torch.equal(found.action, other) and torch.equal(found.visual, parts.visual)
    assert torch.equal(joining.acted(joining.predicted(tokens), parts.action), tokens)
    visual, beside = joining.apart(joining.predicted(tokens))
    assert torch.equal(visual, parts.visual) and bool(beside.numel()) == bool(proprio)


def test_repeated_numbers_stand_one_behind_the_other_in_every_patch():
    joining = InChannels(1, 2, 1, proprio_repeats=2, action_repeats=3)
    tokens = joining.join(FrameParts(torch.zeros(2, 1), torch.tensor([1.0, 2.0]), torch.tensor([3.0])))
    assert tokens.tolist() == [[0.0, 1.0, 2.0, 1.0, 2.0, 3.0, 3.0, 3.0]] * 2
    assert joining.predicted(tokens).shape == (2, 5)


def test_tokens_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match="one size; got 8, 4 and 8"):
        AsTokens(8, 4, 8)
