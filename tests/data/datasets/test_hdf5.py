import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

h5py = pytest.importorskip("h5py")

from tests.support.recorded import check, cut_short, read, vectors
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source, rows

EPISODES = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=4)


def robomimic(path, known):
    """As robomimic lays its demonstrations out."""
    with h5py.File(path, "w") as file:
        for number, each in enumerate(known):
            demo, seen = file.create_group(f"data/demo_{number}"), each.observations["observation"]
            demo.create_dataset("obs/state", data=seen[:-1])
            demo.create_dataset("next_obs/state", data=seen[1:])
            demo.create_dataset("actions", data=each.actions)
            demo.create_dataset("rewards", data=np.abs(each.rewards) * (1 if each.terminated else -1))
            demo.create_dataset("dones", data=(np.arange(len(each.actions)) == len(each.actions) - 1).astype(int))
            demo.attrs["num_samples"] = len(each.actions)
        file["data"].attrs["env_args"] = "{}"


def d4rl(path, known, following):
    """As D4RL does."""
    seen = [each.observations["observation"] for each in known]
    ends = np.concatenate([np.arange(len(each.actions)) == len(each.actions) - 1 for each in known])
    died = np.concatenate([np.full(len(each.actions), each.terminated) for each in known])
    with h5py.File(path, "w") as file:
        file["observations"] = np.concatenate([each[:-1] for each in seen])
        file["actions"] = np.concatenate([each.actions for each in known])
        file["rewards"] = np.concatenate([each.rewards for each in known])
        file["terminals"], file["timeouts"] = ends & died, ends & ~died
        file["infos/qpos"] = np.zeros((len(ends), 2))
        if following:
            file["next_observations"] = np.concatenate([each[1:] for each in seen])


@settings(max_examples=8, deadline=None)
@given(EPISODES, st.integers(1, 4))
def test_robomimics_demonstrations_come_back_exactly(tmp_path_factory, shape, piece):
    known = vectors(*zip(*shape, strict=True))
    known = [each._replace(rewards=np.abs(each.rewards) * (1 if each.terminated else -1)) for each in known]
    path = tmp_path_factory.mktemp("hdf5") / "demo.hdf5"
    robomimic(path, known)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "MOST_ROWS", piece)
        check(open_source("hdf5", path), known)


@settings(max_examples=8, deadline=None)
@given(EPISODES, st.booleans(), st.integers(1, 4))
def test_d4rls_arrays_come_back_exactly(tmp_path_factory, shape, following, piece):
    known = vectors(*zip(*shape, strict=True))
    path = tmp_path_factory.mktemp("hdf5") / "d4rl.hdf5"
    d4rl(path, known, following)
    wanted = known if following else [each for each in map(cut_short, known) if len(each.actions)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "MOST_ROWS", piece)
        if wanted:
            check(open_source("hdf5", path), wanted)


def test_more_than_nine_episodes_stand_in_the_order_of_their_numbers(tmp_path):
    known = vectors([2] * 12, [False] * 12)
    robomimic(tmp_path / "a.hdf5", known)
    steps = read(open_source("hdf5", tmp_path / "a.hdf5"))
    assert np.array_equal(steps["observation"][20].numpy(), known[10].observations["observation"][0])


def test_a_file_of_ones_own_is_described_by_names(tmp_path):
    known = vectors([3, 5], [True, False])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, each in enumerate(known):
            file[f"runs/{number}/sensors/lidar"] = each.observations["observation"]
            file[f"runs/{number}/sensors/camera"] = np.full((len(each.actions) + 1, 16, 16, 3), number, np.uint8)
            file[f"runs/{number}/motors"] = each.actions
            file[f"runs/{number}/score"] = each.rewards[:, None]
            file[f"runs/{number}/crashed"] = np.arange(len(each.actions)) == len(each.actions) * each.terminated - 1
    options = {"episodes": "runs/*", "actions": "motors", "rewards": "score", "terminated": "crashed"}
    check(open_source("hdf5", tmp_path / "a.h5", observations="sensors/lidar", **options), known)
    both = open_source("hdf5", tmp_path / "a.h5", observations="sensors", image_size=8, **options)
    assert {key: list(spec.shape) for key, spec in both.observation_spec.items()} == {"camera": [8, 8, 3], "lidar": [3]}
    assert read(both)["camera"][3:].unique().tolist() == [1]
    with pytest.raises(BadDataError, match="name them, --options observations="):
        open_source("hdf5", tmp_path / "a.h5", **options)
    for pattern, said in (("runs/x*", "no group that is called 'runs/x"), ("run/*", "has no group 'run'")):
        with pytest.raises(BadDataError, match=said):
            open_source("hdf5", tmp_path / "a.h5", **{**options, "episodes": pattern})


def test_dones_that_say_not_why_are_termination_where_the_last_reward_is_positive_or_when_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, reward in enumerate((0.0, 1.0)):
            file[f"{number}/obs"] = np.zeros((4, 2))
            file[f"{number}/actions"], file[f"{number}/dones"] = np.zeros((3, 1)), np.array([0, 0, 1])
            file[f"{number}/rewards"] = np.array([0, 0, reward])
    ended = read(open_source("hdf5", tmp_path / "a.h5"))["next", "terminated"].flatten().tolist()
    assert ended == [False] * 5 + [True]
    ended = read(open_source("hdf5", tmp_path / "a.h5", terminated="dones"))["next", "terminated"].flatten().tolist()
    assert ended == [False, False, True] * 2


def test_a_shifted_next_observation_is_found(tmp_path):
    known = vectors([5], [False])
    robomimic(tmp_path / "a.hdf5", known)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["data/demo_0/next_obs/state"][...] = known[0].observations["observation"][:-1]
    with pytest.raises(BadDataError, match="one of the two is shifted"):
        read(open_source("hdf5", tmp_path / "a.hdf5"))


def test_links_out_of_the_file_and_empty_promises_are_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(4000))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["obs"] = np.zeros((4, 2))

    def made(fill):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["0/actions"] = np.zeros((3, 1))
            fill(file)
        return tmp_path / "a.h5"

    layout = h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "obs", (4, 2))
    outside = [(str(tmp_path / "secret.bin"), 0, 64)]
    faults = {
        "links are not followed": [
            lambda file: file.__setitem__("0/obs", h5py.ExternalLink(str(tmp_path / "other.h5"), "obs")),
            lambda file: file["0"].create_virtual_dataset("obs", layout),
            lambda file: file.create_dataset("0/obs", (4, 2), "f8", external=outside),
        ],
        "promises": [lambda file: file.create_dataset("0/obs", (2**40, 2), "f8", chunks=(1024, 2))],
    }
    for said, fills in faults.items():
        for fill in fills:
            with pytest.raises(BadDataError, match=said):
                open_source("hdf5", made(fill))
    (tmp_path / "b.h5").write_bytes(made(lambda file: None).read_bytes()[:700])
    with pytest.raises(BadDataError, match="HDF5 file that can be read|cannot be read"):
        open_source("hdf5", tmp_path / "b.h5")
