import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import example_weights, packed, top_k_logits


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_every_example_lies_whole_in_one_row(lengths):
    rows = packed(lengths, 9)
    real = rows.segments > 0
    assert sorted(rows.index[real].tolist()) == list(range(sum(lengths)))
    found = []
    for row in range(len(rows.index)):
        for segment in rows.segments[row].unique().tolist():
            own = rows.segments[row] == segment
            if segment:
                assert rows.position[row][own].tolist() == list(range(int(own.sum())))
                assert (rows.index[row][own].diff() == 1).all()
                found.append(int(own.sum()))
    assert sorted(found) == sorted(lengths)
    assert len(rows.index) <= len(lengths)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_a_weighted_mean_over_packed_targets_is_the_mean_of_the_examples_means(lengths):
    rows = packed(lengths, 9)
    loss = torch.arange(sum(lengths), dtype=torch.float32)
    weight = example_weights(rows.segments, (rows.segments > 0).float())
    wanted = torch.stack([part.mean() for part in loss.split(lengths)]).mean()
    torch.testing.assert_close((weight * loss[rows.index]).sum() / weight.sum(), wanted)


def test_what_does_not_fit_is_refused():
    for lengths in ([], [0, 1], [3, 10]):
        with pytest.raises(ValueError, match="1 to 9 entries"):
            packed(lengths, 9)
    with pytest.raises(ValueError, match="at least one"):
        top_k_logits(torch.zeros(3), 0)


def test_draws_come_from_the_likeliest_alone():
    logits = torch.tensor([[0.0, 5.0, 4.0, 5.0]])
    assert top_k_logits(logits, 2).isfinite().tolist() == [[False, True, False, True]]
    assert top_k_logits(logits, None) is logits and top_k_logits(logits, 9) is logits
