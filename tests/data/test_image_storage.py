import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from wmcomponents.data import ImagesOnceMemmapStorage, ImagesOnceStorage, SequenceSampler, load_replay, save_replay

SHAPE = (2, 2, 3)


def experience(count: int, streams: int, end_probability: float, seed: int) -> TensorDict:
    """Random images [count, streams]; the next one is the following row's unless the episode ends there."""
    generator = torch.Generator().manual_seed(seed)

    def images(rows: int):
        return torch.randint(0, 256, (rows, streams, *SHAPE), dtype=torch.uint8, generator=generator)

    shown = images(count + 1)
    done = torch.rand(count, streams, 1, generator=generator) < end_probability
    following = torch.where(done[..., None, None], images(count), shown[1:])
    fields = {
        "pixels": shown[:-1],
        "time": torch.arange(count)[:, None].expand(count, streams),
        "next": {"pixels": following, "done": done},
    }
    data = TensorDict(fields, batch_size=[count, streams]).auto_batch_size_(2)
    return data if streams > 1 else data[:, 0]


def pair(capacity: int, streams: int, kind=ImagesOnceStorage, **kwargs):
    """A buffer that keeps images once, and TorchRL's own that keeps them twice."""
    ndim = 1 if streams == 1 else 2
    once = kind(capacity * streams, once=["pixels"], ndim=ndim, **kwargs)
    twice = LazyTensorStorage(capacity * streams, ndim=ndim)
    return [
        TensorDictReplayBuffer(
            storage=storage, sampler=SequenceSampler(1), batch_size=4, dim_extend=0, generator=torch.Generator()
        )
        for storage in (once, twice)
    ]


@st.composite
def histories(draw):
    capacity = draw(st.integers(2, 12))
    chunks = draw(st.lists(st.integers(2, capacity), min_size=1, max_size=6))
    # a gap drops steps between two writes, as an environment that was reset in between
    gaps = draw(st.lists(st.integers(0, 1), min_size=len(chunks), max_size=len(chunks)))
    return capacity, chunks, gaps, draw(st.sampled_from([1, 2])), draw(st.sampled_from([0.0, 0.2, 1.0]))


@given(histories(), st.integers(0, 100))
def test_what_is_read_is_what_was_written(history, seed):
    capacity, chunks, gaps, streams, end_probability = history
    once, twice = pair(capacity, streams)
    data = experience(sum(chunks) + sum(gaps), streams, end_probability, seed)
    at = 0
    for chunk, gap in zip(chunks, gaps, strict=True):
        for replay in (once, twice):
            replay.extend(data[at : at + chunk].clone())
        at += chunk + gap
        assert (once.storage[:] == twice.storage[:]).all()
    loose = once.storage.loose
    assert len(loose) + len(loose.free) == len(loose.table["pixels"])  # no slot is lost


@pytest.mark.parametrize("kind", [ImagesOnceStorage, ImagesOnceMemmapStorage])
def test_images_are_kept_once_but_for_ends_and_the_newest(kind):
    once, _ = pair(200, 1, kind)
    data = experience(150, 1, 0.1, 0)
    once.extend(data)
    ends = int(data["next", "done"][:-1].sum())
    assert len(once.storage.loose) == ends + 1
    assert ("next", "pixels") not in once.storage._storage.keys(True)
    once.extend(experience(150, 1, 0.0, 1))  # laps over the first ends
    assert len(once.storage.loose) < ends


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("kind", [ImagesOnceStorage, ImagesOnceMemmapStorage])
def test_every_way_of_reading_gives_the_same(kind, streams):
    once, twice = pair(20, streams, kind)
    for replay in (once, twice):
        replay.extend(experience(26, streams, 0.3, 0)[:13])
        replay.extend(experience(26, streams, 0.3, 0)[13:])
    rows = torch.tensor([[3, 19], [0, 7]])
    stream = torch.tensor([[0, streams - 1], [0, 0]])
    indices = [slice(None), slice(2, 9), 5, torch.tensor(5), rows, torch.arange(20) % 3 == 0]
    if streams == 1:
        indices.append(torch.tensor([-1, 4]))
    else:
        indices.append((rows, stream))
    for index in indices:
        assert (once.storage[index] == twice.storage[index]).all(), index


def test_writing_into_what_was_read_leaves_the_storage_alone():
    once, _ = pair(20, 1)
    once.extend(experience(20, 1, 0.3, 0))
    before = once.storage[:].clone()
    for index in (5, torch.tensor(5), torch.tensor([5])):
        once.storage[index]["next", "pixels"].zero_()
    assert (once.storage[:] == before).all()


@pytest.mark.parametrize("kind", [ImagesOnceStorage, ImagesOnceMemmapStorage])
def test_the_state_keeps_the_loose_images(kind):
    once, twice = pair(20, 2, kind)
    other, _ = pair(20, 2, kind)
    other.extend(experience(3, 2, 0.5, 9))
    data = experience(40, 2, 0.3, 0)
    for replay in (once, twice):
        replay.extend(data[:15].clone())
        replay.extend(data[15:28].clone())
    for _ in range(2):
        other.load_state_dict(once.state_dict())
        assert (other.storage[:] == twice.storage[:]).all()
    for replay in (other, twice):
        replay.extend(data[28:].clone())
    assert (other.storage[:] == twice.storage[:]).all()


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("count", [6, 28])
def test_a_folder_keeps_every_image_wherever_the_seam_of_the_ring_stands(tmp_path, streams, count):
    once, twice = pair(20, streams)
    other, _ = pair(20, streams, ImagesOnceMemmapStorage)
    other.extend(experience(3, streams, 0.5, 9))
    data = experience(40, streams, 0.3, 0)
    for replay in (once, twice):
        for part in (data[:4], data[4:count]):
            replay.extend(part.clone())
    for saved in (once, twice):  # whether the buffer keeps images once or twice, the folder is the same
        save_replay(saved, tmp_path)
        load_replay(other, tmp_path)
        assert (other.storage[:] == twice.storage[:]).all()
    for replay in (other, twice):
        replay.extend(data[count:].clone())
    assert (other.storage[:] == twice.storage[:]).all()


def test_single_steps_are_written_and_emptied():
    once, twice = pair(5, 1)
    data = experience(8, 1, 0.3, 0)
    for replay in (once, twice):
        for step in data.clone().unbind(0):
            replay.add(step)
    assert (once.storage[:] == twice.storage[:]).all()
    for replay in (once, twice):
        replay.empty()
        replay.extend(data[:3].clone())
    assert (once.storage[:] == twice.storage[:]).all()


def test_a_run_longer_than_the_ring_leaves_its_last_lap():
    once, _ = pair(5, 1)
    data = experience(8, 1, 0.3, 0)
    once.extend(data.clone())
    kept = once.storage[torch.tensor([3, 4, 0, 1, 2])]
    assert (kept["time"] == torch.arange(3, 8)).all()
    assert kept["next", "pixels"].equal(data["next", "pixels"][3:])


def test_scattered_rows_cannot_be_written():
    once, _ = pair(10, 1)
    once.extend(experience(10, 1, 0.3, 0))
    with pytest.raises(ValueError, match="runs of rows"):
        once.storage.set(torch.tensor([2, 5]), experience(2, 1, 0.3, 0))


def test_more_than_two_dimensions_are_refused():
    with pytest.raises(ValueError, match="ndim must be 1"):
        ImagesOnceStorage(10, once=["pixels"], ndim=3)
