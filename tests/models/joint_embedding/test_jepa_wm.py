"""JEPA-WM as a world model: its window, its loss of predictions in a row, what it refuses."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite

from tests.support.models import JEPA_WM_SIZES, MIXED
from tests.support.parts import scramble
from wmcomponents.dream import GoalReward, GoalTerm
from wmcomponents.models import JEPAWM, JEPAWMConfig, JEPAWMLoss

ACTION = Bounded(-2, 2, (2,))
SHOWN = Composite(camera=MIXED["camera"])


def made(shown=MIXED, **changes) -> JEPAWM:
    torch.manual_seed(0)
    return scramble(JEPAWM(JEPAWMConfig.tiny(**{**JEPA_WM_SIZES, **changes}), shown, ACTION)).eval()


def sequences(shown=MIXED, rows=2, time=7, ends=()) -> TensorDict:
    torch.manual_seed(1)
    seen = shown.expand(rows, time + 1).rand()
    done = torch.zeros(rows, time, 1, dtype=torch.bool)
    done[0, list(ends)] = True
    first = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), done[:, :-1]], 1)
    now = {**seen[:, :-1].to_dict(), "action": ACTION.expand(rows, time, 2).rand(), "is_init": first}
    rest = {"reward": torch.zeros(rows, time, 1), "terminated": done, "done": done}
    return TensorDict({**now, "next": {**seen[:, 1:].to_dict(), **rest}}, [rows, time])


@pytest.mark.parametrize("shown", [MIXED, SHOWN], ids=["proprioception", "image"])
def test_a_dream_feeds_back_what_each_patch_was_predicted(shown):
    model, data = made(shown), sequences(shown, time=5)
    flag, seen = torch.ones(2, 1, dtype=torch.bool), {key: data[key][:, 0] for key in shown.keys()}
    state = model.observe(model.initial_state([2]), data["action"][:, 0], seen, flag, None)
    window = {name: value.unsqueeze(1) for name, value in model.encode(seen).items()}
    for t in range(5):
        action = model.action_numbers(data["action"][:, max(0, t - 2) : t + 1])
        after = model.predict({name: value[:, -3:] for name, value in window.items()}, action)
        window = {name: torch.cat([value, after[name][:, -1:]], 1) for name, value in window.items()}
        state = model.imagine(state, data["action"][:, t], None).state
        torch.testing.assert_close(model.features(state), window["window"][:, -1].flatten(1), rtol=1e-4, atol=1e-5)
        if shown is MIXED:
            wanted = window["window_proprio"][:, -1]
            torch.testing.assert_close(model.proprio(state), wanted.flatten(1), rtol=1e-4, atol=1e-5)
            assert t == 0 or (wanted.std(1) > 0).all()  # of each patch its own


def error(found, seen, at):
    return sum((found[name][:, at - 1] - seen[name][:, at]).square().flatten(1).mean(1) for name in seen)


@pytest.mark.parametrize("prefix", [0, 1])
def test_the_loss_is_that_of_real_frames_and_of_one_more_in_a_row(prefix):
    model, data = made(), sequences(time=3)
    loss = JEPAWMLoss(model)
    while int(torch.randint(2, (), generator=loss.generator.manual_seed(loss._seed))) != prefix:
        loss._seed += 1
    loss.generator.manual_seed(loss._seed)
    out = loss(data)
    frames = {key: torch.cat([data[key], data["next", key][:, -1:]], 1) for key in MIXED.keys()}
    seen, action = model.encode(frames), model.action_numbers(data["action"])
    found = model.predict({name: value[:, :-1] for name, value in seen.items()}, action)
    forced = sum(error(found, seen, t) for t in (1, 2, 3)) / 3
    torch.testing.assert_close(out["loss_prediction"], 0.5 * forced.mean())
    row = {n: torch.cat([seen[n][:, : prefix + 1], found[n][:, prefix : prefix + 1]], 1) for n in seen}
    further = model.predict(row, action[:, : prefix + 2])
    torch.testing.assert_close(out["loss_rollout"], 0.5 * error(further, seen, prefix + 2).mean())
    out["loss_rollout"].backward()
    assert model.predictor.out.weight.grad is not None
    assert all(p.grad is None for p in model.encoder.parameters())


def test_what_a_row_reads_has_no_gradient():
    model, data = made(), sequences(time=3)
    out = JEPAWMLoss(model)(data)
    (slope,) = torch.autograd.grad(out["loss_rollout"], [model.proprio_encoder.weight], allow_unused=True)
    assert slope is None
    (slope,) = torch.autograd.grad(out["loss_prediction"], [model.proprio_encoder.weight])
    assert slope.abs().sum() > 0


def test_windows_that_hold_the_end_of_an_episode_are_left_out():
    model, data = made(rollout=0), sequences(time=6, ends=(1,))
    kept = torch.stack([data[0, 3:], data[1, :3], data[1, 3:]])
    torch.testing.assert_close(model.objective()(data)["loss_prediction"], model.objective()(kept)["loss_prediction"])
    assert "loss_rollout" not in model.objective()(data).keys()


def test_a_batch_is_learned_while_the_encoder_rests():
    model, data = made(), sequences()
    model.prepare(data)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    loss = model.objective()
    optimizer, seen = loss.make_optimizer(lr=0.05), []
    for _ in range(12):
        optimizer.zero_grad()
        out = loss(data)
        total = out["loss_prediction"] + out["loss_rollout"]
        total.backward()
        optimizer.step()
        seen.append(float(total.detach()))
    assert seen[-1] < 0.9 * seen[0]
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_goals_weigh_proprioception_beside_features():
    model, data = made(), sequences(rows=3)
    goal = {key: data[key][0, 4] for key in MIXED.keys()}
    reward = GoalReward(model, goal, terms=[GoalTerm(model.features), GoalTerm(model.proprio, weight=0.1)])
    seen = {key: data[key][:, 4] for key in goal}
    state = model.observe(
        model.initial_state([3]), model.null_action([3]), seen, torch.ones(3, 1, dtype=torch.bool), None
    )
    paid = reward(state, model.null_action([3]), state)
    assert paid[0].abs() < 1e-6 and (paid[1:] < -1e-3).all()


def test_the_papers_sizes_are_built_without_memory():
    shown = Composite(camera=Bounded(0, 255, (224, 224, 3), dtype=torch.uint8), place=MIXED["position"])
    with torch.device("meta"):
        model = JEPAWM(JEPAWMConfig.simulation(), shown, ACTION)
    assert model.state_spec["window"].shape == (3, 256, 384)
    assert model.predictor.blocks[0].attention.heads == 16 and model.predictor.norm.weight.shape == (400,)


def test_a_row_longer_than_a_window_is_refused():
    with pytest.raises(ValueError, match="rollout=3"):
        made(rollout=3).objective()
