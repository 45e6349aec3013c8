import os
import shutil
import signal

import pytest
import torch
import torch.distributed.fsdp  # once for all processes that are forked
from safetensors import safe_open
from torchrl.data import Binary, Composite, OneHot, Unbounded

from tests.support.ranks import PREPARING, GivenBatches, even_draws, run_ranks, try_ranks
from tests.support.small_batch import batch
from tests.support.small_dreamer import model as small_dreamer
from wmcomponents.data import make_replay
from wmcomponents.models import TDMPC2, TDMPC2Config
from wmcomponents.training import Trainer

VECTOR = Composite(observation=Unbounded(4))
FLAG = Binary(1, shape=(1,), dtype=torch.bool)
FOLLOWING = Composite(
    observation=Unbounded(4), reward=Unbounded(1), terminated=FLAG.clone(), truncated=FLAG.clone(), done=FLAG.clone()
)
VECTOR_STEPS = Composite(observation=Unbounded(4), action=OneHot(2), is_init=FLAG.clone(), next=FOLLOWING)


def share(rank):
    return lambda number: batch(2 * number + rank)


def doubled(number):
    return torch.cat([share(0)(number), share(1)(number)])


def curve(batches, until, begun=0, **options):
    """The losses as they are shown after each update, and the weights."""
    replay = GivenBatches(batches, first=PREPARING + begun if begun else 0)
    with even_draws():
        trainer = Trainer(small_dreamer(0, VECTOR), replay, lr=1e-3, warmup=2, progress=False, **options)
        assert trainer.steps == begun
        shown = [trainer.train(step) for step in range(begun + 1, until + 1)]
    return shown, dict(trainer.model.state_dict())


def close(one, other):
    (losses, weights), (others, other_weights) = one, other
    assert len(losses) == len(others)
    for now, then in zip(losses, others, strict=True):
        assert now == pytest.approx(then, rel=2e-4, abs=2e-5)
    for name, value in weights.items():
        torch.testing.assert_close(value, other_weights[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_as_one_with_the_doubled_batch_and_each_goes_on_from_the_others_bundle(parallel, tmp_path):
    one, of_one, of_two = (tmp_path / name for name in ("one", "of_one", "of_two"))
    first = curve(doubled, 3, out=one)
    shutil.copytree(one, of_one)
    rest = curve(doubled, 5, begun=3, out=one)

    def together(rank):
        begun = curve(share(rank), 3, out=of_two, parallel=parallel)
        return begun, curve(share(rank), 5, begun=3, out=of_one, parallel=parallel)

    for begun, gone_on in run_ranks(together):
        close(begun, first)
        close(gone_on, rest)
    close(curve(doubled, 5, begun=3, out=of_two), rest)
    with (
        safe_open(of_two / "checkpoint.safetensors", "pt") as theirs,
        safe_open(one / "checkpoint.safetensors", "pt") as ours,
    ):
        assert {key for key in theirs.keys() if not key.startswith("rank 1/")} == set(ours.keys())  # noqa: SIM118


def small_tdmpc2():
    torch.manual_seed(0)
    sizes = {"latent": 16, "units": 8, "encoder_units": 8, "horizon": 2, "rewards": "plain"}
    return TDMPC2(TDMPC2Config.tiny(**sizes), VECTOR, OneHot(2))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_part_that_is_trained_behind_the_rest_learns_in_two_processes_as_in_one(parallel):
    def learnt(batches, **options):
        with even_draws():
            trainer = Trainer(small_tdmpc2(), GivenBatches(batches), lr=1e-2, progress=False, **options)
            return [trainer.train(step) for step in (1, 2)], dict(trainer.model.state_dict())

    for found in run_ranks(lambda rank: learnt(share(rank), parallel=parallel)):
        close(found, learnt(doubled))


def drawn(updates, out):
    """Weights after updates on batches and noise that each process draws by itself."""
    replay = make_replay(64, VECTOR_STEPS, sequence_length=4, batch_size=2, print_fn=None)
    steps = batch(0, 1, 64)[0].select(*VECTOR_STEPS.keys(True, True), strict=False)
    steps["next", "truncated"] = torch.zeros_like(steps["next", "done"])
    replay.extend(steps)
    trainer = Trainer(small_dreamer(0, VECTOR), replay, lr=1e-3, warmup=0, progress=False, out=out, log_every=1)
    trainer.train(updates)
    return [value.clone() for value in trainer.model.parameters()], trainer.sampling.initial_seed()


def test_processes_draw_apart_and_go_on_to_the_bit_where_they_stopped(tmp_path):
    def work(rank):
        drawn(2, tmp_path / "stopped")
        return drawn(4, tmp_path / "stopped"), drawn(4, tmp_path / "whole")

    (stopped, whole), (other, _) = run_ranks(work)
    assert all(map(torch.equal, stopped[0], whole[0]))
    assert all(map(torch.equal, stopped[0], other[0]))
    assert stopped[1] != other[1]


def test_a_process_that_fails_ends_all_with_a_clear_error_and_a_bundle_to_go_on_from(tmp_path):
    def failing(rank):
        def batches(number):
            if rank == 1 and number == PREPARING + 3:
                raise OSError("the disk of rank 1 is gone")
            return share(rank)(number)

        trainer = Trainer(
            small_dreamer(0, VECTOR), GivenBatches(batches), progress=False, out=tmp_path, checkpoint_every=2
        )
        trainer.train(100)

    first, second = try_ranks(failing)
    assert (first.error, second.error) == ("LostRankError", "OSError")
    assert "another of the 2 processes ended" in first.said
    assert str(tmp_path) in first.said
    assert len(curve(doubled, 4, begun=2, out=tmp_path)[0]) == 2


def test_a_request_to_stop_that_reaches_one_process_stops_all_at_the_same_update(tmp_path):
    def stopped(rank):
        def batches(number):
            if rank == 1 and number == PREPARING + 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return share(rank)(number)

        trainer = Trainer(small_dreamer(0, VECTOR), GivenBatches(batches), progress=False, out=tmp_path)
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            trainer.train(100)
        return trainer.steps

    assert run_ranks(stopped) == [4, 4]
    assert Trainer(small_dreamer(0, VECTOR), GivenBatches(doubled), progress=False, out=tmp_path).steps == 4
