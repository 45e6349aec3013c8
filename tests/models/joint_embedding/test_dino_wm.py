"""DINO-WM as a world model: its window, its loss, what it refuses."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.parts import scramble
from wmcomponents.dream import GoalReward, GoalTerm
from wmcomponents.dynamics import AsTokens, DINOWMPredictor, InChannels
from wmcomponents.encoders import FrozenEncoder
from wmcomponents.models import DINOWM, DINOWMLoss
from wmcomponents.testing import check_world_model

SHOWN = Composite(camera=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), position=Unbounded(3))
ACTION = Bounded(-1, 1, (2,))
SMALL = {"depth": 1, "heads": 2, "head_dim": 4, "hidden": 16}


def made(joining=InChannels, size=2) -> DINOWM:
    torch.manual_seed(0)
    predictor = DINOWMPredictor(4, 8, 3, 2, embedded=size, joining=joining, **SMALL)
    return scramble(DINOWM(FrozenEncoder(nn.Conv2d(3, 8, 8, 8)), predictor, SHOWN, ACTION)).eval()


def sequences(rows=2, time=7, ends=()) -> TensorDict:
    torch.manual_seed(1)
    seen = SHOWN.expand(rows, time + 1).rand()
    done = torch.zeros(rows, time, 1, dtype=torch.bool)
    done[0, list(ends)] = True
    first = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), done[:, :-1]], 1)
    now = {**seen[:, :-1].to_dict(), "action": ACTION.expand(rows, time, 2).rand(), "is_init": first}
    rest = {"reward": torch.zeros(rows, time, 1), "terminated": done, "done": done}
    return TensorDict({**now, "next": {**seen[:, 1:].to_dict(), **rest}}, [rows, time])


@pytest.mark.parametrize("joining,size", [(InChannels, 2), (AsTokens, 8)])
def test_it_follows_the_protocol(joining, size):
    check_world_model(made(joining, size))


@pytest.mark.parametrize("joining,size", [(InChannels, 2), (AsTokens, 8)])
def test_a_dream_is_the_predictors_own_rollout(joining, size):
    model, data = made(joining, size), sequences(time=6)
    predictor = model.predictor
    seen = {key: data[key][:, :2] for key in ("camera", "position")}
    state = model.initial_state([2])
    for t in range(2):
        frame = {key: value[:, t] for key, value in seen.items()}
        state = model.observe(state, data["action"][:, max(0, t - 1)], frame, torch.full((2, 1), t == 0), None)
    assert state["filled"].tolist() == [[2], [2]]
    embed = model.encoder.compute(seen["camera"])
    rolled = predictor.rollout(embed, seen["position"], data["action"][:, :5])
    for t in range(1, 5):
        state = model.imagine(state, data["action"][:, t], None).state
        parts = predictor.joining.part(rolled[:, t + 1])
        torch.testing.assert_close(model.features(state), parts.visual.flatten(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.proprio(state), parts.proprio, rtol=1e-4, atol=1e-5)
        assert int(state["filled"][0]) == min(3, t + 2)


def test_the_loss_is_that_of_whole_windows_teacher_forced():
    model, data = made(), sequences(time=7, ends=(1,))
    loss = DINOWMLoss(model)
    out = loss(data)
    losses = []
    for row, start in ((0, 3), (1, 0), (1, 3)):  # the first window of row 0 holds the end of an episode
        window = data[row, start : start + 3]
        frames = {key: torch.cat([window[key], window["next", key][-1:]]) for key in ("camera", "position")}
        visual, proprio = model.encode(frames)
        tokens = model.predictor.tokens(visual[:3], frames["position"][:3], window["action"])
        found = model.predictor.transformer(tokens)
        target = torch.cat([visual[1:], proprio[1:, None].expand(-1, 4, -1)], -1)
        losses.append((found[..., :10] - target).square().mean())
    torch.testing.assert_close(out["loss_prediction"], torch.stack(losses).mean())
    out["loss_prediction"].backward()
    gradients = {name: p.grad is not None for name, p in loss.named_parameters()}
    assert all(got == ("encoder.backbone" not in name) for name, got in gradients.items())


def test_a_batch_is_learned_while_the_encoder_rests():
    model, data = made(), sequences()
    model.prepare(data)
    before = model.encoder.backbone.weight.clone()
    loss = model.objective()
    optimizer, seen = loss.make_optimizer(lr=0.1), []
    for _ in range(20):
        optimizer.zero_grad()
        total = loss(data)["loss_prediction"]
        total.backward()
        optimizer.step()
        seen.append(float(total.detach()))
    assert seen[-1] < 0.7 * seen[0] and torch.equal(model.encoder.backbone.weight, before)


def test_goals_weigh_proprioception_beside_features():
    model, data = made(), sequences(rows=3)
    goal = {key: data[key][0, 4] for key in ("camera", "position")}
    reward = GoalReward(model, goal, terms=[GoalTerm(model.features), GoalTerm(model.proprio, weight=0.5)])
    flag = torch.ones(3, 1, dtype=torch.bool)
    state = model.observe(
        model.initial_state([3]), model.null_action([3]), {k: data[k][:, 4] for k in goal}, flag, None
    )
    paid = reward(state, model.null_action([3]), state)
    assert paid[0].abs() < 1e-6 and (paid[1:] < -1e-3).all()


def test_observations_and_sizes_that_do_not_fit_are_refused():
    encoder = FrozenEncoder(nn.Conv2d(3, 8, 8, 8))
    predictor = DINOWMPredictor(4, 8, 3, 2, embedded=2, **SMALL)
    for shown in (Composite(position=Unbounded(3)), Composite(camera=SHOWN["camera"])):
        with pytest.raises(ValueError, match="one image and numbers"):
            DINOWM(encoder, predictor, shown, ACTION)
    with pytest.raises(ValueError, match="reads 3 numbers and actions of 2"):
        DINOWM(encoder, predictor, SHOWN, Bounded(-1, 1, (4,)))
