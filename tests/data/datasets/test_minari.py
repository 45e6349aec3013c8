import json
import sys
import types

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Text, Tuple

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")

from tests.support.recorded import check, read, vectors
from wmcomponents.data import BadDataError, make_env, transition_spec
from wmcomponents.data.datasets import open_source
from wmcomponents.data.transitions import recorded_spec
from wmcomponents.pretrained import spec_to_json


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def dataset(episodes, observed, acts, form="hdf5", **options):
    """Written by Minari itself."""
    from minari.data_collector import EpisodeBuffer

    buffers = [EpisodeBuffer(id=number, **each) for number, each in enumerate(episodes)]
    quiet = {"code_permalink": "-", "author": "-", "author_email": "-", "algorithm_name": "-", "description": "-"}
    return minari.create_dataset_from_buffers(
        "test/mine-v0", buffers, observation_space=observed, action_space=acts, data_format=form, **quiet, **options
    )


def buffer(known, observations=None):
    ends = np.arange(len(known.actions)) == len(known.actions) - 1
    return {
        "observations": known.observations["observation"] if observations is None else observations,
        "actions": known.actions,
        "rewards": known.rewards.astype(np.float64),
        "terminations": ends & known.terminated,
        "truncations": ends & (not known.terminated),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["hdf5", "arrow", "parquet"])
def test_what_minari_wrote_comes_back_exactly(form):
    pytest.importorskip("pyarrow")
    known = vectors([5, 1, 8], [True, False, False])
    dataset([buffer(each) for each in known], Box(-10, 10, (3,)), Box(-1, 1, (2,)), form)
    check(open_source("minari", "test/mine-v0"), known)


@pytest.fixture
def recorder(monkeypatch):
    """Minari's recorder, which asks JAX for nothing but a map over mappings."""

    def tree_map(function, first, *rest):
        if isinstance(first, dict):
            return {key: tree_map(function, first[key], *(each[key] for each in rest)) for key in first}
        return function(first, *rest)

    jax = types.ModuleType("jax")
    jax.tree_util = types.SimpleNamespace(tree_map=tree_map)
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "jax.tree_util", jax.tree_util)
    return minari.DataCollector


@pytest.mark.filterwarnings("ignore")
def test_an_environment_in_minaris_recorder_is_read_with_the_specs_that_make_env_gives(root, recorder):
    env = recorder(gymnasium.make("CartPole-v1"))
    episodes = []
    for seed in range(3):
        seen, terminated = [env.reset(seed=seed)[0]], False
        while not terminated:
            observation, _, terminated, _, _ = env.step(len(seen) % 2)
            seen.append(observation)
        episodes.append(torch.from_numpy(np.stack(seen)))
    quiet = {"code_permalink": "-", "author": "-", "author_email": "-", "algorithm_name": "-", "description": "-"}
    env.create_dataset("cartpole/test-v0", **quiet)
    recording = open_source("minari", root / "cartpole" / "test-v0")
    spec = recorded_spec(recording.observation_spec, recording.action_spec)
    assert spec_to_json(spec) == spec_to_json(transition_spec(make_env("CartPole-v1")))
    assert recording.episodes == 3 and recording.facts == {"env_id": "CartPole-v1"}
    steps = read(recording)
    assert torch.equal(steps["observation"], torch.cat([each[:-1] for each in episodes]))
    assert torch.equal(steps["next", "observation"], torch.cat([each[1:] for each in episodes]))
    ends = np.cumsum([len(each) - 1 for each in episodes]) - 1
    assert steps["next", "terminated"].flatten().nonzero().flatten().tolist() == ends.tolist()
    assert steps["action"].argmax(-1)[:4].tolist() == [1, 0, 1, 0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoded", [True, False])
def test_nested_spaces_become_entries_texts_are_left_out_and_images_are_brought_to_a_size(encoded):
    observed = Dict(
        camera=Box(0, 255, (32, 32, 3), np.uint8),
        body=Dict(arm=Box(-1, 1, (2,)), gears=Tuple([Discrete(3, start=1), Box(-1, 1, (1,), np.float64)])),
        mission=Text(8),
    )
    images = np.full((4, 32, 32, 3), 7, np.uint8) * np.arange(1, 5, dtype=np.uint8)[:, None, None, None]
    shown = {
        "camera": images,
        "body": {"arm": np.zeros((4, 2), np.float32), "gears": (np.array([1, 2, 3, 1]), np.ones((4, 1)))},
        "mission": ["go"] * 4,
    }
    each = vectors([3], [True])[0]
    dataset([buffer(each, shown)], observed, Box(-1, 1, (2,)), jpeg_encoding=encoded)
    recording = open_source("minari", "test/mine-v0", image_size=8)
    assert {key: list(spec.shape) for key, spec in recording.observation_spec.items()} == {
        "body_arm": [2], "body_gears_0": [3], "body_gears_1": [1], "camera": [8, 8, 3],
    }  # fmt: skip
    steps = read(recording)
    assert steps["body_gears_0"].argmax(-1).tolist() == [0, 1, 2]
    assert (steps["next", "camera"].float().mean((1, 2, 3)) - torch.tensor([14.0, 21, 28])).abs().max() < 3
    assert recording.notes == ("Left out, since it is no number: mission.",)


@pytest.mark.filterwarnings("ignore")
def test_actions_out_of_their_box_are_named_or_clipped():
    each = vectors([3], [True])[0]
    dataset([buffer(each._replace(actions=each.actions * 3))], Box(-10, 10, (3,)), Box(-1, 1, (2,)))
    with pytest.raises(BadDataError, match="outside of its box"):
        read(open_source("minari", "test/mine-v0"))
    clipped = read(open_source("minari", "test/mine-v0", clip=True))["action"].numpy()
    assert np.array_equal(clipped, (each.actions * 3).clip(-1, 1))


@pytest.mark.filterwarnings("ignore")
def test_no_environment_is_made_to_ask_for_spaces_and_what_is_missing_is_named(root):
    each = vectors([3], [True])[0]
    dataset([buffer(each)], Box(-10, 10, (3,)), Box(-1, 1, (2,)))
    file = root / "test" / "mine-v0" / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    harmful = {"id": "x-v0", "entry_point": "os:abort", "kwargs": {}}
    file.write_text(json.dumps({**metadata, "observation_space": None, "env_spec": json.dumps(harmful)}))
    with pytest.raises(BadDataError, match="no environment is made"):
        open_source("minari", "test/mine-v0")
    file.write_text(json.dumps({**metadata, "action_space": json.dumps({"type": "Tuple", "subspaces": []})}))
    with pytest.raises(BadDataError):
        open_source("minari", "test/mine-v0")
    with pytest.raises(BadDataError, match="minari download nobody/nothing-v0"):
        open_source("minari", "nobody/nothing-v0")
