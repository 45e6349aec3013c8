"""The model of reward and end against the numbers of the authors' code."""

import torch

from tests.support.golden_diamond import channels_last, one_hot, reward_end


@torch.no_grad()
def test_codes_logits_and_memory_are_the_official_ones():
    head, info, vectors = reward_end("diamond_rew_end")
    close = info["tolerance"]
    action = one_hot(vectors["in/act"], 4)
    code = head.encode(vectors["in/obs"].flatten(0, 1), action.flatten(0, 1), vectors["in/next_obs"].flatten(0, 1))
    torch.testing.assert_close(code, vectors["out/encoder"].flatten(1), **close)
    code = code.unflatten(0, (2, 3))
    h, c = head.advance_sequence(code, vectors["in/hx"][0], vectors["in/cx"][0])
    for ours, key in zip(head.raw(h), ("out/logits_rew", "out/logits_end"), strict=True):
        torch.testing.assert_close(ours, vectors[key], **close)
    torch.testing.assert_close(h[:, -1], vectors["out/hx"][0], **close)
    torch.testing.assert_close(c[:, -1], vectors["out/cx"][0], **close)
    fresh = head.unroll(code, torch.zeros(2, 3, 1, dtype=torch.bool))
    for ours, key in zip(head.raw(fresh), ("out/logits_rew_zero_state", "out/logits_end_zero_state"), strict=True):
        torch.testing.assert_close(ours, vectors[key], **close)


@torch.no_grad()
def test_the_component_steps_through_the_same_numbers():
    head, info, vectors = reward_end("diamond_rew_end")
    frames, following = channels_last(vectors["in/obs"]), channels_last(vectors["in/next_obs"])
    h, c = vectors["in/hx"][0], vectors["in/cx"][0]
    for t in range(3):
        reward, end, h, c = head(frames[:, t], one_hot(vectors["in/act"][:, t], 4), following[:, t], h, c)
        torch.testing.assert_close(reward, vectors["out/logits_rew"][:, t], **info["tolerance"])
        torch.testing.assert_close(end, vectors["out/logits_end"][:, t], **info["tolerance"])
    torch.testing.assert_close(h, vectors["out/hx"][0], **info["tolerance"])
