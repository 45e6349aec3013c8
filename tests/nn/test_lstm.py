"""The long short-term memory: torch's own, with one bias, and episodes that begin inside a sequence."""

import pytest
import torch

from tests.support.parts import LEADS, scramble
from wmcomponents.nn import EpisodicLSTM


@pytest.fixture
def lstm():
    return scramble(EpisodicLSTM(3, 5, forget_bias=0.0))


def test_it_computes_what_torch_s_own_does(lstm):
    theirs = torch.nn.LSTM(3, 5, batch_first=True)
    weights = {"weight_ih_l0": lstm.weight_ih, "weight_hh_l0": lstm.weight_hh, "bias_ih_l0": lstm.bias}
    theirs.load_state_dict({**weights, "bias_hh_l0": torch.zeros(20)})
    x, h, c = torch.randn(4, 6, 3), torch.randn(4, 5), torch.randn(4, 5)
    hs, cs = lstm(x, h, c)
    expected, (_, last) = theirs(x, (h[None], c[None]))
    torch.testing.assert_close(hs, expected)
    torch.testing.assert_close(cs[:, -1], last[0])


def test_the_forget_bias_is_added_to_the_forget_gate_and_not_learned(lstm):
    biased = EpisodicLSTM(3, 5, forget_bias=1.5)
    weights = {key: value.clone() for key, value in lstm.state_dict().items()}
    biased.load_state_dict(weights)
    weights["bias"][5:10] += 1.5
    lstm.load_state_dict(weights)
    x, h, c = torch.randn(4, 3), torch.randn(4, 5), torch.randn(4, 5)
    for ours, theirs in zip(biased.step(x, h, c), lstm.step(x, h, c), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert sum(p.numel() for p in EpisodicLSTM(35, 256).parameters()) == 299_008


@pytest.mark.parametrize("lead", LEADS)
def test_a_sequence_is_its_steps(lstm, lead):
    x, h, c = torch.randn(*lead, 4, 3), torch.randn(*lead, 5), torch.randn(*lead, 5)
    hs, cs = lstm(x, h, c)
    assert hs.shape == cs.shape == (*lead, 4, 5)
    for t in range(4):
        h, c = lstm.step(x.select(-2, t), h, c)
        torch.testing.assert_close(hs.select(-2, t), h)
        torch.testing.assert_close(cs.select(-2, t), c)


def test_erased_states_are_zero_and_hide_whatever_was_before(lstm):
    x, h = torch.randn(2, 5, 3), torch.full((2, 5), float("nan"))
    erase = torch.zeros(2, 5, 1, dtype=torch.bool)
    erase[:, 2] = True
    hs, cs = lstm(x, h, h, erase)
    assert torch.equal(hs[:, 2], torch.zeros(2, 5)) and torch.equal(cs[:, 2], torch.zeros(2, 5))
    fresh, _ = lstm(x[:, 3:], torch.zeros(2, 5), torch.zeros(2, 5))
    torch.testing.assert_close(hs[:, 3:], fresh)


def test_no_gradient_passes_an_erased_state(lstm):
    x = torch.randn(2, 5, 3, requires_grad=True)
    erase = torch.zeros(2, 5, 1, dtype=torch.bool)
    erase[:, 2] = True
    hs, _ = lstm(x, torch.zeros(2, 5), torch.zeros(2, 5), erase)
    hs[:, -1].sum().backward()
    assert torch.equal(x.grad[:, :3], torch.zeros(2, 3, 3)) and bool((x.grad[:, 3:] != 0).any())
