import json

import torch

from tests.support.running import wmc
from wmcomponents.data import load_replay, make_env, make_replay, save_replay


def changed(data, out, change):
    """The data folder with steps that were changed."""
    env = make_env("CartPole-v1")
    replay = make_replay(300, env, sequence_length=8, batch_size=4)
    load_replay(replay, data)
    replay.storage.set(torch.arange(300), change(replay[:].clone()))
    save_replay(replay, out, env="CartPole-v1", env_options={})
    return out


def test_clean_data_are_told_so(data):
    ran = wmc("data", "check", data)
    assert ran.code == 0 and ran.result["findings"] == [] and "Nothing in" in ran.err


def test_findings_are_told_with_their_remedy(data, tmp_path):
    def broken(steps):
        steps["observation"][7, 0] = float("nan")
        return steps

    ran = wmc("data", "check", changed(data, tmp_path / "broken", broken))
    assert ran.code == 1
    assert "not finite" in [one["fault"] for one in ran.result["findings"]]
    assert "What to do: Cut the episodes there" in ran.err


def test_data_that_cannot_be_used_have_a_code_of_their_own(data, tmp_path):
    damaged = changed(data, tmp_path / "damaged", lambda steps: steps)
    file = next(damaged.glob("steps-*.bin"))
    file.write_bytes(file.read_bytes()[:-10])
    ran = wmc("data", "check", damaged)
    assert ran.code == 2 and "cannot be used" in ran.err and json.dumps(ran.result["unusable"])
    assert wmc("data", "check", tmp_path / "nowhere").code != 0
