import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ListStorage, ReplayBuffer, TensorDictReplayBuffer

from wmcomponents.data import EmptyReplayError, ReplayTooShortError, SequenceSampler


def buffer(capacity: int, length: int, streams: int = 1, seed: int | None = 0, batch_size: int = 64):
    return TensorDictReplayBuffer(
        storage=LazyTensorStorage(capacity * streams, ndim=1 if streams == 1 else 2),
        sampler=SequenceSampler(length),
        batch_size=batch_size,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )


def steps(first: int, count: int, streams: int = 1) -> TensorDict:
    """Steps numbered by time; stream n carries the numbers n*10_000 + time. Every seventh begins an episode."""
    time = torch.arange(first, first + count)
    number = time + 10_000 * torch.arange(streams)[:, None]
    data = TensorDict({"number": number, "is_init": (number % 7 == 0)[..., None]}, batch_size=[streams, count])
    return data if streams > 1 else data[0]


def write(replay, chunks, streams=1) -> int:
    """Write the chunks one after the other; return how many steps there were."""
    written = 0
    for chunk in chunks:
        if streams > 1 and chunk == 1:
            ReplayBuffer.extend(replay, steps(written, chunk, streams))
        else:
            replay.extend(steps(written, chunk, streams))
        written += chunk
    return written


# capacity, length <= capacity, chunks no longer than the capacity
@st.composite
def histories(draw):
    capacity = draw(st.integers(2, 40))
    length = draw(st.integers(1, capacity))
    chunks = draw(st.lists(st.integers(1, capacity), min_size=1, max_size=8))
    return capacity, length, chunks, draw(st.sampled_from([1, 3]))


@given(histories())
def test_a_sequence_is_consecutive_steps_of_one_stream_whatever_was_written(history):
    capacity, length, chunks, streams = history
    replay = buffer(capacity, length, streams)
    total = write(replay, chunks, streams)
    held = min(total, capacity)
    if held < length:
        with pytest.raises(ReplayTooShortError):
            replay.sample()
        return
    numbers = replay.sample()["number"]
    assert numbers.shape == (64, length)
    assert (numbers.diff(dim=1) == 1).all()  # never over the seam: there the numbers jump back
    time = numbers % 10_000
    assert time.min() >= total - held and time.max() < total


@given(histories())
def test_every_start_is_reached(history):
    capacity, length, chunks, streams = history
    replay = buffer(capacity, length, streams)
    total = write(replay, chunks, streams)
    held = min(total, capacity)
    starts = held - length + 1
    if starts < 1:
        return
    sampler = replay.sampler
    index, _ = sampler.sample(replay.storage, 60 * starts * streams)
    drawn = replay.storage.get(index)["number"][:, 0]
    expected = {n * 10_000 + total - held + start for n in range(streams) for start in range(starts)}
    assert set(drawn.tolist()) == expected


@given(histories())
def test_the_flags_are_as_they_were_written(history):
    capacity, length, chunks, streams = history
    replay = buffer(capacity, length, streams)
    if min(write(replay, chunks, streams), capacity) < length:
        return
    sample = replay.sample()
    assert sample["is_init"].squeeze(-1).equal(sample["number"] % 7 == 0)


@pytest.mark.parametrize("streams", [1, 4])
def test_starts_are_uniform(streams):
    replay = buffer(50, 8, streams)
    write(replay, [50, 23], streams)
    index, _ = replay.sampler.sample(replay.storage, 43 * streams * 400)
    drawn = replay.storage.get(index)["number"][:, 0]
    _, counts = drawn.unique(return_counts=True)
    assert len(counts) == 43 * streams
    chi_square = ((counts - 400.0) ** 2 / 400.0).sum().item()
    degrees = len(counts) - 1
    assert abs(chi_square - degrees) < 5 * (2 * degrees) ** 0.5  # five standard deviations


def test_sequences_cross_the_ends_of_episodes():
    replay = buffer(100, 20)
    write(replay, [100])
    assert (replay.sample()["is_init"].sum(1) >= 2).all()


def test_one_sample_has_batch_and_time():
    replay = buffer(100, 5, streams=2, batch_size=3)
    write(replay, [60], 2)
    assert replay.sample().batch_size == (3, 5)
    assert replay.sample()["index"].shape == (3, 5, 2)


def test_a_seed_fixes_the_draws_and_the_global_generator_is_not_touched():
    drawn = []
    for _ in range(2):
        replay = buffer(100, 5, seed=7)
        write(replay, [100])
        before = torch.get_rng_state()
        drawn.append(torch.cat([replay.sample()["number"] for _ in range(3)]))
        assert torch.get_rng_state().equal(before)
    assert drawn[0].equal(drawn[1])


@pytest.mark.parametrize("through", ["state_dict", "dumps"])
@pytest.mark.parametrize("streams", [1, 3])
def test_a_restored_buffer_draws_on_bit_for_bit(tmp_path, through, streams):
    replay = buffer(30, 6, streams)
    written = write(replay, [30, 17], streams)
    replay.sample()
    other = buffer(30, 6, streams, seed=99)
    other.extend(steps(0, 2, streams))
    if through == "dumps":
        replay.dumps(tmp_path)
        other.loads(tmp_path)
    else:
        other.load_state_dict(replay.state_dict())
    for _ in range(3):
        for one in (replay, other):
            one.extend(steps(written, 4, streams))
        written += 4
        assert (replay.sample() == other.sample()).all()


def test_a_step_written_by_add_moves_the_seam():
    replay = buffer(5, 5)
    for number in range(8):
        replay.add(steps(number, 1)[0])
    assert replay.sample()["number"].eq(torch.arange(3, 8)).all()


def test_emptying_the_buffer_starts_over():
    replay = buffer(5, 3)
    write(replay, [5, 4])
    replay.empty()
    write(replay, [4])
    assert set(replay.sample()["number"].flatten().tolist()) == {0, 1, 2, 3}


def test_an_empty_buffer_says_so():
    replay = buffer(5, 3)
    assert not replay.can_sample()
    with pytest.raises(EmptyReplayError, match="collect real steps"):
        replay.sample()


def test_a_buffer_shorter_than_the_sequence_says_so():
    replay = buffer(10, 5, streams=2)
    write(replay, [4], 2)
    assert not replay.can_sample()
    with pytest.raises(
        ReplayTooShortError, match="holds 4 consecutive steps in each of 2 streams and a sequence needs 5"
    ):
        replay.sample()
    write(replay, [2], 2)
    assert replay.can_sample()


def test_a_length_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        SequenceSampler(0)


def test_a_storage_without_rows_is_refused():
    replay = ReplayBuffer(storage=ListStorage(4), sampler=SequenceSampler(2), batch_size=1)
    replay.extend([1, 2, 3])
    with pytest.raises(TypeError, match="tensor storages"):
        replay.sample()


def test_a_storage_of_three_dimensions_is_refused():
    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(24, ndim=3), sampler=SequenceSampler(2), batch_size=1, dim_extend=0
    )
    replay.storage.set(range(4), TensorDict({"a": torch.zeros(4, 2, 3)}, batch_size=[4, 2, 3]))
    with pytest.raises(ValueError, match="rows, streams"):
        replay.sample()
