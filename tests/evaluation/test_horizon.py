import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchrl.data import Binary, Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.worlds import Counter, PointMass, counting_sequences, point_mass_sequences, transitions
from wmcomponents.evaluation import horizon_errors
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError


def test_an_exact_model_has_no_error_at_any_horizon():
    errors = horizon_errors(PointMass(), point_mass_sequences(), burn_in=3, horizon=15)
    assert max(errors.observation["observation"].model) < 1e-9
    assert max(errors.reward.model) < 1e-6
    assert max(errors.termination.model) == 0.0
    assert errors.rows == [6] * 15


def test_the_mean_of_the_data_has_the_error_one_over_all_data():
    sequences = point_mass_sequences(batch=200, time=6)
    curve = horizon_errors(PointMass(), sequences, burn_in=1, horizon=6).observation["observation"]
    assert sum(curve.mean) / 6 == pytest.approx(1.0, abs=1e-6)


def test_copying_the_last_observation_gets_worse_with_the_horizon_by_hand():
    errors = horizon_errors(Counter(), counting_sequences(), burn_in=3, horizon=4)
    variance = torch.arange(1.0, 9.0).var(correction=0)
    expected = [float(k**2 / variance) for k in (1, 2, 3, 4)]
    assert errors.observation["observation"].copy == pytest.approx(expected)


def test_reward_errors_by_hand():
    errors = horizon_errors(Counter(), counting_sequences(), burn_in=3, horizon=2)
    assert errors.reward.model == [0.0, 0.0]
    assert errors.reward.copy == [1.0, 2.0]  # last seen is 2, then come 3 and 4
    assert errors.reward.mean == pytest.approx([1.5, 0.5])  # the mean of 1..8 is 4.5


def test_the_last_reward_of_another_episode_is_not_copied():
    sequences = counting_sequences()
    sequences["is_init"][:, 2] = True
    errors = horizon_errors(Counter(), sequences, burn_in=3, horizon=1)
    assert errors.reward.copy == errors.reward.mean


def test_termination_by_hand():
    errors = horizon_errors(Counter(cont=0.75), counting_sequences(end_of_first=2), burn_in=2, horizon=3)
    assert errors.rows == [2, 2, 1]
    # One of the five steps that were still running ended: the base rate is 0.2.
    assert errors.termination.model == pytest.approx([0.0625, (0.0625 + 0.5625) / 2, 0.0625])
    assert errors.termination.copy == pytest.approx([0.0, 0.5, 0.0])
    assert errors.termination.mean == pytest.approx([0.04, (0.04 + 0.64) / 2, 0.04])
    (bin,) = errors.calibration
    assert (bin.count, bin.predicted, bin.observed) == (5, pytest.approx(0.25), pytest.approx(0.2))
    assert errors.calibration_error == pytest.approx(0.05)


def test_horizons_that_no_row_reaches_are_nan_and_null_in_json():
    sequences = counting_sequences(end_of_first=2)[:1]
    errors = horizon_errors(Counter(), sequences, burn_in=2, horizon=4)
    assert errors.rows == [1, 1, 0, 0]
    assert math.isnan(errors.observation["observation"].model[-1])
    written = json.loads(json.dumps(errors.to_json(), allow_nan=False))
    assert written["observation"]["observation"]["model"][-1] is None
    assert written["termination"]["mean"][-1] is None


def test_every_dream_counts_and_not_their_mean():
    # Dreams shake with unit variance around the truth: the error of one is 1, that of the mean of many is near 0.
    sequences = counting_sequences()
    variance = float(torch.arange(1.0, 9.0).var(correction=0))
    generator = torch.Generator().manual_seed(0)
    errors = horizon_errors(Counter(), sequences, burn_in=2, horizon=1, samples=4000, generator=generator)
    assert errors.observation["observation"].model[0] * variance == pytest.approx(1.0, abs=0.1)


def test_components_that_never_vary_do_not_count():
    here = torch.zeros(2, 6, 1)
    sequences = counting_sequences(lengths=(6, 6))
    sequences["observation"] = here
    sequences["next", "observation"] = here
    errors = horizon_errors(Counter(), sequences, burn_in=2, horizon=2)
    assert errors.observation["observation"].model == [1.0, 4.0]  # nothing varies: the plain squared error


IMAGE = Bounded(0, 255, torch.Size([16, 16, 3]), dtype=torch.uint8)
PLANES = Binary(shape=torch.Size([5, 5, 2]), dtype=torch.bool)


def of_kinds(batch=3, time=6):
    generator = torch.Generator().manual_seed(0)

    def observation():
        return {
            "image": torch.randint(0, 256, (batch, time, 16, 16, 3), dtype=torch.uint8, generator=generator),
            "planes": torch.rand(batch, time, 5, 5, 2, generator=generator) < 0.2,
            "kind": torch.randint(0, 3, (batch, time), generator=generator),
            "hot": torch.nn.functional.one_hot(torch.randint(0, 4, (batch, time), generator=generator), 4),
        }

    action = torch.zeros(batch, time, 1)
    return transitions(observation(), observation(), action, torch.randn(batch, time, 1, generator=generator))


def test_every_kind_of_observation_has_its_measure_between_its_bounds():
    spec = Composite(image=IMAGE, planes=PLANES, kind=Categorical(3, shape=torch.Size([])), hot=OneHot(4))
    model = ToyWorldModel(spec, Bounded(-1, 1, torch.Size([1])))
    errors = horizon_errors(model, of_kinds(), burn_in=2, horizon=3, generator=torch.Generator().manual_seed(0))
    metrics = {key: curve.metric for key, curve in errors.observation.items()}
    assert metrics == {"image": "MSE", "planes": "error rate", "kind": "error rate", "hot": "error rate"}
    for curve in errors.observation.values():
        assert all(0.0 <= value <= 1.0 for value in (*curve.model, *curve.copy, *curve.mean))
    assert all(0.0 < value < 40.0 for value in errors.psnr("image"))
    assert errors.to_json()["psnr"].keys() == {"image"}
    with pytest.raises(KeyError, match="of images"):
        errors.psnr("planes")


def test_a_cell_is_wrong_when_any_of_its_planes_is():
    spec = Composite(planes=PLANES)
    model = ToyWorldModel(spec, Bounded(-1, 1, torch.Size([1])))
    sequences = of_kinds().select("planes", "action", "is_init", "next")
    sequences["planes"] = torch.zeros_like(sequences["planes"])
    sequences["next", "planes"] = torch.zeros_like(sequences["planes"])
    sequences["next", "planes"][:, :, 0, 0] = True  # both planes of one cell of 25
    curve = horizon_errors(model, sequences, burn_in=2, horizon=1).observation["planes"]
    assert curve.copy == pytest.approx([1 / 25])
    assert curve.mean == [0.0]


@pytest.mark.parametrize("parts", [("decode",), ("reward",), ("continue",), ("decode", "continue")])
def test_what_a_model_cannot_do_is_left_out(parts):
    model = ToyWorldModel(Composite(observation=Unbounded(1)), OneHot(2), parts=parts)
    errors = horizon_errors(model, counting_sequences(), burn_in=2, horizon=2)
    assert bool(errors.observation) == ("decode" in parts)
    assert (errors.reward is not None) == ("reward" in parts)
    assert (errors.termination is not None) == ("continue" in parts)
    assert (errors.calibration_error is None) == ("continue" not in parts)
    json.dumps(errors.to_json(), allow_nan=False)


def test_a_model_that_predicts_nothing_is_refused():
    model = ToyWorldModel(Composite(observation=Unbounded(1)), OneHot(2), parts=("features",))
    with pytest.raises(CapabilityError, match="nothing to measure"):
        horizon_errors(model, counting_sequences(), burn_in=2, horizon=2)


@given(st.integers(1, 5), st.integers(1, 6))
def test_a_longer_horizon_does_not_change_the_shorter_ones(burn_in, horizon):
    sequences = point_mass_sequences(batch=3, time=12)
    model = ToyWorldModel(Composite(observation=Unbounded(2)), Bounded(-1, 1, torch.Size([1])))
    short = horizon_errors(model, sequences, burn_in=burn_in, horizon=horizon)
    long = horizon_errors(model, sequences, burn_in=burn_in, horizon=horizon + 1)
    assert long.observation["observation"].model[:-1] == pytest.approx(short.observation["observation"].model)
    assert long.reward.model[:-1] == pytest.approx(short.reward.model)


def test_events_that_are_foretold_and_real_by_hand():
    sequences = counting_sequences(end_of_first=4)
    sure = horizon_errors(Counter(cont=0.25), sequences, burn_in=2, horizon=5).detections["termination"]
    # Row 0 ends in its fourth imagined step and is not counted after it; row 1 runs on for five: nine steps, one end.
    assert (sure.real, sure.foretold) == (1, 9)
    assert sure.precision == pytest.approx(1 / 9) and sure.recall == 1.0
    never = horizon_errors(Counter(cont=0.75), sequences, burn_in=2, horizon=5).detections
    assert never["termination"].recall == 0.0 and math.isnan(never["termination"].precision)
    assert never["reward"].precision == never["reward"].recall == 1.0  # counts are never 0
    assert horizon_errors(Counter(), sequences, burn_in=2, horizon=5).to_json()["detections"]["termination"] == {
        "precision": None, "recall": 0.0, "foretold": 0.0, "real": 1.0,
    }  # fmt: skip


def test_a_forecast_is_the_mean_of_dreams():
    # Dreams shake with unit variance around the truth: the error of one is 1, that of the mean of n is 1 / n.
    sequences = counting_sequences(lengths=(8,) * 400)
    variance = float(torch.arange(1.0, 9.0).var(correction=0))
    errors = {}
    for of in ("dream", "forecast"):
        generator = torch.Generator().manual_seed(0)
        found = horizon_errors(Counter(), sequences, burn_in=3, horizon=1, samples=16, generator=generator, of=of)
        errors[of] = found.observation["observation"].model[0] * variance
    assert errors["dream"] == pytest.approx(1.0, rel=0.1)
    assert errors["forecast"] == pytest.approx(1 / 16, rel=0.3)


def test_curves_are_the_means_of_the_errors_of_each_sequence():
    model, sequences = Counter(cont=0.75), counting_sequences(end_of_first=2)
    seen = []
    errors = horizon_errors(model, sequences, burn_in=2, horizon=3, watch=lambda step: seen.append(step.k))
    curves = {
        "observation/observation": errors.observation["observation"],
        "reward": errors.reward,
        "termination": errors.termination,
    }
    assert seen == [1, 2, 3] and set(errors.row_errors) == set(curves)
    for name, curve in curves.items():
        rows = errors.row_errors[name]
        assert rows.shape == (3, 2, 3) and rows.isfinite().sum(1)[0].tolist() == errors.rows
        for values, expected in zip(rows.nanmean(1).tolist(), (curve.model, curve.copy, curve.mean), strict=True):
            assert values == pytest.approx(expected)
