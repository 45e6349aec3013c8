"""Who may look at whom."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional import block_causal_mask, causal_mask, slot_positions, visible


@given(st.integers(1, 12))
def test_a_causal_mask_shows_the_past_and_oneself_and_nothing_else(length):
    mask = causal_mask(length)
    assert all(bool(mask[i, j]) == (j <= i) for i in range(length) for j in range(length))


@given(st.integers(1, 12), st.integers(1, 5))
def test_a_block_mask_shows_ones_own_block_and_those_before(length, block):
    mask = block_causal_mask(length, block)
    assert all(bool(mask[i, j]) == (j // block <= i // block) for i in range(length) for j in range(length))


@given(st.integers(1, 6), st.integers(0, 9), st.integers(1, 4))
def test_rows_of_the_mask_are_what_is_visible_from_their_positions(length, start, block):
    whole = block_causal_mask(start + length, block)
    position = torch.arange(start, start + length).expand(2, length)
    assert torch.equal(visible(position, start + length, block)[1], whole[start:])


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 7), st.data())
def test_slots_are_found_wherever_a_piece_begins(start, length, block, data):
    slots = tuple(data.draw(st.sets(st.integers(0, block - 1))))
    whole = slot_positions(0, start + length, block, slots)
    assert slot_positions(start, length, block, slots) == [i - start for i in whole if i >= start]


def test_slots_outside_the_block_and_empty_blocks_are_refused():
    with pytest.raises(ValueError, match="slots of a block"):
        slot_positions(0, 4, 3, (3,))
    with pytest.raises(ValueError, match="at least one"):
        block_causal_mask(4, 0)
