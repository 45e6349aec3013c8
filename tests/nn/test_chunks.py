"""Rows of images in turns."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.nn import chunks
from wmcomponents.nn.chunks import row_chunks

CPU = torch.device("cpu")


@torch.no_grad()
@given(st.integers(1, 200), st.integers(1, 2**17), st.none() | st.integers(1, 300))
def test_shares_are_all_rows_in_order_and_small_enough(rows, pixels, most):
    found = row_chunks(rows, pixels, CPU, most)
    assert all(share.stop - share.start <= (most or rows) for share in found)
    assert [row for share in found for row in range(share.start, share.stop)] == list(range(rows))
    assert all((share.stop - share.start) * pixels <= max(chunks.CPU_PIXELS, pixels) for share in found)


def test_an_accelerator_and_a_gradient_take_all_at_once():
    assert row_chunks(100, 2**14, CPU) == [slice(0, 100)]
    with torch.no_grad():
        assert row_chunks(100, 2**14, torch.device("cuda")) == [slice(0, 100)]
        assert row_chunks(100, 2**14, torch.device("cuda"), 60) == [slice(0, 60), slice(60, 100)]
        assert row_chunks(0, 2**14, CPU) == [slice(0, 0)]
