"""The last entries of a sequence, step by step."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.functional.windows import windows_along


@given(st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 3), max_size=2), st.data())
def test_windows_are_those_of_a_queue_that_is_pushed_step_by_step(k, steps, lead, data):
    past = torch.arange(1.0, 1.0 + k).expand(*lead, k).contiguous()
    new = torch.arange(100.0, 100.0 + steps).expand(*lead, steps).contiguous()
    known = torch.tensor([data.draw(st.integers(0, k)) for _ in range(steps)])
    windows = windows_along(past, new, known.view(steps, 1).expand(*lead, steps, 1), len(lead), torch.tensor(-1.0))
    queue = past.reshape(-1, k)[0].tolist()
    for step in range(steps):
        queue = [*queue[1:], 100.0 + step]
        missing = k - int(known[step])
        expected = torch.tensor([-1.0] * missing + queue[missing:]).expand(*lead, k)
        assert torch.equal(windows.select(len(lead), step), expected)
