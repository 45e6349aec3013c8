"""A paper's whole agent, online by one command."""

import json
import signal

import pytest

from tests.support.running import wmc
from wmcomponents.agents import OnlineTrainer
from wmcomponents.models.loading import load
from wmcomponents.training.nested_state import load_nested

FEW = ["prefill=20", "pretrain=1", "batch_size=2", "sequence_length=4", "evaluate_every=20", "evaluate_episodes=1"]


def online(out, steps, *more):
    known = ["--agent", "dreamer_v3", "--env", "CartPole-v1", "--steps", steps, "--out", out]
    return wmc("train", *known, "--changes", *FEW, *more)


def test_it_learns_goes_on_to_the_same_weights_and_is_evaluated_from_its_folders(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out, totals, more in ((whole, [40], []), (parts, [30, 40], ["--films", 2])):
        for total in totals:
            ran = online(out, total, *more)
            assert ran.code == 0, ran.err
    assert [path.name for path in (parts / "films").iterdir()] == ["000000020.webp"]
    assert ran.result["resumed_at"] == 30 and ran.result["real_steps"] == 40
    assert [point["real_steps"] for point in ran.result["evaluations"]] == [20, 40]
    states = [load_nested(out / "last" / "agent.safetensors") for out in (whole, parts)]
    assert str(states[0]) == str(states[1])
    for folder in ("best", "last"):
        ran = wmc(
            "eval", "--model", parts / folder / "model", "--data", data, "--agent", parts / folder, "--episodes", 1,
            "--horizon", 2, "--sequences", 4, "--samples", 1, "--out", tmp_path / "eval",
        )  # fmt: skip
        assert ran.code == 0 and ran.result["real_return"]["episodes"] == 1, ran.err
    ran = online(parts, 50, "--seed", 1)
    assert ran.code == 2 and "seed 0 (now 1)" in ran.err


def test_the_environment_is_built_as_it_is_asked_for(tmp_path):
    pytest.importorskip("minatar")
    given = ["--from-pixels", "--image-size", 16, "--sticky-actions", 0, "--max-episode-steps", 9]
    known = ["--agent", "dreamer_v3", "--env", "MinAtar/Breakout-v1", "--steps", 21, "--out", tmp_path, *given]
    ran = wmc("train", *known, "--changes", *FEW[:-2], "depth=2", "evaluate_every=0")
    assert ran.code == 0, ran.err
    facts = json.loads((tmp_path / "last" / "agent.json").read_text())
    assert facts["env_options"]["max_episode_steps"] == 9 and facts["env_options"]["sticky_actions"] == 0.0
    assert load(tmp_path / "last" / "model").observation_spec["pixels"].shape == (16, 16, 3)
    lengths = (tmp_path / "logs" / "scalars" / "real" / "length.csv").read_text().split()
    assert lengths and all(float(row.split(",")[1]) <= 9 for row in lengths)
    ran = wmc("train", *known[:-2], "--max-episode-steps", 10)
    assert ran.code == 2 and "env_options" in ran.err, ran.err


def test_ctrl_c_keeps_the_run_and_says_how_it_goes_on(tmp_path, monkeypatch):
    learn = OnlineTrainer._learn

    def interrupted(self, batch):
        learn(self, batch)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(OnlineTrainer, "_learn", interrupted)
        ran = online(tmp_path / "run", 30)
    assert ran.code == 130 and "Go on where it stopped: wmc train --agent dreamer_v3" in ran.err, ran.err
    ran = online(tmp_path / "run", 30)
    assert ran.code == 0 and ran.result["resumed_at"] == 20, ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--agent", "dreamer_v3"], "--env is missing"),
        (["--agent", "sb3-ppo", "--env", "CartPole-v1"], "brings no world model of its own"),
        (["--agent", "dreamer_v3", "--env", "CartPole-v1", "--preset", "size12"], "Did you mean 'size12m'"),
        (["--agent", "dreamer_v3", "--env", "CartPole-v1", "--lr", 0.1], "does not read --lr"),
        (["--env", "CartPole-v1"], "does not read --env: they go with --agent"),
        (["--data", "somewhere", "--from-pixels"], "does not read --from-pixels: they go with --agent"),
        (["--agent", "dreamer_v3", "--env", "CartPole-v1", "--device", "cuda:9"], "--device is auto or one of"),
        (["--agent", "dreamer_v3", "--env", "CartPole-v1", "--image-size", 0], "--image-size is at least 1"),
    ],
)
def test_mistakes_are_told_in_words(arguments, said, tmp_path):
    ran = wmc("train", *arguments, "--out", tmp_path / "new")
    assert ran.code == 2 and said in ran.err, ran.err
    assert not (tmp_path / "new").exists()
