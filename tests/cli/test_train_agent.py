"""Agents trained in the dreams of a saved model alone."""

import pytest
import torch

from tests.support.running import wmc
from wmcomponents.cli.dataset import open_dataset
from wmcomponents.cli.policies import real_policy
from wmcomponents.data import make_env
from wmcomponents.evaluation.returns import evaluate_policy
from wmcomponents.models import Diamond, DiamondConfig, DreamerV3, Ensemble
from wmcomponents.models.loading import load
from wmcomponents.training.nested_state import load_nested


def dreaming(agent, model, out, steps, *more):
    return wmc("train", "--agent", agent, "--model", model, "--dream-only", "--steps", steps, "--out", out, *more)


@pytest.mark.parametrize(
    ("agent", "steps", "has_data"),
    [("sb3-ppo", 2048, True), ("dreamer_v3", 2 * 256 * 15, False), ("dreamer_v3", 2 * 2 * 9 * 15, True)],
)
def test_it_learns_goes_on_to_the_same_weights_and_acts_in_reality(agent, steps, has_data, model, data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ["--data", data, "--batch-size", 2, "--sequence-length", 8, "--start-states", 32] if has_data else []
    for out, totals in ((whole, [steps]), (parts, [1, steps])):
        for total in totals:
            ran = dreaming(agent, model, out, total, *more)
            assert ran.code == 0, ran.err
    assert ran.result["resumed_at"] > 0
    assert f"dreamt steps {ran.result['dreamed_steps']}/{steps}" in ran.err
    states = [load_nested(out / "agent.safetensors") for out in (whole, parts)]
    assert str(states[0]) == str(states[1])
    assert ("loss_replay_value" in ran.result["numbers"]) == (agent == "dreamer_v3" and has_data)
    ran = wmc(
        "eval", "--model", whole / "model", "--data", data, "--agent", whole, "--episodes", 1, "--horizon", 2,
        "--sequences", 4, "--samples", 1, "--out", tmp_path / "eval",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    ran = wmc("dream", "--model", whole / "model", "--policy", whole, "--steps", 5, "--out", tmp_path / "dream.png")
    assert ran.code == 0 and 0 < ran.result["steps"] <= 5, ran.err


def test_a_recurrent_actor_critic_learns_behind_real_sequences_and_acts_on_frames(tmp_path):
    pytest.importorskip("minatar")
    data, model, out = tmp_path / "data", tmp_path / "model", tmp_path / "out"
    ran = wmc(
        "collect", "--env", "MinAtar/Breakout-v1", "--from-pixels", "--image-size", 16, "--steps", 60, "--out", data,
        "--max-episode-steps", 20,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    torch.manual_seed(0)
    kept = open_dataset([data], sequence_length=8, batch_size=2, seed=0)
    Diamond(DiamondConfig.tiny(), kept.observation_spec, kept.action_spec).save_pretrained(model)
    more = ["--data", data, "--batch-size", 2, "--sequence-length", 8, "--start-states", 4]
    ran = dreaming("diamond", model, out, 10, *more)
    assert ran.code == 0, ran.err
    assert ran.result["dreamed_steps"] == 2 * 15
    env = make_env("MinAtar/Breakout-v1", from_pixels=True, image_size=16, max_episode_steps=20)
    env, policy = real_policy(out, env, load(out / "model"))
    assert evaluate_policy(env, policy, 1, seed=0).lengths[0] <= 20
    ran = wmc("dream", "--model", model, "--policy", out, "--steps", 3, "--out", tmp_path / "dream.png")
    assert ran.code == 0 and 0 < ran.result["steps"] <= 3, ran.err


@pytest.mark.parametrize(
    ("agent", "more", "code", "said"),
    [
        ("sb3-pro", [], 2, "Did you mean 'sb3-ppo'"),
        ("sb3-sac", [], 1, "not numbers: choose an agent"),
        ("sb3-ppo", ["--steps", "few"], 2, "number of dreamt steps"),
        ("cem", [], 2, "learns nothing"),
        ("iris", [], 2, "behind real sequences: pass --data"),
        ("dreamer_v3", ["--family", "IRIS", "--lr", 0.1], 2, "does not read --family, --lr: leave them out"),
        ("dreamer_v3", ["--batch-size", 4], 2, "does not read --batch-size: leave them out, or pass the --data"),
    ],
)
def test_mistakes_are_told_in_words(agent, more, code, said, model, tmp_path):
    ran = dreaming(agent, model, tmp_path / "new", 10, *more)
    assert ran.code == code and said in ran.err, ran.err


def test_what_an_ensemble_does_not_know_is_charged_for(model, tmp_path):
    unsure, out = ["--uncertainty-penalty", 2.0, "--uncertainty-limit", 1e-9], tmp_path / "out"
    ran = dreaming("sb3-ppo", model, out, 10, *unsure)
    assert ran.code == 1 and "members" in ran.err, ran.err
    ran = dreaming("sb3-ppo", model, out, 10, "--uncertainty-penalty", "nan")
    assert ran.code == 2 and "a number from 0 on" in ran.err, ran.err
    torch.manual_seed(0)
    one = load(model)
    specs = (one.observation_spec, one.action_spec)
    Ensemble.of(lambda: DreamerV3("tiny", *specs), members=2).save_pretrained(tmp_path / "ensemble")
    ran = dreaming("dreamer_v3", tmp_path / "ensemble", out, 256 * 15, *unsure)
    assert ran.code == 0 and ran.result["numbers"]["uncertainty"] > 0, ran.err
    assert ran.result["numbers"]["dream_length"] < 1.5  # they disagree everywhere
    ran = dreaming("dreamer_v3", tmp_path / "ensemble", out, 2 * 256 * 15)
    assert ran.code == 2 and "uncertainty_limit 1e-09 (now None)" in ran.err, ran.err
    ran = dreaming("world_models", tmp_path / "ensemble", tmp_path / "other", 10, *unsure)
    assert ran.code == 2 and "do not look at uncertainty" in ran.err, ran.err


def test_dreaming_alone_needs_a_model_and_no_model_is_read_online(tmp_path, model):
    ran = wmc("train", "--agent", "sb3-ppo", "--dream-only", "--out", tmp_path / "new")
    assert ran.code == 2 and "needs --model" in ran.err
    ran = wmc("train", "--agent", "dreamer_v3", "--model", model, "--out", tmp_path / "new")
    assert ran.code == 2 and "--model DIR --dream-only" in ran.err
