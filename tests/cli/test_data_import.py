import json

import numpy as np
import pytest

from tests.support.running import train_arguments, wmc
from wmcomponents.data import from_arrays, save_replay


@pytest.fixture
def logs(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "logs.npz"
    ends = np.arange(60) % 20 == 19
    np.savez(
        path,
        observations=rng.normal(size=(63, 3)),
        actions=rng.integers(0, 3, 60),
        rewards=np.ones(60),
        terminated=ends,
    )  # noqa: E501
    return path


def test_arrays_are_imported_told_and_trained_on_by_the_command_alone(logs, tmp_path):
    ran = wmc("data", "import", "arrays", logs, tmp_path / "data")
    assert ran.code == 0, ran.err
    assert ran.result["steps"] == 60 and ran.result["episodes"] == 3
    assert ran.err.index("60 steps, 3 episodes") < ran.err.index("60/60")  # the size comes first
    told = wmc("data", "info", tmp_path / "data").result
    assert told["episodes"] == 3 and told["mean_return"] == 20 and told["origin"] == str(logs)
    ran = wmc(*train_arguments(tmp_path / "data", tmp_path / "run"))
    assert ran.code == 0 and "on arrays/logs" in ran.err, ran.err


def test_a_saved_buffer_that_names_no_environment_is_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    replay = from_arrays(
        [rng.normal(size=(41, 3))], [rng.uniform(-1, 1, (40, 2))], [np.ones(40)], sequence_length=8, print_fn=None
    )
    save_replay(replay, tmp_path / "mine")
    ran = wmc(*train_arguments(tmp_path / "mine", tmp_path / "run"))
    assert ran.code == 0 and "on mine" in ran.err, ran.err


MISTAKES = {
    "a source that is none": (["array", "{logs}", "{out}"], 2, "there is no source 'array'"),
    "an option that is none": (["arrays", "{logs}", "{out}", "--options", "speed=3"], 2, "has no option speed"),
    "an option without a value": (["arrays", "{logs}", "{out}", "--options", "speed"], 2, "name=value"),
    "a place that is taken": (["arrays", "{logs}", "{taken}"], 2, "is not empty"),
    "a file that is none": (["arrays", "nowhere.npz", "{out}"], 1, "No such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_one_line_and_leaves_nothing(mistake, logs, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    words, code, said = MISTAKES[mistake]
    places = {"logs": logs, "out": tmp_path / "out", "taken": tmp_path / "taken"}
    ran = wmc("data", "import", *(word.format(**places) for word in words))
    assert ran.code == code and said in ran.err and ran.err.count("\n") == 1, ran.err
    assert not (tmp_path / "out").exists()


def test_a_fault_in_the_middle_leaves_no_folder(logs, tmp_path):
    with np.load(logs) as held:
        arrays = dict(held)
    arrays["observations"][50] = np.nan
    np.savez(logs, **arrays)
    ran = wmc("data", "import", "arrays", logs, tmp_path / "out")
    assert ran.code == 1 and "episode 2" in ran.err and "NaN" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_source_of_the_users_own_is_a_function_in_an_imported_module(tmp_path, monkeypatch):
    from wmcomponents.data.datasets import SOURCES

    (tmp_path / "my_logs.py").write_text(
        "import numpy as np\n"
        "from torchrl.data import Bounded, Composite, Unbounded\n"
        "from wmcomponents.data.datasets import Piece, Recording, register_source\n\n"
        "@register_source('my_logs')\n"
        "def my_logs(path, *, length: int = 3):\n"
        "    def pieces():\n"
        "        for _ in range(2):\n"
        "            yield Piece({'observation': np.ones((length + 1, 1))}, np.zeros((length, 1)), terminated=True)\n\n"
        "    return Recording('my logs', Composite(observation=Unbounded(1)), Bounded(-1, 1, (1,)), 6, pieces)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    ran = wmc("--import", "my_logs", "data", "import", "my_logs", "anywhere", "out", "--options", "length=5")
    SOURCES.pop("my_logs", None)
    assert ran.code == 0, ran.err
    description = json.loads((tmp_path / "out" / "data.json").read_text())
    assert description["steps"] == 10 and description["episodes"] == 2 and description["options"] == {"length": 5}


def test_the_help_names_every_source():
    from wmcomponents.cli.help import DETAILS
    from wmcomponents.data.datasets import SOURCES

    assert [name for name in SOURCES if name not in DETAILS["data import"]] == []


def made_minari(folder):
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    seen, acts = np.zeros((41, 3), np.float32), np.zeros((40, 2), np.float32)
    ends = np.arange(40) == 39
    buffer = EpisodeBuffer(
        id=0, observations=seen, actions=acts, rewards=np.ones(40), terminations=ends, truncations=ends & False
    )
    quiet = {"code_permalink": "-", "author": "-", "author_email": "-", "algorithm_name": "-", "description": "-"}
    spaces = {"observation_space": Box(-9, 9, (3,)), "action_space": Box(-1, 1, (2,))}
    minari.create_dataset_from_buffers("test/mine-v0", [buffer], **spaces, **quiet)
    return "minari", folder / "test" / "mine-v0"


def made_hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        file["data/demo_0/obs/arm"], file["data/demo_0/actions"] = np.zeros((40, 3)), np.zeros((40, 2))
        file["data/demo_0/rewards"] = np.zeros(40)
    return "hdf5", folder / "a.h5"


def made_video(folder):
    pytest.importorskip("av")
    from tests.support.films import film, frames

    film(folder / "a.mkv", frames(40, size=(64, 64)))
    np.savez(folder / "a.npz", actions=np.arange(39) % 3)
    return "video", folder


def made_lerobot(folder):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    features = {"observation.state": {"dtype": "float32"}, "action": {"dtype": "float32"}}
    info = {"codebase_version": "v2.1", "fps": 10, "features": features, "data_path": "{episode_index}.parquet"}
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "length": 40}\n')
    columns = {"observation.state": list(np.zeros((40, 3), np.float32)), "action": list(np.zeros((40, 2), np.float32))}
    pq.write_table(pa.table({**columns, "episode_index": np.zeros(40, int)}), folder / "0.parquet")
    return "lerobot", folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("made", [made_minari, made_hdf5, made_video, made_lerobot])
def test_a_model_is_trained_from_each_source_by_the_command_alone(made, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "in"))
    source, path = made(tmp_path / "in")
    ran = wmc("data", "import", source, path, tmp_path / "data")
    assert ran.code == 0 and ran.result["steps"] >= 39, ran.err
    ran = wmc(*train_arguments(tmp_path / "data", tmp_path / "run", steps=2))
    assert ran.code == 0 and f"on {source}/" in ran.err, ran.err
