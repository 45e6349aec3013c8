"""Online training: goes on to the bit from its bundle, stops at what is no number, and tells what it does."""

import contextlib
import errno
import itertools
import json
import os
import shutil
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.online_runs import SCHEDULE, STEPS, run, weights
from wmcomponents._interruption import Interrupted
from wmcomponents._lock import FolderInUseError
from wmcomponents.agents.bundle import newest
from wmcomponents.agents.schedule import Schedule
from wmcomponents.models.loading import load
from wmcomponents.training import BadCheckpointError, DivergedError
from wmcomponents.training.nested_state import load_nested


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run; its folder is only read."""
    out = tmp_path_factory.mktemp("whole")
    trainer = run(out, logger="csv")
    trainer.train(STEPS)
    return trainer


def same(one, other):
    return (
        torch.equal(weights(one), weights(other))
        and one.episodes == other.episodes
        and one.evaluations == other.evaluations
        and (one.real_steps, one.global_step) == (other.real_steps, other.global_step)
    )


def interrupted(trainer, updates, steps=STEPS):
    """Train, and be asked to stop after so many updates."""

    class Stop:
        def on_train_batch_end(self, trainer, agent, outputs, batch, batch_idx):
            if batch_idx + 1 == updates:
                os.kill(os.getpid(), signal.SIGINT)

    trainer.callbacks = [Stop()]
    with pytest.raises(Interrupted):
        trainer.train(steps)


@pytest.mark.parametrize("streams", [1, 3])
def test_a_run_in_pieces_is_the_run_in_one_piece_to_the_bit(tmp_path, streams, whole):
    one = whole if streams == 1 else run(streams=3)
    one.train(STEPS)
    for steps in (31, 50):  # in the middle of episodes
        run(tmp_path, streams=streams).train(steps)
    last = run(tmp_path, streams=streams)
    assert last.real_steps >= 50
    last.train(STEPS)
    assert same(one, last)
    assert len(one.episodes) >= 3 and len(one.evaluations) == STEPS // SCHEDULE.evaluate_every
    assert one.global_step == SCHEDULE.updates_due(one.real_steps) > 5


def test_ctrl_c_between_two_updates_of_one_phase_leaves_a_bundle_that_goes_on_to_the_bit(tmp_path):
    phases = SCHEDULE.vary(pretrain=4, steps_between=12)
    straight = run(schedule=phases)
    straight.train(48)
    stopped = run(tmp_path, schedule=phases)
    interrupted(stopped, 2)
    assert stopped.real_steps == 24 and stopped.global_step == 2
    again = run(tmp_path, schedule=phases)
    assert again.global_step == 2 and not again.evaluations
    again.train(48)
    assert same(straight, again)
    assert [path.name for path in tmp_path.glob("bundle-*")] == [again._known.name]


def test_a_trainer_that_was_interrupted_can_itself_go_on(tmp_path, whole):
    trainer = run(tmp_path)
    interrupted(trainer, 5)
    trainer.callbacks = []
    trainer.train(STEPS)
    assert same(whole, trainer)


@pytest.mark.slow
def test_environments_in_processes_of_their_own_are_the_same_run(tmp_path):
    beside = run(streams=2)
    beside.train(48)
    run(tmp_path, streams=2).train(30)
    apart = run(tmp_path, streams=2, processes=True)
    apart.train(48)
    assert same(beside, apart)


def test_evaluations_change_nothing_of_the_run(whole):
    never = run(schedule=SCHEDULE.vary(evaluate_every=0))
    never.train(STEPS)
    assert torch.equal(weights(never), weights(whole)) and never.episodes == whole.episodes
    before = weights(never), torch.get_rng_state(), never.agent.real_policy.generator_state()
    assert never.evaluate() == never.evaluations[-1]["return"]
    after = weights(never), torch.get_rng_state(), never.agent.real_policy.generator_state()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


# -- what a bundle survives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["model", "agent", "data", "pointer", "sweep"])
def test_a_kill_within_a_save_leaves_the_last_bundle_or_the_new_one_whole(tmp_path, moment, monkeypatch, whole):
    from wmcomponents.agents import bundle, online

    trainer = run(tmp_path)
    trainer.train(30)

    class Killed(BaseException):
        pass

    def killed(*args, **kwargs):
        raise Killed

    places = {
        "model": (trainer.trainer, "write"),
        "agent": (online, "save_nested"),
        "data": (online, "save_replay"),
        "pointer": (bundle, "write_whole"),
        "sweep": (bundle, "sweep"),
    }
    monkeypatch.setattr(bundle.shutil, "rmtree", lambda *args, **kwargs: None)  # a killed process tidies nothing up
    monkeypatch.setattr(*places[moment], killed)
    with pytest.raises(Killed):
        trainer.save()
    monkeypatch.undo()
    assert len(list(tmp_path.glob("bundle-*"))) == 2
    again = run(tmp_path)
    assert again.real_steps == 30
    again.train(STEPS)
    assert same(whole, again) and len(list(tmp_path.glob("bundle-*"))) == 1


@contextlib.contextmanager
def full_disk_after(files, monkeypatch):
    """From the so-manieth file on, nothing can be written to the end."""
    sync, left = os.fsync, iter(range(files))

    def synced(descriptor):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", synced)
        yield


def test_a_disk_that_fills_up_within_a_save_or_an_export_leaves_what_was_there(tmp_path, monkeypatch):
    trainer = run(tmp_path)
    trainer.train(26)
    there = sorted(path.name for path in tmp_path.iterdir())
    for write, least in ((trainer.save, 4), (lambda: trainer.export("best"), 3)):
        for files in itertools.count():
            try:
                with full_disk_after(files, monkeypatch):
                    write()
                break
            except OSError as error:
                assert error.errno == errno.ENOSPC and sorted(path.name for path in tmp_path.iterdir()) == there
        assert files >= least
        there = sorted(path.name for path in tmp_path.iterdir())
        load(tmp_path / "best" / "model"), load_nested(tmp_path / "best" / "agent.safetensors")
    assert run(tmp_path).real_steps == 26


def test_a_disk_that_fills_up_while_it_acts_stops_the_run_which_goes_on_to_the_bit(tmp_path, whole):
    run(tmp_path, logger="csv").train(30)
    trainer = run(tmp_path, logger="csv")
    log = trainer.logger.log_scalar

    def full(name, value, step):
        if name == "real/return":
            log(name, value, step=step)  # the row is there, and not in the bundle
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        log(name, value, step=step)

    trainer.logger.log_scalar = full
    with pytest.raises(OSError, match="No space left"):
        trainer.train(STEPS)
    again = run(tmp_path, logger="csv")
    assert again.real_steps == 30
    again.train(STEPS)
    assert same(whole, again)
    logged = [(one.out / "logs" / "scalars" / "real" / "return.csv").read_text() for one in (whole, again)]
    assert logged[0] == logged[1]


def test_a_damaged_or_strange_pointer_is_refused_in_words(tmp_path):
    pointer = tmp_path / "bundle.json"
    for text, said in {
        "": "is damaged",
        '{"bundle": ': "is damaged",
        "[1]": "is damaged",
        '{"bundle": 3}': "names '3', which is no bundle",
        '{"bundle": "../../etc"}': "names '../../etc', which is no bundle",
        '{"bundle": "bundle-1-2-3/../x"}': "which is no bundle",
        '{"bundle": "bundle-1-2-3"}': "names bundle-1-2-3, which is not there",
        "[" * 100_000: "is damaged",
    }.items():
        pointer.write_text(text)
        with pytest.raises(BadCheckpointError, match=said):
            run(tmp_path)
    pointer.unlink()
    pointer.mkdir()
    with pytest.raises(BadCheckpointError, match="is not a file"):
        run(tmp_path)


def copied(whole, tmp_path):
    shutil.copytree(whole.out, tmp_path / "copy")
    out = tmp_path / "copy"
    return out, out / json.loads((out / "bundle.json").read_text())["bundle"]


def test_a_bundle_that_lacks_a_file_or_holds_a_damaged_one_is_refused_in_words(tmp_path, whole):
    out, folder = copied(whole, tmp_path)
    for name in ("agent.safetensors", "model.safetensors"):
        file = folder / name
        content = file.read_bytes()
        for bad in (content[: len(content) // 2], b"", content[:-1] + bytes([content[-1] ^ 1])):
            file.write_bytes(bad)
            with pytest.raises(BadCheckpointError, match=name):
                run(out)
        file.unlink()
        with pytest.raises(BadCheckpointError, match="no checkpoint at"):
            run(out)
        file.write_bytes(content)
    shutil.rmtree(folder / "data")
    with pytest.raises(BadCheckpointError, match="is damaged, or was written by another run"):
        run(out)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schedule": SCHEDULE.vary(updates_per_step=0.5)}, "schedule.updates_per_step was 0.2, is 0.5"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"streams": 3}, "num_envs was 1, is 3"),
    ],
)
def test_the_bundle_of_another_run_is_refused_by_what_differs(whole, changed, said):
    with pytest.raises(BadCheckpointError, match=said):
        run(whole.out, **changed)


def test_two_trainers_do_not_write_over_each_other(tmp_path):
    one, other = run(tmp_path), run(tmp_path)
    one.train(26)
    with pytest.raises(FolderInUseError, match="since this one was built"):
        other.train(26)


def test_a_bundle_is_not_written_over_that_of_another_trainer(tmp_path):
    one, other = run(tmp_path), run(tmp_path)
    one.train(26)
    there = newest(tmp_path)
    with pytest.raises(FolderInUseError, match="since this one was built"):
        other.save()
    assert newest(tmp_path) == there


# -- what is no number -------------------------------------------------------------------------------------------------


def stopped_by(trainer, said, whole_until):
    with pytest.raises(DivergedError, match=said):
        trainer.train(STEPS)
    with pytest.raises(RuntimeError, match="an error stopped this run"):
        trainer.train(STEPS)
    again = run(trainer.out)
    assert again.real_steps == whole_until and bool(torch.isfinite(weights(again)).all())


def begun(tmp_path, **options):
    run(tmp_path).train(26)
    return run(tmp_path, **options)


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_stops_the_run_with_its_step(tmp_path, reward):
    trainer = run(tmp_path, world={"strange": reward})
    trainer.train(26)
    stopped_by(trainer, "reward at real step [0-9]+ is not finite", 26)


def test_a_policy_that_is_no_number_stops_the_run_with_the_tensor_and_the_step(tmp_path):
    trainer = begun(tmp_path)
    with torch.no_grad():
        trainer.agent.loss.actor.out.weight.fill_(torch.nan)
    stopped_by(trainer, "the policy's 'sample_log_prob' is NaN at real step 26", 26)


def test_a_loss_of_the_model_that_is_no_number_stops_the_run_with_its_name_and_step(tmp_path):
    trainer = begun(tmp_path)
    update = trainer.trainer.update

    def poisoned(batch):
        return {**update(batch), "loss_dyn": torch.tensor(torch.nan)}

    trainer.trainer.update = poisoned
    stopped_by(trainer, "loss_dyn became nan at step ", 26)


def test_an_imagined_return_that_is_no_number_stops_the_run_with_the_update(tmp_path):
    trainer = begun(tmp_path)
    with torch.no_grad():
        next(trainer.agent.loss.critic.parameters()).fill_(torch.nan)
    stopped_by(trainer, "of the behaviour's update 0 is not finite", 26)


def test_a_bundle_never_holds_what_is_no_number(tmp_path):
    trainer = begun(tmp_path)
    with torch.no_grad():
        trainer.agent.loss.slow_critic.out.weight[0, 0] = torch.nan
    with pytest.raises(DivergedError, match="agent/loss/slow_critic.out.weight is NaN at real step 26, update 0"):
        trainer.save()
    assert bool(torch.isfinite(weights(run(tmp_path))).all())


def test_an_environment_that_raises_stops_the_run_and_the_last_bundle_is_whole(tmp_path):
    trainer = run(tmp_path, world={"strange": "raise"})
    trainer.train(26)
    told = []
    trainer.callbacks = [type("Told", (), {"on_exception": lambda self, trainer, agent, error: told.append(error)})()]
    with pytest.raises(RuntimeError, match="the simulator is gone"):
        trainer.train(STEPS)
    assert "the simulator is gone" in str(told[0])
    again = run(tmp_path)
    assert again.real_steps == 26
    again.train(40)


def test_episodes_of_a_world_that_forgets_its_seeds_are_cut_and_the_run_goes_on(tmp_path):
    trainer = run(tmp_path, world={"forgets": True}, streams=2)
    trainer.train(30)
    before = [len(actions) for actions in trainer.real._actions]
    again = run(tmp_path, world={"forgets": True}, streams=2)
    last = (len(again.replay) // 2) - 1
    again.train(34)
    stored = again.replay.storage.get(torch.arange(17))
    for row, open_steps in enumerate(before):
        assert bool(stored["next", "done"][last, row]) == (open_steps > 0) or bool(stored["is_init"][last + 1, row])
        assert bool(stored["is_init"][last + 1, row])
    assert any(bool(stored["next", "truncated"][last, row]) for row in range(2))


# -- what is told ------------------------------------------------------------------------------------------------------


def test_callbacks_are_called_in_lightnings_form_and_can_stop_the_run(tmp_path):
    seen = []

    class Callback:
        def on_train_start(self, trainer, agent):
            seen.append(("start", trainer.real_steps))

        def on_train_batch_end(self, trainer, agent, outputs, batch, batch_idx):
            assert "loss_dyn" in outputs and batch.shape == (2, 8) and trainer.global_step == batch_idx + 1
            seen.append(("update", batch_idx))

        def on_validation_end(self, trainer, agent):
            seen.append(("evaluation", trainer.callback_metrics["evaluation/return"]))
            trainer.should_stop = len(trainer.evaluations) == 2

        def on_save_checkpoint(self, trainer, agent, checkpoint):
            checkpoint["mine"] = 7

        def on_load_checkpoint(self, trainer, agent, checkpoint):
            seen.append(("loaded", checkpoint["mine"]))

        def on_train_end(self, trainer, agent):
            seen.append(("end", trainer.real_steps))

    trainer = run(tmp_path, callbacks=[Callback(), object()])
    trainer.train(STEPS)
    assert seen[0] == ("start", 0) and seen[-1] == ("end", 48)
    assert [number for name, number in seen if name == "update"] == list(range(4))
    returns = [one["return"] for one in trainer.evaluations]
    assert [value for name, value in seen if name == "evaluation"] == returns
    run(tmp_path, callbacks=[Callback()])
    assert seen[-1] == ("loaded", 7)


def test_returns_and_losses_are_logged_against_real_steps_each_once(whole):
    scalars = whole.out / "logs" / "scalars"
    rows = (scalars / "real" / "return.csv").read_text().split()
    assert [row.split(",") for row in rows] == [[str(one[0]), str(one[2])] for one in whole.episodes]
    rows = (scalars / "evaluation" / "return.csv").read_text().split()
    assert [int(row.split(",")[0]) for row in rows] == [one["real_steps"] for one in whole.evaluations]
    names = {str(path.relative_to(scalars)) for path in scalars.rglob("*.csv")}
    assert {"model/loss_dyn.csv", "agent/loss_actor.csv", "agent/return.csv", "real/length.csv"} <= names
    assert (whole.out / "best" / "agent.safetensors").is_file()
    assert whole.best == max(one["return"] for one in whole.evaluations)


def test_an_evaluation_after_the_last_bundle_is_logged_once_though_both_are_of_one_step(tmp_path):
    class Killed(BaseException):
        pass

    class Kill:
        def on_train_batch_end(self, trainer, agent, outputs, batch, batch_idx):
            if trainer.real_steps == 24:
                trainer.save()

        def on_validation_end(self, trainer, agent):
            raise Killed

    phases = SCHEDULE.vary(pretrain=1)
    with pytest.raises(Killed):
        run(tmp_path, schedule=phases, logger="csv", callbacks=[Kill()]).train(STEPS)
    again = run(tmp_path, schedule=phases, logger="csv")
    assert (again.real_steps, again.evaluations) == (24, [])
    again.train(48)
    rows = (tmp_path / "logs" / "scalars" / "evaluation" / "return.csv").read_text().split()
    assert [int(row.split(",")[0]) for row in rows] == [24, 48]


def test_tensorboard_gets_the_same_names(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = run(tmp_path, logger="tensorboard")
    trainer.train(30)
    trainer.logger.experiment.flush()
    events = EventAccumulator(str(next(tmp_path.rglob("events*")).parent)).Reload()
    assert {"real/return", "evaluation/return", "model/loss_dyn", "agent/loss_actor"} <= set(events.Tags()["scalars"])


def test_the_progress_tells_steps_dreamt_steps_returns_and_losses(capsys):
    run(progress=True).train(30)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("online 30/30: ")
    for word in ("return ", "evaluation/return ", "updates 1", "dreamed 54", "dyn ", "actor "):
        assert word in line


# -- when --------------------------------------------------------------------------------------------------------------


@given(
    prefill=st.integers(0, 30),
    pretrain=st.integers(0, 5),
    ratio=st.floats(0, 3),
    between=st.integers(1, 12),
    streams=st.integers(1, 5),
)
def test_updates_follow_real_steps_at_the_ratio_however_steps_are_taken(prefill, pretrain, ratio, between, streams):
    plan = Schedule(prefill=prefill, pretrain=pretrain, updates_per_step=ratio, steps_between=between)
    steps, before = 0, 0
    while steps < 60:
        steps += streams * -(-(plan.next_look(steps) - steps) // streams)
        due = plan.updates_due(steps)
        assert due >= before
        if steps >= max(1, prefill):
            ahead = pretrain + (steps - prefill) * ratio - due
            assert -1e-9 <= ahead <= 1 + between * ratio
        else:
            assert due == 0
        before = due
    assert plan.updates_due(0) == 0


def test_a_schedule_refuses_numbers_out_of_range():
    for name in ("prefill", "pretrain", "evaluate_every"):
        with pytest.raises(ValueError, match=name):
            Schedule(**{name: -1})
    for name in ("steps_between", "agent_every", "evaluate_episodes"):
        with pytest.raises(ValueError, match=name):
            Schedule(**{name: 0})
    for ratio in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="updates_per_step"):
            Schedule(updates_per_step=ratio)
