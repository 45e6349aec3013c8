"""The training loop: what it logs, shows, refuses, and finds out."""

import contextlib
import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Categorical, Composite, OneHot, Unbounded

from tests.support import corridor
from wmcomponents.data.fit import check_data, non_finite_keys
from wmcomponents.training import (
    ConstantThenDecay,
    DivergedError,
    OtherDataError,
    Trainer,
    loop,
    progress,
    seed_everything,
)
from wmcomponents.training.logs import rewind_csv


def trainer(model=None, replay=None, **options):
    model = corridor.model() if model is None else model
    replay = corridor.replay() if replay is None else replay
    return Trainer(model, replay, **{"lr": 1e-3, "warmup": 5, "progress": False, **options})


def poisoned(key, value=math.nan):
    """A buffer in which some numbers are not finite."""
    data = corridor.transitions(200)
    data[key][50:70, 0] = value
    replay = corridor.replay(200, batch=32)
    replay.empty()
    replay.extend(data)
    return replay


class Scripted(nn.Module):
    """An objective that returns what it is told to."""

    def __init__(self, model, *answers):
        super().__init__()
        self.model, self.answers = model, list(answers)

    def forward(self, tensordict):
        anchor = sum(p.sum() for p in self.model.parameters()) * 0
        return {key: anchor + value for key, value in self.answers.pop(0).items()}


def test_training_counts_all_steps_and_leaves_the_model_in_eval_mode():
    one = trainer()
    assert set(one.train(3)) >= {"loss_dyn", "loss_reward", "kl"}
    assert one.steps == 3 and not one.model.training
    before = {key: value.clone() for key, value in one.model.state_dict().items()}
    one.train(3)
    assert one.steps == 3 and all(torch.equal(before[key], value) for key, value in one.model.state_dict().items())


def test_the_same_seed_trains_the_same_model_and_another_seed_another():
    results = []
    for seed in (1, 1, 2):
        one = trainer(seed=seed)
        one.train(4)
        results.append(torch.cat([p.detach().flatten() for p in one.model.parameters()]))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_two_trainers_on_one_buffer_do_not_disturb_each_other():
    alone = trainer(seed=3)
    alone.train(4)
    replay = corridor.replay()
    first, second = trainer(replay=replay, seed=3), trainer(replay=replay, seed=4)
    first.train(2)
    second.train(2)
    first.train(4)
    assert first.losses == alone.losses


def test_a_fresh_model_is_fitted_to_the_scale_of_the_data_once():
    one = trainer()
    one.train(1)
    loc = one.model.encoder.transform.loc.clone()
    assert loc.abs().sum() > 0
    one.train(3)
    assert torch.equal(one.model.encoder.transform.loc, loc)


def test_csv_logs_have_one_row_every_log_every_steps_however_often_checkpoints_are_written(tmp_path):
    trainer(out=tmp_path, logger="csv", log_every=4, checkpoint_every=3).train(10)
    rows = (tmp_path / "logs/scalars/train/loss_dyn.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows] == [4, 8, 10]
    assert all(math.isfinite(float(row.split(",")[1])) for row in rows)


def test_resuming_drops_the_rows_that_will_be_written_again(tmp_path):
    file = tmp_path / "scalars/train/loss.csv"
    file.parent.mkdir(parents=True)
    file.write_text("1,0.5\n2,0.4\n3,0.3\n4,0.")
    rewind_csv(tmp_path, 2)
    assert file.read_text() == "1,0.5\n2,0.4\n"


def test_tensorboard_logs_hold_every_loss(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(out=tmp_path, logger="tensorboard", log_every=2).train(4)
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert "train/loss_dyn" in events.Tags()["scalars"]
    assert [event.step for event in events.Scalars("train/loss_dyn")] == [2, 4]


def test_a_torchrl_logger_of_the_user_s_is_used():
    class Kept:
        rows = []

        def log_scalar(self, name, value, step=None):
            self.rows.append((name, step))

    trainer(logger=Kept(), log_every=2).train(2)
    assert ("train/loss_dyn", 2) in Kept.rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logger": "csv"}, "needs a place to write: pass out=FOLDER"),
        ({"logger": "xml", "out": "unused"}, "logger is 'csv', 'tensorboard', a TorchRL logger or None; got 'xml'"),
        ({"log_every": 0}, "at least 1; got 500, 0"),
        ({"checkpoint_every": 0}, "at least 1; got 0, 50"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(**options)


def test_a_model_without_parameters_is_refused():
    model = corridor.model().requires_grad_(False)
    with pytest.raises(ValueError, match="DreamerV3 has no parameter that requires a gradient: nothing to train"):
        trainer(model)


@pytest.mark.parametrize("answer", [{"error": 1.0}, {"loss_a": torch.zeros(3)}])
def test_an_objective_that_returns_no_scalar_loss_is_named(answer):
    model = corridor.model()
    with pytest.raises(ValueError, match="Scripted must return scalars under keys that begin with 'loss_'"):
        trainer(model, objective=Scripted(model, answer)).train(1)


def test_compile_is_a_question_for_the_objective():
    class Compiled(Scripted):
        def compile(self):
            self.was_compiled = True

    model = corridor.model()
    assert trainer(model, objective=Compiled(model), compile=True).objective.was_compiled
    with pytest.raises(NotImplementedError, match="DreamerV3ModelLoss is not compiled"):
        trainer(model, compile=True)


def test_divergence_names_the_term_and_the_step():
    model = corridor.model()
    script = [{"loss_a": 1.0, "loss_b": 1.0}, {"loss_a": 1.0, "loss_b": 2.0}, {"loss_a": 1.0, "loss_b": math.inf}]
    one = trainer(model, objective=Scripted(model, *script), log_every=10)
    with pytest.raises(DivergedError, match="loss_b became inf at step 3. The data in the replay buffer are finite"):
        one.train(3)
    assert not model.training


def test_no_checkpoint_is_written_after_a_loss_that_is_not_finite(tmp_path):
    model = corridor.model()
    script = [{"loss_a": value} for value in (1.0, 1.0, math.nan, 1.0)]
    one = trainer(model, objective=Scripted(model, *script), out=tmp_path, log_every=50, checkpoint_every=2)
    with pytest.raises(DivergedError, match="step 3.*The last checkpoint is from before that step"):
        one.train(4)
    assert trainer(model, objective=Scripted(model), out=tmp_path).steps == 2


def test_no_checkpoint_is_written_with_a_weight_that_is_not_finite(tmp_path):
    class Breaking(Scripted):
        def forward(self, tensordict):
            weight = next(self.model.parameters())
            return {
                "loss_a": (weight - weight.detach()).clamp(min=0).sqrt().sum()
            }  # a finite loss, an infinite gradient

    model = corridor.model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    one = trainer(model, objective=Breaking(model), optimizer=optimizer, out=tmp_path, checkpoint_every=1)
    with pytest.raises(DivergedError, match="the weight .* is not finite after step 1"):
        one.train(1)
    assert not one.checkpoint.exists()


@pytest.mark.parametrize("key", ["observation", ("next", "observation"), ("next", "reward")])
def test_a_nan_in_the_buffer_is_found_and_named(key):
    replay = poisoned(key)
    assert non_finite_keys(replay, rows=7) == [key]
    with pytest.raises(DivergedError, match="became nan at step.*holds values that are not finite under") as error:
        trainer(replay=replay).train(30)
    assert str([key]) in str(error.value)


def test_the_progress_bar_is_plain_text_where_there_is_no_terminal(warm, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from tests.support import corridor\n"
        "from wmcomponents.training import Trainer\n"
        "Trainer(corridor.model(), corridor.replay(), lr=1e-3, log_every=2).train(4)\n"
    )
    code, _, shown = warm.run(program)
    assert code == 0
    assert "4/4" in shown and all(term in shown for term in ("world model", "reconstruction", "reward", "continue"))
    assert "\x1b" not in shown and "\r" not in shown and len(shown.splitlines()) <= 3


def test_without_progress_nothing_is_written(capfd):
    one = trainer()
    capfd.readouterr()
    one.train(2)
    assert capfd.readouterr() == ("", "")


def test_an_update_takes_data_from_another_buffer_too():
    one = trainer()
    assert set(one.update(corridor.replay(seed=5).sample())) >= {"loss_dyn"}
    assert one.steps == 1


def test_one_seed_seeds_everything():
    import random

    import numpy as np

    draws = []
    for _ in range(2):
        generator = seed_everything(3)
        draws.append(
            (random.random(), np.random.rand(), torch.rand(1).item(), torch.rand(1, generator=generator).item())
        )
    assert draws[0] == draws[1]
    with pytest.raises(ValueError, match="at least 0; got -1"):
        seed_everything(-1)


@pytest.mark.slow
def test_the_schedule_multiplies_the_rate_of_every_step():
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])
            super().step(closure)

    model = corridor.model()
    first, *rest = model.parameters()
    optimizer = Watched([{"params": [first], "lr": 0.01}, {"params": rest}], lr=0.1)
    trainer(model, optimizer=optimizer, schedule=lambda step: 1.0 / (1 + step)).train(3)
    assert rates == [pytest.approx([0.01 / k, 0.1 / k]) for k in (1, 2, 3)]


def test_cooling_stays_within_its_bounds_and_begins_anew_after_a_round():
    cooling = ConstantThenDecay(10, begin=0.5, floor=0.01)
    factors = [cooling(step) for step in range(20)]
    assert factors[:10] == factors[10:] and factors[:6] == [1.0] * 6
    assert all(0.01 <= after < before for before, after in zip(factors[5:9], factors[6:10], strict=True))


def test_a_cooled_run_that_is_resumed_ends_where_the_uninterrupted_one_does(tmp_path):
    ends = []
    for name, stops in (("once", (6,)), ("twice", (4, 6))):
        for steps in stops:
            one = trainer(out=tmp_path / name, schedule=ConstantThenDecay(6, begin=0.3), seed=3)
            one.train(steps)
        ends.append(one.model.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_one_batch_can_be_overfitted():
    # With the reconstruction's gradient cut, or the reward's, the sums below stay at their start, above 3 and 0.3.
    model = corridor.model(deter=64, hidden=32, units=32)
    replay = corridor.replay(16, length=8, batch=2)
    batch = TensorDict(replay.sample().to_dict(), [2, 8])
    one = Trainer(model, replay, lr=3e-3, warmup=20, progress=False)
    model.prepare(batch)
    first = one.update(batch)
    for _ in range(400):
        last = one.update(batch)
    assert first["loss_reconstruction"] > 3.0 and last["loss_reconstruction"] < 0.3
    assert first["loss_reward"] > 1.0 and last["loss_reward"] < 0.05
    assert last["loss_continue"] < 0.05


@pytest.mark.slow
def test_a_dream_of_a_known_mdp_returns_what_the_mdp_returns():
    model = corridor.model(deter=64, hidden=32, units=32)
    replay = corridor.replay(2000, length=16, batch=16)
    Trainer(model, replay, lr=2e-3, warmup=50, progress=False).train(500)
    returns, lengths = {}, {}
    for name, action in (("left", 0), ("right", 1)):
        generator = torch.Generator().manual_seed(0)
        rows, noise = 64, model.noise_source("imagine")
        first = torch.eye(corridor.CELLS)[0].expand(rows, -1)
        taken = torch.eye(2, dtype=torch.int64)[action].expand(rows, -1)
        state = model.observe(
            model.initial_state((rows,)),
            torch.zeros_like(taken),
            {"observation": first},
            torch.ones(rows, 1, dtype=torch.bool),
            model.noise_source("observe")((rows,), generator),
        )
        alive, total, length = torch.ones(rows, 1), torch.zeros(rows, 1), torch.zeros(rows, 1)
        with torch.no_grad():
            for _ in range(8):
                state, reward, cont = model.imagine(state, taken, noise((rows,), generator))
                total, length = total + alive * reward, length + alive
                alive = alive * (cont > 0.5)
        returns[name], lengths[name] = total.mean().item(), length.median().item()
    assert returns["right"] == pytest.approx(1.0, abs=0.1) and lengths["right"] == 4
    assert returns["left"] == pytest.approx(0.0, abs=0.1) and lengths["left"] == 8


def test_a_second_trainer_keeps_the_scale_a_model_was_fitted_to():
    from torchrl.data import Composite, OneHot, Unbounded

    from wmcomponents.models import DreamerV3, DreamerV3Config

    model = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
    model.prepare({"observation": torch.randn(50, 4)})
    scale = model.encoder.transform.scale.clone()
    model.prepare({"observation": 10 * torch.randn(50, 4)})
    assert torch.equal(model.encoder.transform.scale, scale)


class Mean(nn.Module):
    """A mean over rows, without noise."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tensordict):
        seen = tensordict["observation"].flatten(0, 1)
        return {"loss_a": (self.model.encoder.embed({"observation": seen}) - 1.0).square().mean()}


def test_accumulated_gradients_are_those_of_the_larger_batch():
    grads = []
    for splits in (1, 4):
        model = corridor.model()
        one = trainer(model, objective=Mean(model), optimizer=torch.optim.SGD(model.parameters(), 0.1))
        batch = corridor.replay(batch=8, seed=3).sample()
        found = one.update(*batch.split(8 // splits))
        grads.append([p.grad for p in model.encoder.parameters()] + [found["loss_a"]])
    for whole, parts in zip(*grads, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-7)


def test_a_step_takes_as_many_batches_as_are_accumulated():
    one = trainer(accumulate=3)
    seen = []
    one.update = lambda *batches: seen.append(len(batches)) or Trainer.update(one, *batches)
    one.train(2)
    assert seen == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"), [({"accumulate": 0}, "at least 1; got 0"), ({"precision": "fp8"}, "got 'fp8'")]
)
def test_bad_ways_to_compute_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(**options)


def test_in_bf16_the_losses_are_computed_in_it_and_the_weights_stay_as_they_are():
    model, types = corridor.model(), []
    first = next(part for part in model.encoder.modules() if isinstance(part, nn.Linear))
    first.register_forward_hook(lambda module, given, made: types.append(made.dtype))
    one = trainer(model, objective=Mean(model), precision="bf16")
    losses = one.train(3)
    assert set(types[-3:]) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in model.parameters()) and math.isfinite(losses["loss_a"])


def test_data_of_another_environment_are_refused_in_words():
    replay = corridor.replay()
    example = corridor.model()
    wide = type(example)(example.config, Composite(observation=Unbounded((7,))), OneHot(5))
    with pytest.raises(OtherDataError) as refused:
        trainer(wide, replay).train(1)
    said = str(refused.value)
    assert "another environment than this DreamerV3" in said and "observation_spec(env), action_spec(env)" in said
    assert "'observation' is float32 [5], and the model takes float32 [7]" in said
    assert "'action' is int64 [2], and the model takes" in said


def test_images_are_not_vectors_and_actions_are_in_range():
    data = TensorDict({"observation": torch.zeros(2, 3, 4), "action": torch.full((2, 3), 6)}, [2, 3])
    example = corridor.model()
    example.observation_spec = Composite(observation=Unbounded((4,), dtype=torch.uint8))
    example.action_spec = Categorical(3)
    with pytest.raises(OtherDataError) as refused:
        check_data(example, data)
    assert "float32 [4], and the model takes uint8 [4]" in str(refused.value)
    assert "'action' goes up to 6, and the model knows 0 to 2" in str(refused.value)


def test_without_a_terminal_a_line_is_written_every_few_seconds(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.progress_bar(True, "work", 10, 30) as show:
        show(20, {"loss_a": 0.5, "kl": 1.0}, "second")
        show(30, {})
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("work (second) 20/30: ") and first.endswith(" s left, a 0.5")
    assert last.startswith("work 30/30: ") and "left" not in last


def test_a_bar_shows_what_was_looked_at_in_between(monkeypatch):
    shown = []
    monkeypatch.setattr(loop, "REFRESH_SECONDS", 0.0)

    @contextlib.contextmanager
    def bar(*_):
        yield lambda step, losses, stage: shown.append(step)

    monkeypatch.setattr(loop, "progress_bar", bar)
    trainer(progress=True, log_every=50).train(3)
    assert shown == [1, 2, 3]
