"""Recorded data in, a policy out: the examples of MBPO and MOReL, in small."""

import math

import pytest

from tests.support.models import example

pytest.importorskip("stable_baselines3")


@pytest.mark.parametrize("name", ["mbpo_pendulum", "morel_pendulum"])
def test_an_offline_example_prints_its_steps_and_its_score(name, capsys):
    score = example(name).main(real_steps=400, model_updates=20, dreamed_steps=1_600, episodes=1)
    said = capsys.readouterr().out
    assert "real steps: 400; dreamt steps: 1600; " in said and f"real return: {score:.0f} +- " in said
    assert math.isfinite(score) and -2_000 < score < 0
