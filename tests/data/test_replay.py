import errno
import gc
import os

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite

from wmcomponents.data import (
    BadDataError,
    EmptyReplayError,
    ImagesOnceMemmapStorage,
    ImagesOnceStorage,
    ReplayTooLargeError,
    collect,
    load_replay,
    make_env,
    make_replay,
    observation_spec,
    read_description,
    replay_bytes,
    save_replay,
    transition_keys,
    transition_spec,
)


def small(env, **kwargs):
    given = {"sequence_length": 8, "batch_size": 4, "seed": 0, "print_fn": None, **kwargs}
    return make_replay(60, env, **given)


@pytest.mark.parametrize("storage", ["memory", "memmap"])
@pytest.mark.parametrize(
    ("env_id", "num_envs"), [("CartPole-v1", 1), ("CartPole-v1", 3), ("MinAtar/Breakout-v1", 2), ("ALE/Pong-v5", 1)]
)
def test_real_steps_come_back_as_sequences_in_their_own_dtype(env_id, num_envs, storage):
    env = make_env(env_id, num_envs=num_envs, seed=0)
    replay = small(env, storage=storage)
    collect(env, replay, 90, seed=0)
    assert len(replay) == 60
    sample = replay.sample()
    assert sample.batch_size == (4, 8)
    for key, leaf in observation_spec(env).items():
        assert sample[key].dtype == sample["next", key].dtype == leaf.dtype
        follows = (sample["next", key][:, :-1] == sample[key][:, 1:]).flatten(2).all(2)
        assert follows[~sample["is_init"][:, 1:, 0]].all()
    assert set(sample.keys(True, True)) == {*transition_keys(env), "index"}
    assert sample["is_init"][:, 1:].equal(sample["next", "done"][:, :-1])
    assert transition_spec(env).expand(4, 8).is_in(sample.exclude("index"))


def test_the_last_observation_of_an_episode_survives_storage():
    env = make_env("MinAtar/Breakout-v1", seed=0)
    replay = small(env)
    collect(env, replay, 60, seed=0)
    held = replay.storage[:]
    ends = held["next", "done"][:-1, 0].nonzero()[:, 0]
    assert len(ends) >= 2
    assert not held["next", "observation"][ends].equal(held["observation"][ends + 1])


@pytest.mark.parametrize("storage", ["memory", "memmap"])
@pytest.mark.parametrize(("env_id", "num_envs"), [("CartPole-v1", 1), ("CartPole-v1", 2), ("MinAtar/Breakout-v1", 1)])
def test_a_saved_buffer_goes_on_as_if_it_had_never_stopped(tmp_path, env_id, num_envs, storage):
    env = make_env(env_id, num_envs=num_envs, seed=0)
    replay = small(env, storage=storage)
    collect(env, replay, 90, seed=0)
    replay.sample()
    save_replay(replay, tmp_path / "deep" / "replay")
    loaded = load_replay(small(env, storage=storage, seed=5), tmp_path / "deep" / "replay")
    assert len(loaded) == 60
    assert (loaded.storage[:] == replay.storage[:]).all()
    for round_ in range(2):
        assert (loaded.sample() == replay.sample()).all()
        collect(env, replay, 10, seed=round_)
        collect(env, loaded, 10, seed=round_)
    save_replay(loaded, tmp_path / "again")


def test_facts_are_kept_beside_the_data_and_may_not_hide_what_the_format_says(tmp_path):
    env = make_env("CartPole-v1", seed=0)
    replay = small(env)
    collect(env, replay, 30, seed=0)
    save_replay(replay, tmp_path, env="CartPole-v1", by=["me", 1])
    said = read_description(tmp_path)
    assert (said["env"], said["by"], said["steps"], said["capacity"], said["batch"]) == (
        *("CartPole-v1", ["me", 1]),
        *(30, 60, []),
    )
    with pytest.raises(ValueError, match="these names are taken: steps"):
        save_replay(replay, tmp_path, steps=3)
    with pytest.raises((TypeError, ValueError)):
        save_replay(replay, tmp_path, by=object())
    assert read_description(tmp_path) == said


def test_the_buffers_own_dumps_and_loads_are_ours(tmp_path):
    env = make_env("MinAtar/Breakout-v1", seed=0)
    replay, other = small(env), small(env)
    collect(env, replay, 40, seed=0)
    replay.dumps(tmp_path)
    other.loads(tmp_path)
    assert (other.storage[:] == replay.storage[:]).all()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data.json", "steps-00000001.bin"]
    for misuse in (replay.storage.dumps, replay.storage.loads):
        with pytest.raises(NotImplementedError, match="_replay"):
            misuse(tmp_path)


def test_a_memmap_buffers_own_files_are_gone_with_it_and_its_saves_are_not(tmp_path):
    env = make_env("CartPole-v1", seed=0)
    replay = small(env, storage="memmap", directory=tmp_path)
    collect(env, replay, 40, seed=0)
    save_replay(replay, tmp_path)
    collect(env, replay, 40, seed=1)  # written on: what was saved stays as it was
    stale = tmp_path / ".wmc-working-of-a-killed-process"
    stale.mkdir()
    (stale / "action.memmap").touch()
    second = small(env, storage="memmap", directory=tmp_path)
    assert not stale.exists() and len(list(tmp_path.glob(".wmc-working-*"))) == 2
    assert len(load_replay(second, tmp_path)) == 40
    del replay, second
    gc.collect()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data.json", "steps-00000001.bin"]


def test_a_disk_without_room_for_a_memmap_buffer_is_told_and_kills_nobody(tmp_path, monkeypatch):
    env = make_env("CartPole-v1", seed=0)
    replay = small(env, storage="memmap", directory=tmp_path)

    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ReplayTooLargeError, match="no room for the buffer's files"):
        collect(env, replay, 40, seed=0)


def test_a_memmap_buffer_saved_where_it_stands_is_found_there(tmp_path):
    env = make_env("MinAtar/Breakout-v1", seed=0)
    replay = small(env, storage="memmap", directory=tmp_path)
    collect(env, replay, 40, seed=0)
    save_replay(replay, tmp_path)
    loaded = load_replay(small(env, storage="memmap", directory=tmp_path), tmp_path)
    assert (loaded.storage[:] == replay.storage[:]).all()
    assert (loaded.sample() == replay.sample()).all()


def test_the_batch_of_a_loaded_buffer_is_the_one_it_was_built_with(tmp_path):
    env = make_env("CartPole-v1", seed=0)
    replay = small(env)
    collect(env, replay, 40, seed=0)
    save_replay(replay, tmp_path)
    assert load_replay(small(env, batch_size=7), tmp_path).sample().shape == (7, 8)


def test_the_size_is_printed_before_anything_is_taken():
    lines = []
    env = make_env("ALE/Pong-v5")
    replay = make_replay(100_000, env, sequence_length=8, batch_size=4, print_fn=lines.append)
    assert len(lines) == 1 and "100,000 transitions, 1.24 GB in memory" in lines[0]
    assert not replay.storage.initialized


def test_the_bytes_announced_are_those_taken():
    env = make_env("CartPole-v1", seed=0)
    replay = small(env)
    collect(env, replay, 60, seed=0)
    assert replay_bytes(60, env) == replay.storage._storage.bytes()


def test_a_image_costs_its_bytes_once():
    env = make_env("ALE/Pong-v5")
    a_image = 64 * 64 * 3
    assert a_image < replay_bytes(1, env) < 1.02 * a_image
    assert isinstance(small(env).storage, ImagesOnceStorage)
    assert isinstance(small(env, storage="memmap").storage, ImagesOnceMemmapStorage)


@pytest.mark.parametrize(("storage", "remedy"), [("memory", "memmap"), ("memmap", "free some disk")])
def test_a_buffer_that_does_not_fit_is_refused(storage, remedy):
    env = make_env("ALE/Pong-v5")
    with pytest.raises(ReplayTooLargeError, match=f"Lower the capacity to about .*{remedy}"):
        make_replay(10**13, env, sequence_length=8, batch_size=4, storage=storage, print_fn=None)


def test_a_spec_builds_the_same_buffer_as_the_environment():
    env = make_env("CartPole-v1", seed=0)
    spec = transition_spec(env)
    assert isinstance(spec, Composite) and spec.shape == ()
    assert replay_bytes(10, spec) == replay_bytes(10, env)
    replay = small(spec, num_streams=2)
    replay.extend(spec.expand(2, 20).zero())
    assert replay.sample().shape == (4, 8)


def test_an_empty_buffer_is_not_saved(tmp_path):
    with pytest.raises(EmptyReplayError, match="nothing to save"):
        save_replay(small(make_env("CartPole-v1")), tmp_path)


def test_a_folder_without_a_buffer_is_named(tmp_path):
    with pytest.raises(BadDataError, match="save_replay"):
        load_replay(small(make_env("CartPole-v1")), tmp_path)


@pytest.mark.parametrize("frames", [40, 90])
def test_a_larger_buffer_takes_what_is_saved_and_a_smaller_one_refuses_it_in_words(tmp_path, frames):
    env = make_env("CartPole-v1", seed=0)
    replay = small(env)
    collect(env, replay, frames, seed=0)
    save_replay(replay, tmp_path)
    larger = make_replay(70, env, sequence_length=8, batch_size=4, print_fn=None)
    load_replay(larger, tmp_path)
    assert len(larger) == min(frames, 60)
    collect(env, replay, 2, seed=1)
    collect(env, larger, 2, seed=1)
    newest_first = torch.arange(1, 40)
    of_both = [buffer.storage[:]["observation"].roll(-buffer.writer._cursor, 0) for buffer in (replay, larger)]
    assert torch.equal(*(held[-newest_first] for held in of_both))
    smaller = make_replay(39, env, sequence_length=8, batch_size=4, print_fn=None)
    collect(env, smaller, 20, seed=2)
    before = smaller.storage[:].clone()
    with pytest.raises(BadDataError, match="has capacity 39; build it with a capacity of at least"):
        load_replay(smaller, tmp_path)
    assert (smaller.storage[:] == before).all()


@pytest.mark.parametrize(("other", "differs"), [("Acrobot-v1", "action: "), ("Pendulum-v1", "action: ")])
def test_steps_of_another_environment_are_not_loaded(tmp_path, other, differs):
    env = make_env("CartPole-v1", seed=0)
    replay = small(env)
    collect(env, replay, 30, seed=0)
    save_replay(replay, tmp_path)
    with pytest.raises(BadDataError, match=f"another kind.*{differs}"):
        load_replay(small(make_env(other, seed=0)), tmp_path)


def test_steps_of_equal_shape_and_other_bounds_are_not_loaded(tmp_path):
    spec = transition_spec(make_env("Pendulum-v1", seed=0))
    replay = small(spec)
    replay.extend(spec.expand(60).zero())
    save_replay(replay, tmp_path)
    spec["action"] = Bounded(-1.0, 1.0, (1,))
    with pytest.raises(BadDataError, match="another kind.*action.*2.0"):
        load_replay(small(spec), tmp_path)


def test_another_number_of_streams_is_not_loaded(tmp_path):
    env = make_env("CartPole-v1", num_envs=2, seed=0)
    replay = small(env)
    collect(env, replay, 30, seed=0)
    save_replay(replay, tmp_path)
    for count in (1, 3):
        with pytest.raises(BadDataError, match="num_streams=2"):
            load_replay(small(transition_spec(env), num_streams=count), tmp_path)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"storage": "disk"}, "'memory' or 'memmap'"),
        ({"directory": "somewhere"}, "directory is for"),
        ({"num_streams": 2}, "the environment steps 1"),
        ({"num_streams": 0}, "num_streams must be at least 1"),
        ({"batch_size": 0}, "batch_size is at least 1; got 0"),
        ({"sequence_length": 0}, "sequence_length is at least 1; got 0"),
        ({"sequence_length": 61}, "raise the capacity to at least 61"),
    ],
)
def test_what_cannot_be_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(make_env("CartPole-v1"), **kwargs)


def test_sampling_without_a_seed_follows_the_global_generator():
    env = make_env("CartPole-v1", seed=0)
    replay = small(env, seed=None)
    collect(env, replay, 60, seed=0)

    def drawn() -> TensorDict:
        torch.manual_seed(1)
        return replay.sample()

    assert (drawn() == drawn()).all()
