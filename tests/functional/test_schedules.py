"""Schedules: V-JEPA's own numbers, ends and refusals."""

import pytest
import torch

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from wmcomponents.functional import Cosine, LinearRamp, WarmupCosine, WarmupStableDecay
from wmcomponents.models.joint_embedding.vjepa.objective import VJEPAOptimizerConfig


def test_rate_decay_and_average_are_v_jepas():
    info, tensors = load("vjepa_schedules")
    config, steps = VJEPAOptimizerConfig(), tensors["in.step"].tolist()
    close(info, torch.tensor([config.rate()(step) for step in steps]), tensors["out.lr"])
    close(info, torch.tensor([config.decay(step) for step in steps]), tensors["out.wd"])
    momentum = [1.0 - config.average.share(step - 1) for step in steps]
    close(info, torch.tensor(momentum), tensors["out.ema_momentum"])


def test_v_jepa_2s_numbers_stay_after_the_rise():
    config = VJEPAOptimizerConfig.second()
    assert config.rate()(0) == 1e-4 and config.rate()(6_000) == pytest.approx((1e-4 + 5.25e-4) / 2)
    for step in (12_000, 100_000, 240_000, 300_000):
        assert config.rate()(step) == pytest.approx(5.25e-4)
        assert config.decay(step) == pytest.approx(0.04) and config.average.share(step) == pytest.approx(0.00075)


def test_schedules_begin_and_end_where_they_should():
    fall = WarmupCosine(0.0, 1.0, 0.1, warmup=10, steps=30)
    assert [fall(step) for step in (0, 5, 10, 20, 30, 99)] == pytest.approx([0.0, 0.5, 1.0, 0.55, 0.1, 0.1])
    plateau = WarmupStableDecay(0.0, 1.0, 0.0, warmup=4, decay=5, steps=20)
    assert [plateau(step) for step in (0, 2, 4, 15, 16, 20, 30)] == pytest.approx([0, 0.5, 1, 1, 0.8, 0, 0])
    assert WarmupStableDecay(0.0, 1.0, 0.0, warmup=0, decay=0, steps=5)(5) == 1.0
    assert [Cosine(2.0, 0.0, 4)(step) for step in (0, 2, 4)] == pytest.approx([2.0, 1.0, 0.0])
    assert LinearRamp(1.0, 0.0, 4)(1) == 0.75


@pytest.mark.parametrize(
    "build",
    [
        lambda: LinearRamp(0, 1, 0),
        lambda: Cosine(0, 1, 0),
        lambda: WarmupCosine(0, 1, 0, warmup=5, steps=5),
        lambda: WarmupStableDecay(0, 1, 0, warmup=5, decay=5, steps=9),
    ],
)
def test_schedules_without_room_are_refused(build):
    with pytest.raises(ValueError, match="at least one step|do not fit"):
        build()
