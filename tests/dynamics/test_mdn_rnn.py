"""The MDN-RNN and its mixtures over latent vectors."""

import pytest
import torch

from tests.support.parts import assert_inputs_untouched, assert_rows_are_independent, scramble
from wmcomponents.dynamics import MDNRNN, DimensionMixture, VectorMixture

MIXTURES = [DimensionMixture(4, 3), VectorMixture(4, 3)]


def rnn(mixture, **options):
    return scramble(MDNRNN(mixture, 2, 6, **options)).eval()


def inputs(rows=3, choices=4):
    sizes = {"z": 4, "h": 6, "c": 6, "action": 2, "value": 4}
    drawn = {key: torch.randn(rows, size) for key, size in sizes.items()}
    return drawn["z"], drawn["h"], drawn["c"], drawn["action"], torch.rand(rows, choices), drawn["value"]


@pytest.mark.parametrize("mixture", MIXTURES, ids=["dimension", "vector"])
def test_nothing_is_mutated_or_aliased_and_rows_are_strangers(mixture):
    part = rnn(mixture)
    given = inputs(choices=mixture.choices)
    assert_inputs_untouched(part.compute, *given)
    assert_inputs_untouched(part.compute, *given[:4], None, None)
    assert_rows_are_independent(part.compute, *given)


@pytest.mark.parametrize("mixture", MIXTURES, ids=["dimension", "vector"])
def test_raw_outputs_are_unpacked_without_loss(mixture):
    raw = torch.randn(2, mixture.params)
    logits, mean, log_std = mixture.unpack(raw)
    assert mean.shape == log_std.shape and logits.shape[-1] == 3
    assert sum(value[0].numel() for value in (logits, mean, log_std)) == mixture.params
    assert sorted(torch.cat([v[0].flatten() for v in (logits, mean, log_std)]).tolist()) == sorted(raw[0].tolist())


def test_only_a_mixture_a_dimension_mixes_components_within_a_vector():
    raws = {}
    for mixture in (DimensionMixture(2, 2), VectorMixture(2, 2)):
        raw = torch.zeros(mixture.params)
        _, mean, log_std = mixture.unpack(raw)
        mean.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0]]) if mixture.choices == 2 else torch.tensor([[0.0], [1.0]]))
        log_std.fill_(-20.0)
        raws[mixture.choices] = mixture.sample(raw, torch.tensor([0.2, 0.8])[: mixture.choices], torch.zeros(2))
    assert raws[2].tolist() == [0.0, 1.0] and raws[1].tolist() == [0.0, 0.0]


def test_the_next_z_is_drawn_from_the_state_after_the_step():
    part = rnn(DimensionMixture(4, 3))
    z, h, c, action, component, value = inputs()
    after, h_after, c_after, raw = part.compute(z, h, c, action, component, value)
    expected = part.lstm.step(torch.cat([z, action], -1), h, c)
    assert torch.equal(h_after, expected[0]) and torch.equal(c_after, expected[1])
    assert torch.equal(raw, part.out(h_after))
    assert torch.equal(after, part.mixture.sample(raw, component, value))


def test_the_temperature_is_of_the_dream_and_leaves_the_memory_alone():
    part = rnn(DimensionMixture(4, 3))
    given = inputs()
    warm = part.compute(*given)
    part.temperature = 0.25
    cold = part.compute(*given)
    assert not torch.equal(warm[0], cold[0])
    assert all(torch.equal(a, b) for a, b in zip(warm[1:], cold[1:], strict=True))
    one = given[:4] + (None, given[5])
    mode = part.compute(*given[:4], None, None)[0]
    part.temperature = 1.0
    torch.testing.assert_close((part.compute(*one)[0] - mode) / 2, cold_step(part, one, 0.25) - mode)


def cold_step(part, given, temperature):
    part.temperature = temperature
    return part.compute(*given)[0]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_zero_is_refused(value):
    with pytest.raises(ValueError, match="temperature is above 0"):
        rnn(DimensionMixture(4)).temperature = value
    with pytest.raises(ValueError, match="temperature is above 0"):
        rnn(DimensionMixture(4), temperature=value)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        DimensionMixture(4, 0)


def test_noise_has_the_shape_that_a_sample_reads():
    for mixture in MIXTURES:
        spec = mixture.noise_spec()
        assert spec["component"].shape == (mixture.choices,) and spec["value"].shape == (4,)
