"""A transformer over frames and actions: what it reads, what each slot says, what it refuses."""

import pytest
import torch

from wmcomponents.dynamics import CacheBounds, TokenTransformer

SIZES = {"frame_tokens": 4, "max_frames": 3, "layers": 2, "heads": 2, "dim": 16}


@pytest.fixture
def part():
    torch.manual_seed(0)
    part = TokenTransformer(7, 3, **SIZES).eval()
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return part


def sequence(rows=2, frames=3):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(7, (rows, frames, 4), generator=generator)
    return tokens, torch.randint(3, (rows, frames), generator=generator)


def test_slots_say_what_follows_and_nothing_of_what_comes_after(part):
    tokens, action = sequence()
    logits, reward, ends = part.compute(tokens, action)
    assert logits.shape == (2, 3, 4, 7) and reward.shape == (2, 3, 3) and ends.shape == (2, 3, 2)
    for frame in range(3):
        for k in range(4):
            other = tokens.clone()
            other[:, frame, k] = (other[:, frame, k] + 1) % 7
            moved = (part.compute(other, action)[0] != logits).flatten(2).any(0).any(-1)
            again = (part.compute(other, action)[0] != logits).any(0).any(-1).flatten()
            # Entry 4 f + j speaks of the token behind it: j < 3 having read tokens up to j, j = 3 the action too.
            reads = 4 * frame + min(k, 3)
            assert not again[:reads].any() and again[reads:].all() and moved[frame:].all()


def test_the_action_shapes_its_own_reward_and_the_next_frame(part):
    tokens, action = sequence()
    other = action.clone()
    other[:, 1] = (other[:, 1] + 1) % 3
    one, two = part.compute(tokens, action), part.compute(tokens, other)
    assert torch.equal(one[1][:, 0], two[1][:, 0]) and not torch.equal(one[1][:, 1], two[1][:, 1])
    assert torch.equal(one[0][:, 1, :3], two[0][:, 1, :3]) and not torch.equal(one[0][:, 1, 3], two[0][:, 1, 3])


def test_a_sequence_longer_than_the_context_is_refused(part):
    with pytest.raises(ValueError, match="15 positions, 3 frames"):
        part.compute(*sequence(frames=4))
    with pytest.raises(ValueError, match="causality"):
        TokenTransformer(7, 3, causality="none")


def test_memory_has_the_shape_that_it_says(part):
    assert part.kv_cache_shape == (2, 2, 2, 15, 8)
    assert part.empty_kv_cache((3, 2)).shape == (3, 2, *part.kv_cache_shape)


def test_lengths_are_looked_at_once_and_then_counted():
    same, apart = CacheBounds.of(torch.tensor([[4], [4]])), CacheBounds.of(torch.tensor([[4], [9]]))
    assert same == (4, 4) and apart == (None, 9)
    assert same.moved(2) == (6, 6) and apart.moved(2) == (None, 11) and CacheBounds().moved(2) == (None, None)


def test_only_rows_without_room_forget(part):
    tokens, _ = sequence(rows=3, frames=1)
    kv_cache, length = torch.randn(3, *part.kv_cache_shape), torch.tensor([[9], [11], [0]])
    before = kv_cache.clone()
    after, bounds = part.evict_if_full(tokens[:, 0], kv_cache, length)
    assert after.tolist() == [[9], [4], [4]] and bounds == (None, 9)
    assert torch.equal(kv_cache[0], before[0])
    fresh = part.empty_kv_cache((3,))
    part.begin(tokens[:, 0], fresh)
    torch.testing.assert_close(kv_cache[1:, ..., :4, :], fresh[1:, ..., :4, :], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("looks", [True, False])
def test_a_block_that_fits_to_the_last_position_is_written_and_one_further_rebuilds_first(part, looks, monkeypatch):
    """The authors rebuild where size + 1 + K > positions: 10 + 5 = 15 fits into 15 positions, 11 + 5 does not."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: not looks)
    tokens, action = sequence(rows=3, frames=1)
    length = torch.tensor([[9], [10], [11]])
    made = part.imagine(tokens[:, 0], torch.randn(3, *part.kv_cache_shape), length, action[:, 0], None)
    assert made.length.tolist() == [[14], [15], [9]]
    # Dreams begin with a frame and add blocks: sizes are 4, 9, 14, and the fourth frame rebuilds.
    state, kv_cache, lengths = torch.tensor([[4]]), part.empty_kv_cache((1,)), []
    part.begin(tokens[:1, 0], kv_cache)
    words = tokens[:1, 0]
    for _ in range(5):
        step = part.imagine(words, kv_cache, state, action[:1, 0], None)
        words, state = step.tokens, step.length
        lengths.append(int(state))
    assert lengths == [9, 14, 9, 14, 9]


def test_a_step_in_training_mode_records_no_gradient(part):
    tokens, action = sequence(rows=2, frames=1)
    made = part.imagine(
        tokens[:, 0], part.empty_kv_cache((2,)), torch.zeros(2, 1, dtype=torch.int64), action[:, 0], None
    )
    assert not made.reward.requires_grad and made.length.tolist() == [[9], [9]]
