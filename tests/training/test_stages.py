"""One call trains an objective with stages; a run stopped in either goes on in it, to the bit."""

import json
from pathlib import Path

import pytest
import torch

from tests.support import corridor, killed_stages
from wmcomponents.models import WorldModels, WorldModelsConfig
from wmcomponents.training import Trainer, UntrainedStageWarning
from wmcomponents.training.progress import progress_bar

VISION = 4


def trainer(out=None, **options):
    torch.manual_seed(0)
    config = WorldModelsConfig.tiny(vision_steps=VISION, latent=4, hidden=8, units=8)
    example = corridor.model()
    model = WorldModels(config, example.observation_spec, example.action_spec)
    return Trainer(model, corridor.replay(), out=out, lr=1e-3, **{"progress": False, **options})


def parts(model):
    """The weights of V and of M."""
    state = {key: value.clone() for key, value in model.state_dict().items() if "transform" not in key}
    vision = {key for key in state if key.startswith(("encoder.", "decoder."))}
    return {key: state[key] for key in vision}, {key: state[key] for key in state.keys() - vision}


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def test_v_learns_in_the_first_stage_and_m_in_the_second():
    one = trainer()
    begin = parts(one.model)
    assert "loss_kl" in one.train({"vision": VISION, "memory": 0}) and "loss_mixture" not in one.losses
    middle = parts(one.model)
    assert not same(begin[0], middle[0]) and same(begin[1], middle[1])
    assert "loss_mixture" in one.train(2 * VISION) and "loss_kl" not in one.losses
    end = parts(one.model)
    assert same(middle[0], end[0]) and not same(middle[1], end[1])


@pytest.mark.filterwarnings("ignore::wmcomponents.training.UntrainedStageWarning")
@pytest.mark.parametrize("stop", [1, VISION - 1, VISION, VISION + 1, VISION + 3])
def test_a_run_stopped_in_either_stage_goes_on_in_it_to_the_bit(tmp_path, stop):
    whole = trainer(tmp_path / "whole")
    whole.train(9)
    trainer(tmp_path / "halves").train(stop)
    again = trainer(tmp_path / "halves")
    assert again.steps == stop
    assert again.train(9) == whole.losses
    one, other = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_losses_looked_at_across_the_border_of_two_stages_keep_their_names():
    one = trainer(log_every=100)
    losses = one.train(VISION + 1)
    assert set(losses) == {"loss_mixture", "loss_reward", "loss_termination", "log_prob"}
    single = trainer(log_every=1)
    assert single.train(VISION + 1) == losses


def test_progress_shows_the_losses_of_the_stage_alone(capsys):
    one = trainer(progress=True, log_every=1)
    one.train({"vision": VISION, "memory": 0})
    shown = capsys.readouterr().err
    assert "kl" in shown and "mixture" not in shown and "(vision) 4/4" in shown
    one.train(VISION + 2)
    shown = capsys.readouterr().err
    assert "mixture" in shown and "kl" not in shown and "(memory) 6/6" in shown
    with progress_bar(False, "nothing", 0, 1) as show:
        show(1, {})


@pytest.mark.parametrize("steps", [1, VISION])
def test_a_stage_that_the_steps_do_not_reach_is_told(steps):
    with pytest.warns(UntrainedStageWarning, match=f"{steps} updates do not reach 'memory' .* begins after 4") as told:
        trainer().train(steps)
    assert "train({'vision': ..., 'memory': ...})" in str(told[0].message) and told[0].filename == __file__


def test_steps_are_given_by_stage_and_kept_for_the_run(tmp_path):
    one = trainer(tmp_path, logger="csv", log_every=1)
    assert "loss_mixture" in one.train({"vision": 2, "memory": 3}) and one.steps == 5
    again = trainer(tmp_path, logger="csv", log_every=1)
    again.train(6)
    folder = tmp_path / "logs/scalars/train"
    steps = {name: [int(row.split(",")[0]) for row in (folder / f"{name}.csv").read_text().splitlines()]
             for name in ("loss_kl", "loss_mixture")}  # fmt: skip
    assert steps == {"loss_kl": [1, 2], "loss_mixture": [3, 4, 5, 6]}


def test_a_stage_may_become_longer_while_it_lasts_but_not_afterwards():
    one = trainer()
    one.train({"vision": 2, "memory": 0})
    one.train({"vision": 3, "memory": 1})
    with pytest.raises(ValueError, match="contradicts the 4 updates taken so far, of which .'vision': 3, 'memory': 1."):
        one.train({"vision": 5, "memory": 1})
    one.train({"vision": 3, "memory": 2})
    assert one.steps == 5


@pytest.mark.parametrize("steps", [{"vision": 3}, {"vision": 3, "dreams": 2}, {"vision": -1, "memory": 2}])
def test_stages_that_there_are_not_are_refused_by_name(steps):
    with pytest.raises(ValueError, match=r"for each of its stages \(vision, memory\), with a count of at least 0"):
        trainer().train(steps)


def test_an_objective_without_stages_takes_a_number():
    one = Trainer(corridor.model(), corridor.replay(), progress=False)
    with pytest.raises(ValueError, match="has no stages: steps is a number"):
        one.train({"tokenizer": 2})


@pytest.mark.slow
def test_what_it_learns_of_the_corridor_is_the_corridor():
    torch.manual_seed(0)
    example = corridor.model()
    config = WorldModelsConfig.tiny(vision_steps=150, latent=8, hidden=32, units=32)
    model = WorldModels(config, example.observation_spec, example.action_spec)
    replay = corridor.replay(2000, length=16, batch=16)
    Trainer(model, replay, lr=1e-2, progress=False).train(600)
    cells, begins = torch.eye(corridor.CELLS), torch.ones(2, 1, dtype=torch.bool)
    state = model.observe(model.initial_state((2,)), torch.zeros(2, 2), {"observation": cells[[0, 0]]}, begins, None)
    left_then_right = [0, 1, 1, 0, 1, 1, 1]
    places, pays, ends = [], [], []
    for action in left_then_right:
        with torch.no_grad():
            step = model.imagine(state, torch.eye(2)[[action, 1]], None)
        state = step.state
        places.append(int(model.decode(state)["observation"][0].argmax()))
        pays.append(round(float(step.reward[0]), 1))
        ends.append(bool(step.cont[0] < 0.5))
    assert places == [0, 1, 2, 1, 2, 3, 4]
    assert pays == pytest.approx([0.0] * 6 + [1.0], abs=0.11) and ends == [False] * 6 + [True]


@pytest.mark.slow
def test_a_run_killed_in_each_stage_ends_with_the_same_bits_and_logs(warm, tmp_path):
    done = warm.run(Path(killed_stages.__file__), tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["same"] == [True, True, True]
    assert result["vision"] == list(range(1, killed_stages.VISION + 1))
    assert result["memory"] == list(range(killed_stages.VISION + 1, killed_stages.STEPS + 1))
