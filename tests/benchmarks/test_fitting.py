"""What fits keep: data and findings, also where a run is killed or another one was first."""

import json

import pytest

from benchmarks.fitting import kept, kept_replay
from wmcomponents.data import collect, make_env, make_replay


def empty(env):
    return make_replay(20, env, sequence_length=1, batch_size=20, seed=0, print_fn=None)


def test_data_are_collected_once_and_a_second_process_that_comes_too_late_leaves_nothing(tmp_path):
    env, folder = make_env("CartPole-v1", seed=0), tmp_path / "data"
    one, late, again = empty(env), empty(env), empty(env)

    def fill_late():
        kept_replay(one, folder, lambda: collect(env, one, 20, seed=0))  # the other one is done meanwhile
        collect(env, late, 20, seed=1)

    assert len(kept_replay(late, folder, fill_late)) == 20
    kept_replay(again, folder, lambda: pytest.fail("collected again"))
    assert (again[:]["observation"] == one[:]["observation"]).all()
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_a_finding_is_whole_or_not_there(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        kept("a/b", lambda: (_ for _ in ()).throw(KeyboardInterrupt), tmp_path)
    assert not list(tmp_path.iterdir())
    assert kept("a/b", lambda: {"x": 1}, tmp_path) == {"x": 1}
    assert kept("a/b", lambda: pytest.fail("found again"), tmp_path) == json.loads((tmp_path / "a-b.json").read_text())
