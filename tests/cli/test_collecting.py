"""`wmc collect` is broken off in every way, and goes on as if it had not been."""

import errno
import os
import random
import signal

import gymnasium
import numpy as np
import pytest
import torch

from tests.support.killing import signalled
from tests.support.running import wmc
from wmcomponents.cli import collect as command
from wmcomponents.cli.collecting import Collection
from wmcomponents.cli.dataset import open_dataset
from wmcomponents.data import make_env, read_description
from wmcomponents.data.episodes import equal_steps
from wmcomponents.data.folder import open_saved

KILLS = int(os.environ.get("WMC_KILLS", 4))


@pytest.fixture(autouse=True)
def _small_rounds(monkeypatch):
    monkeypatch.setattr(command, "STEPS_AT_A_TIME", 7)


def arguments(out, *more, env="CartPole-v1", steps=250):
    return ["collect", "--env", env, "--steps", steps, "--repeat-probability", 0.3, "--out", out, *more]


def steps_in(out):
    return torch.cat(list(open_saved(out).parts()), 0)


def interrupt_at(monkeypatch, count, signum=signal.SIGINT):
    """The process is sent a signal while it takes its ``count``-th steps."""
    take, taken = Collection.take, []

    def interrupted(self, steps):
        taken.append(None)
        if len(taken) == count:
            os.kill(os.getpid(), signum)
        return take(self, steps)

    monkeypatch.setattr(Collection, "take", interrupted)


@pytest.mark.parametrize(
    ("env", "more"),
    [
        ("CartPole-v1", []),
        ("CartPole-v1", ["--num-envs", 3]),
        ("Pendulum-v1", []),
        ("MinAtar/Breakout-v1", ["--sticky-actions", 0.3]),
        ("MinAtar/Breakout-v1", ["--from-pixels", "--image-size", 12]),
    ],
)
def test_a_collection_interrupted_twice_ends_as_the_one_that_was_not(tmp_path, monkeypatch, env, more):
    whole = wmc(*arguments(tmp_path / "whole", *more, env=env))
    for count in (5, 4):
        with monkeypatch.context() as patched:
            interrupt_at(patched, count)
            ran = wmc(*arguments(tmp_path / "broken", *more, env=env))
        assert ran.code == 130 and ran.out == ""
        assert f"Go on where it stopped: wmc collect --env {env}" in ran.err
        assert 0 < read_description(tmp_path / "broken")["steps"] < 250
    last = wmc(*arguments(tmp_path / "broken", *more, env=env))
    assert last.code == 0 and last.result["resumed_at"] > 0 and "going on after" in last.err
    for key in ("steps", "episodes", "mean_return"):
        assert last.result[key] == whole.result[key]
    assert equal_steps(steps_in(tmp_path / "broken"), steps_in(tmp_path / "whole"))
    again = wmc(*arguments(tmp_path / "broken", *more, env=env))
    assert again.code == 0 and again.result["resumed_at"] == last.result["steps"]


def test_a_request_to_end_is_answered_as_an_interruption(tmp_path, monkeypatch):
    if not hasattr(signal, "SIGTERM"):
        pytest.skip("needs SIGTERM")
    interrupt_at(monkeypatch, 5, signal.SIGTERM)
    assert wmc(*arguments(tmp_path / "d")).code == 143
    assert read_description(tmp_path / "d")["steps"] > 0


def test_other_arguments_do_not_go_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        interrupt_at(patched, 5)
        wmc(*arguments(tmp_path / "d"))
    before = (tmp_path / "d" / "data.json").read_bytes()
    for more, named in ((["--seed", 1], "seed 0 (now 1)"), (["--num-envs", 2], "num_envs 1 (now 2)")):
        ran = wmc(*arguments(tmp_path / "d", *more))
        assert ran.code == 2 and named in ran.err and "repeat its arguments" in ran.err
    assert (tmp_path / "d" / "data.json").read_bytes() == before


class Moody(gymnasium.Env):
    """Does not do the same again: its numbers come from no seed."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    count = 0

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 60
        return self._look(), {}

    def step(self, action):
        self.left -= 1
        return self._look(), 1.0, self.left == 0, False, {}

    def _look(self):
        Moody.count += 1
        return np.float32([Moody.count])


@pytest.mark.parametrize("copies", [1, 2])
def test_an_episode_that_cannot_be_repeated_is_cut_and_nothing_jumps(tmp_path, monkeypatch, copies):
    monkeypatch.setitem(gymnasium.registry, "Moody-v0", gymnasium.envs.registration.EnvSpec("Moody-v0", Moody))
    options = ["--num-envs", copies]
    with monkeypatch.context() as patched:
        interrupt_at(patched, 5)
        wmc(*arguments(tmp_path / "d", *options, env="Moody-v0"))
    before = steps_in(tmp_path / "d")
    rows = len(before)
    ran = wmc(*arguments(tmp_path / "d", *options, env="Moody-v0"))
    assert ran.code == 0 and ran.err.count("did not repeat its episode") == copies
    steps = steps_in(tmp_path / "d")
    assert equal_steps(steps[: rows - 1], before[:-1])
    assert torch.equal(steps["observation"][:rows], before["observation"])
    last, first = steps[rows - 1], steps[rows]
    assert last["next", "truncated"].all() and last["next", "done"].all() and not last["next", "terminated"].any()
    assert first["is_init"].all()
    assert ran.result["episodes"] == int(steps["next", "done"].sum())


def test_what_copies_collect_becomes_streams_of_a_buffer(tmp_path):
    wmc(*arguments(tmp_path / "d", "--num-envs", 3, steps=100))
    assert read_description(tmp_path / "d")["batch"] == [3]
    data = open_dataset([tmp_path / "d"], sequence_length=10, batch_size=4, seed=0)
    assert data.replay.storage.shape == (34, 3) and data.replay.sample().shape == (4, 10)
    first = data.replay.storage[:]["observation"][0]
    assert not torch.equal(first[0], first[1])
    wmc(*arguments(tmp_path / "e", "--seed", 5, steps=50))
    both = open_dataset([tmp_path / "d", tmp_path / "e"], sequence_length=10, batch_size=4, seed=0).replay.storage[:]
    assert len(both) == 3 * 34 + 50
    for end in (33, 67, 101):
        assert both["next", "done"][end].all() and both["is_init"][end + 1].all()
    assert both["is_init"][1:].equal(both["next", "done"][:-1])


def test_the_options_of_the_environment_are_kept_with_the_data(tmp_path):
    wmc(*arguments(tmp_path / "d", "--sticky-actions", 0.5, "--action-repeat", 2, env="MinAtar/Breakout-v1", steps=20))
    options = read_description(tmp_path / "d")["env_options"]
    assert options["sticky_actions"] == 0.5 and options["action_repeat"] == 2
    wmc(*arguments(tmp_path / "e", "--env-kwargs", "g=0.0", "render_mode=rgb_array", env="Pendulum-v1", steps=20))
    assert read_description(tmp_path / "e")["env_options"]["env_kwargs"] == {"g": 0.0, "render_mode": "rgb_array"}
    data = open_dataset([tmp_path / "e"], sequence_length=2, batch_size=1, seed=0)
    env = make_env(data.env, **data.env_options)
    assert env.base_env._env.unwrapped.g == 0.0
    env.close()


@pytest.mark.parametrize(
    ("given", "said"), [("g", "written name=value"), ("g={1}", "plain JSON"), ("g=1e999", "plain JSON")]
)
def test_arguments_of_the_environment_that_cannot_be_kept_are_refused(tmp_path, given, said):
    ran = wmc(*arguments(tmp_path / "d", "--env-kwargs", given, env="Pendulum-v1"))
    assert ran.code == 2 and "--env-kwargs" in ran.err and said in ran.err and not (tmp_path / "d").exists()


def test_a_full_disk_is_an_error_and_what_was_saved_goes_on(tmp_path, monkeypatch):
    wmc(*arguments(tmp_path / "whole"))
    from wmcomponents.data import folder

    write, written = folder.written_whole, []

    def filling(path):
        written.append(path)
        if len(written) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path)

    with monkeypatch.context() as patched:
        patched.setattr(folder, "written_whole", filling)
        ran = wmc(*arguments(tmp_path / "d", "--save-every", 0))
    assert ran.code == 1 and "No space left on device" in ran.err and "then go on: wmc collect" in ran.err
    assert read_description(tmp_path / "d")["steps"] > 0
    assert wmc(*arguments(tmp_path / "d")).code == 0
    assert equal_steps(steps_in(tmp_path / "d"), steps_in(tmp_path / "whole"))


def test_a_place_that_cannot_be_used_is_told_before_a_step_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(Collection, "take", lambda self, steps: pytest.fail("a step was taken"))
    (tmp_path / "file").touch()
    ran = wmc(*arguments(tmp_path / "file"))
    assert ran.code == 2 and "is no folder" in ran.err
    ran = wmc(*arguments(tmp_path / "file" / "d"))
    assert ran.code == 1 and "nothing can be written" in ran.err
    ran = wmc(*arguments(tmp_path / "big", steps=10**14))
    assert ran.code == 1 and "space left" in ran.err and not (tmp_path / "big").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    ran = wmc(*arguments(tmp_path / "other"))
    assert ran.code == 2 and "thesis.txt" in ran.err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_signals_at_random_moments_lose_nothing_that_was_saved(tmp_path, monkeypatch, signum):
    wmc(*arguments(tmp_path / "whole"))
    draw = random.Random(int(signum))
    saved = 0
    for number in range(KILLS):
        read, write = os.pipe()
        save = Collection.save

        def told(self, save=save, write=write):
            save(self)
            os.write(write, self.rows.to_bytes(4, "little"))

        monkeypatch.setattr(Collection, "save", told)
        code = signalled(
            lambda: wmc(*arguments(tmp_path / "d", "--save-every", 0.01)).code, 0.3 * draw.random(), signum
        )
        monkeypatch.setattr(Collection, "save", save)
        os.close(write)
        said = os.read(read, 2**16)
        os.close(read)
        assert code in ((-signal.SIGKILL, 0) if signum == signal.SIGKILL else (130, 0)), number
        last = int.from_bytes(said[-4:], "little") if said else saved
        found = read_description(tmp_path / "d")["steps"] if (tmp_path / "d" / "data.json").exists() else 0
        assert found >= max(last, saved)
        saved = found
    assert wmc(*arguments(tmp_path / "d")).code == 0
    assert equal_steps(steps_in(tmp_path / "d"), steps_in(tmp_path / "whole"))
    assert sorted(file.suffix for file in (tmp_path / "d").iterdir()) == [".bin", ".json"]
