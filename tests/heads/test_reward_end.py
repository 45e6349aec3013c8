"""Laws of the model of reward and end."""

import pytest
import torch

from wmcomponents.heads import RewardEndHead
from wmcomponents.nn import EpisodicLSTM

SMALL = {"hidden": 8, "cond": 4, "depths": (1, 1), "channels": (8, 8), "attends": (False, False)}


def test_a_beginning_in_a_window_forgets_what_was_before():
    torch.manual_seed(0)
    head = RewardEndHead((16, 16, 3), 2, **SMALL)
    code = torch.randn(2, 5, head.lstm.in_features)
    begins = torch.zeros(2, 5, 1, dtype=torch.bool)
    begins[0, 3] = True
    h = head.unroll(code, begins)
    torch.testing.assert_close(h[0, 3:], head.unroll(code[:1, 3:], begins[:1, 3:])[0])
    assert not torch.allclose(h[1, 3:], head.unroll(code[1:, 3:], begins[1:, 3:])[0])


def test_the_memory_begins_as_the_paper_says():
    head = RewardEndHead((16, 16, 3), 2, **SMALL)
    hh = head.lstm.weight_hh.detach()
    torch.testing.assert_close(hh.T @ hh, torch.eye(8), rtol=1e-4, atol=1e-5)
    assert head.lstm.bias[8:16].eq(1).all() and head.lstm.bias[:8].eq(0).all() and head.lstm.bias_hh.eq(0).all()


def test_the_first_end_logit_speaks_for_going_on():
    assert RewardEndHead.cont(torch.tensor([0.9, 0.1]).log()).item() == pytest.approx(0.9)


def test_levels_need_one_entry_each():
    with pytest.raises(ValueError, match="one entry for each level"):
        RewardEndHead((16, 16, 3), 2, depths=(1,))


def test_the_memory_is_torchs_own_cell():
    torch.manual_seed(0)
    ours, cell = EpisodicLSTM(3, 4, forget_bias=0.0, hidden_bias=True), torch.nn.LSTMCell(3, 4)
    torch.nn.init.normal_(cell.bias_hh)
    with torch.no_grad():
        for mine, name in ((ours.weight_ih, "weight_ih"), (ours.weight_hh, "weight_hh"), (ours.bias, "bias_ih")):
            mine.copy_(getattr(cell, name))
        ours.bias_hh.copy_(cell.bias_hh)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    for mine, theirs in zip(ours.step(x, h, c), cell(x, (h, c)), strict=True):
        torch.testing.assert_close(mine, theirs)
