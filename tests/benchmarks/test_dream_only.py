"""Agents trained only in dreams: a run goes on where it was stopped; what a dream pays is counted while it lasts."""

import pytest
import torch

pytest.importorskip("stable_baselines3")
pytest.importorskip("minatar")
pytest.importorskip("matplotlib")

from benchmarks import dream_only
from benchmarks.pixel_worlds import MINATAR, WORLDS
from wmcomponents.data import action_spec, make_env, observation_spec
from wmcomponents.models import make_model

SMALL = {
    "REAL_STEPS": 60,
    "EPISODES": 2,
    "GLANCE_EPISODES": 2,
    "OWN": {"units": 8, "horizon": 2},
    "PPO_ROUND": 16,
    "POOL": 4,
    "BUNDLE_EVERY": 1,
}


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pixels")


@pytest.mark.parametrize(("family", "name"), [("Diamond", "own"), ("IRIS", "PPO")])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(family, name, data_folder, tmp_path, monkeypatch):
    for constant, value in SMALL.items():
        monkeypatch.setattr(dream_only, constant, value)
    env = make_env(MINATAR, **WORLDS[MINATAR].options)
    torch.manual_seed(0)
    model = make_model(family, "tiny", observation_spec(env), action_spec(env))
    env.close()

    def trained(rounds, kept):
        monkeypatch.setattr(dream_only, "PLANS", {(family, name): dream_only.Plan(rounds, 1, 2)})
        return dream_only.trained(family, name, model, 0, data_folder, tmp_path / kept)["curve"]

    assert len(trained(1, "stopped.state")) == 1
    assert trained(2, "stopped.state")[-1] == trained(2, "whole.state")[-1]


def test_rewards_and_ends_count_up_to_a_row_s_first_end(monkeypatch):
    monkeypatch.setattr(dream_only, "SPANS", ((0, 1), (1, 3)))
    reward = torch.tensor([[0.0, 1.0, 5.0], [1.0, 0.0, 1.0]])
    end = torch.tensor([[False, True, True], [False, False, False]])
    assert dream_only.while_alive(reward, end) == {"reward": [0.5, 0.667], "end": [0.0, 0.333]}


def test_a_thing_is_kept_where_its_colour_is_still_the_nearest():
    frames = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    paddle, ball = (torch.tensor(dream_only.PALETTE[number]) for number in (0, 1))
    frames[:, 3, 0], frames[:, 1, 2] = paddle, ball
    frames[:, 0] = torch.tensor(dream_only.PALETTE[3])
    frames[0, 2, 2] = torch.tensor(dream_only.PALETTE[2])
    drawn = frames.clone()
    drawn[0, 3, 0] //= 4
    drawn[:, 1, 2] -= 9
    assert dream_only.kept(frames, drawn) == {"paddle": 0.5, "ball": 1.0, "trail": 1.0, "brick": 1.0}
