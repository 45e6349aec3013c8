"""MaskGIT: schedules by hand, and laws of every decoding."""

import pytest
import torch

from wmcomponents.functional import (
    CosineSchedule,
    MaskGITNoise,
    WarmingSchedule,
    corrupted_tokens,
    cosine_token_mask,
    maskgit_decode,
    random_token_mask,
)

SCHEDULES = [CosineSchedule(), WarmingSchedule()]


def sure(tokens: int, values: int, seed: int = 0):
    """A network that says the same at every place whatever it sees: its logits ``[1, N, V]``."""
    return torch.randn(1, tokens, values, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("is_random", [False, True])
def test_what_is_revealed_is_never_changed_and_everything_is_drawn(schedule, is_random):
    generator = torch.Generator().manual_seed(0)
    rounds = []

    def predict(tokens, masked):
        rounds.append((tokens.clone(), masked.clone()))
        return torch.randn(3, 8, 5, generator=generator)

    noise = torch.rand(3, 4, 8, generator=generator)
    noise = MaskGITNoise(noise, noise.flip(1)) if is_random else None
    masked = torch.ones(3, 8, dtype=torch.bool)
    masked[:, 2] = False
    out = maskgit_decode(predict, torch.full((3, 8), 4), masked, 4, schedule=schedule, noise=noise)
    assert not rounds[0][1][:, 2].any() and bool((out[:, 2] == 4).all())
    for (before, hidden), (after, _) in zip(rounds, [*rounds[1:], (out, None)], strict=True):
        assert torch.equal(before[~hidden], after[~hidden])
    counts = [int(hidden[0].sum()) for _, hidden in rounds]
    assert counts == sorted(counts, reverse=True) and counts[-1] < 7


def test_without_noise_the_likeliest_tokens_come_out_and_the_surest_first():
    logits, order = sure(6, 4), []

    def predict(tokens, masked):
        order.append(masked[0].clone())
        return logits

    masked = torch.ones(1, 6, dtype=torch.bool)
    out = maskgit_decode(predict, torch.zeros(1, 6, dtype=torch.int64), masked, 3)
    assert torch.equal(out, logits.argmax(-1))
    surest = logits.softmax(-1).amax(-1)[0].argsort(descending=True)
    # ceil(6 cos(pi / 6)) = 6 stay masked, then ceil(6 cos(pi / 3)) = 3 (3.0000000000000004 rounds up to 4)
    assert [int(hidden.sum()) for hidden in order] == [6, 6, 4]
    assert not order[2][surest[:2]].any()


def test_noise_decides_tokens_by_their_slices_of_probability_at_a_temperature():
    logits = torch.tensor([0.0, 2.0]).expand(1, 1, 2)
    masked, blank = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64)

    def drawn(u, temperature):
        noise = MaskGITNoise(torch.full((1, 1, 1), u))
        return int(maskgit_decode(lambda t, m: logits, blank, masked, 1, temperature=temperature, noise=noise))

    # sigmoid(-2) = 0.119, sigmoid(-1) = 0.269
    assert (drawn(0.11, 1.0), drawn(0.13, 1.0), drawn(0.26, 2.0), drawn(0.28, 2.0)) == (0, 1, 0, 1)


def test_the_temperature_of_a_warming_schedule_is_near_nothing_first_and_whole_at_last():
    heats = [WarmingSchedule().heat(step, 25) for step in range(25)]
    assert heats == sorted(heats) and heats[0] < 0.01 and heats[-1] == pytest.approx(1.0)
    assert [WarmingSchedule().masked(step, 2, 10) for step in range(2)] == [8, 1]  # 10 - round(2.93) + 1


def test_digits_make_one_token_the_first_counts_least():
    logits = torch.full((1, 1, 2, 3), -9.0)
    logits[0, 0, 0, 2] = logits[0, 0, 1, 1] = 9.0
    masked, blank = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64)
    assert int(maskgit_decode(lambda t, m: logits, blank, masked, 1)) == 2 + 1 * 3


def test_no_round_and_no_temperature_are_refused():
    masked, blank = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64)
    for steps, temperature in ((0, 1.0), (2, 0.0)):
        with pytest.raises(ValueError, match="at least one round"):
            maskgit_decode(lambda t, m: torch.zeros(1, 1, 2), blank, masked, steps, temperature=temperature)


def test_the_first_frame_is_never_masked_in_training():
    masked = random_token_mask(torch.tensor([1.0, 0.5]), torch.rand(2, 3, 400))
    assert not masked[:, 0].any() and bool(masked[0, 1:].all()) and 0.4 < masked[1, 1:].float().mean() < 0.6


def test_1xgpts_collator_masks_from_a_frame_on_by_a_cosine_and_puts_other_tokens_in():
    u = torch.tensor([[0.0, 2 / 3, 0.0]]).expand(2, 3)
    noise = torch.tensor([0.4, 0.6]).expand(2, 3, 2)  # cos(0) = 1, cos(pi / 3) = 1 / 2
    masked = cosine_token_mask(torch.tensor([1, 2]), u, noise)
    assert masked[0].tolist() == [[False, False], [True, False], [True, True]]
    assert masked[1].tolist() == [[False, False], [False, False], [True, True]]
    tokens, other = torch.zeros(2, 3, 2, dtype=torch.int64), torch.ones(2, 3, 2, dtype=torch.int64)
    assert corrupted_tokens(tokens, torch.tensor([0.0, 0.5]), noise, other)[:, 0].tolist() == [[0, 0], [1, 0]]
