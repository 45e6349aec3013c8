"""Agents trained in the dreams of a saved model alone."""

import pytest

from tests.support.running import wmc
from wmcomponents.training.nested_state import load_nested


def dreaming(agent, model, out, steps, *more):
    return wmc("train", "--agent", agent, "--model", model, "--dream-only", "--steps", steps, "--out", out, *more)


@pytest.mark.parametrize("agent", ["sb3-ppo", "dreamer_v3"])
def test_it_learns_goes_on_to_the_same_weights_and_acts_in_reality(agent, model, data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    steps = 2048 if agent == "sb3-ppo" else 2 * 256 * 15
    more = ["--data", data] if agent == "sb3-ppo" else []
    for out, totals in ((whole, [steps]), (parts, [1, steps])):
        for total in totals:
            ran = dreaming(agent, model, out, total, *more)
            assert ran.code == 0, ran.err
    assert ran.result["resumed_at"] > 0
    states = [load_nested(out / "agent.safetensors") for out in (whole, parts)]
    assert str(states[0]) == str(states[1])
    ran = wmc(
        "eval", "--model", whole / "model", "--data", data, "--agent", whole, "--episodes", 1, "--horizon", 2,
        "--sequences", 4, "--samples", 1, "--out", tmp_path / "eval",
    )  # fmt: skip
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("agent", "more", "code", "said"),
    [
        ("sb3-pro", [], 2, "Did you mean 'sb3-ppo'"),
        ("sb3-sac", [], 1, "not numbers: choose an agent"),
        ("sb3-ppo", ["--steps", "few"], 2, "number of dreamt steps"),
    ],
)
def test_mistakes_are_told_in_words(agent, more, code, said, model, tmp_path):
    ran = dreaming(agent, model, tmp_path / "new", 10, *more)
    assert ran.code == code and said in ran.err, ran.err


def test_an_agent_needs_all_three(tmp_path, model):
    ran = wmc("train", "--agent", "sb3-ppo", "--model", model, "--out", tmp_path / "new")
    assert ran.code == 2 and "--dream-only, all three together" in ran.err
    ran = wmc("train", "--agent", "sb3-ppo", "--dream-only", "--out", tmp_path / "new")
    assert ran.code == 2 and "needs --model" in ran.err
