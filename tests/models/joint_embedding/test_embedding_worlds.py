"""LeWorldModel and PLDM: what is predicted, what keeps embeddings apart, how a dream goes on."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.parts import scramble
from wmcomponents.models import PLDM, LeWM, LeWMLoss, PLDMConfig, PLDMLoss, PLDMLossConfig
from wmcomponents.objectives.collapse.sequences import InverseDynamics, PLDMRegularizer, SIGReg

VECTOR, ACTION = Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,))
WINDOW = {
    "latent": 6,
    "projection": 8,
    "network.depth": 1,
    "network.heads": 2,
    "head_dim": 4,
    "network.hidden": 8,
    "encoder.units": 8,
}
KINDS = {
    "lewm": (LeWM, {}),
    "pldm": (PLDM, {"predictor": "transformer"}),
    "pldm-mlp": (PLDM, {"horizon": 3}),
    "pldm-gru": (PLDM, {"horizon": 3, "predictor": "gru"}),
}


def made(kind: str, **changes):
    torch.manual_seed(0)
    family, own = KINDS[kind]
    return scramble(family(family.config_class.tiny(**WINDOW, **own, **changes), VECTOR, ACTION)).eval()


def batch(ends=(), rows=4, time=6) -> TensorDict:
    """Sequences in which row 0 ends after the steps that are named."""
    torch.manual_seed(1)
    seen = torch.randn(rows, time + 1, 3)
    done = torch.zeros(rows, time, 1, dtype=torch.bool)
    done[0, list(ends)] = True
    first = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), done[:, :-1]], 1)
    now = {"observation": seen[:, :-1], "action": torch.rand(rows, time, 2) * 2 - 1, "is_init": first}
    rest = {"reward": torch.zeros(rows, time, 1), "terminated": done, "done": done}
    return TensorDict({**now, "next": {"observation": seen[:, 1:], **rest}}, [rows, time])


def windows(model, data):
    """Embeddings ``[8, 4, 6]`` and actions ``[8, 3, 2]`` of the windows of a batch, by hand."""
    now, after = (data[key].reshape(8, 3, -1) for key in ("observation", ("next", "observation")))
    frames = torch.cat([now, after[:, 2:]], 1)
    return model.embed({"observation": frames}), data["action"].reshape(8, 3, 2)


@pytest.mark.parametrize("kind", ["lewm", "pldm"])
def test_each_frame_is_predicted_out_of_the_real_ones_before_it(kind):
    model, data = made(kind), batch()
    found = model.objective()(data)
    embed, action = windows(model, data)
    expected = model.predictor.compute(embed[:, :3], action)
    torch.testing.assert_close(found["loss_prediction"], (expected - embed[:, 1:]).square().mean())


@pytest.mark.parametrize("kind", ["pldm-mlp", "pldm-gru"])
def test_a_predictor_of_one_frame_goes_on_from_its_own_predictions(kind):
    model, data = made(kind), batch()
    found = model.objective()(data)
    embed, action = windows(model, data)
    z, errors = embed[:, 0], []
    for t in range(3):
        z = model.predictor.compute(z, action[:, t])
        errors.append((z - embed[:, t + 1]).square().mean())
    torch.testing.assert_close(found["loss_prediction"], torch.stack(errors).mean())


def test_the_terms_against_collapse_are_those_of_the_windows():
    model, data = made("pldm", cov_t=2.0), batch()
    found = model.objective()(data)
    embed, action = windows(model, data)
    terms = PLDMRegularizer(cov_t=2.0)(embed) | InverseDynamics(model.inverse_dynamics, next_first=True)(embed, action)
    for name, term in terms.items():
        torch.testing.assert_close(found[f"loss_{name}"], term)
    model = made("lewm", directions=64)
    objective = model.objective()
    torch.manual_seed(5)
    found = objective(data)["loss_distribution"]
    torch.manual_seed(5)
    torch.testing.assert_close(found, SIGReg(0.09, 64)(windows(model, data)[0])["distribution"])


@pytest.mark.parametrize("kind", KINDS)
def test_windows_over_the_end_of_an_episode_teach_nothing_but_statistics(kind):
    model = made(kind)  # in eval mode, so that no statistic of the batch is read
    objective = model.objective()
    one, other = batch(ends=(1,)), batch(ends=(1,))
    other["observation"][0, :2] += 1.0
    other["next", "observation"][0, :2] += 1.0
    torch.manual_seed(2)
    before = objective(one)
    torch.manual_seed(2)
    after = objective(other)
    for name in (key for key in before.keys() if key.startswith("loss_")):
        torch.testing.assert_close(before[name], after[name])


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns_and_targets_keep_their_gradient(kind):
    objective = made(kind).train().objective()
    data = batch()
    seen = data["next", "observation"].requires_grad_()
    found = objective(data)
    assert set(found.keys()) == set(objective.out_keys)
    sum(value for key, value in found.items() if key.startswith("loss_")).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    assert seen.grad[:, 5].abs().sum() > 0  # nothing is predicted from the last frames: they are targets


@pytest.mark.parametrize("kind", KINDS)
def test_a_dream_reads_what_was_seen_and_then_what_it_predicted(kind):
    model, data = made(kind), batch()
    first, state = torch.ones(4, 1, dtype=torch.bool), model.initial_state([4])
    for t in range(2):
        seen = {"observation": data["observation"][:, t]}
        state = model.observe(state, data["action"][:, max(0, t - 1)], seen, first if t == 0 else ~first, None)
    embed = model.embed({"observation": data["observation"][:, :2]})
    torch.testing.assert_close(model.features(state), embed[:, 1])
    for t in range(1, 5):
        state = model.imagine(state, data["action"][:, t], None).state
        most = model.frames
        following = model.predictor.compute(embed[:, -most:], data["action"][:, max(0, t + 1 - most) : t + 1])
        embed = torch.cat([embed, following[:, -1:]], 1)
        torch.testing.assert_close(model.features(state), embed[:, -1])


def test_scales_are_fitted_once_and_actions_enter_with_unit_variance():
    model, data = made("lewm"), batch()
    model.prepare(data)
    numbers = model.action_numbers(data["action"]).flatten(0, 1)
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(2))
    assert bool(model.encoder.transform.fitted)


def test_the_sizes_are_stable_worldmodels():
    shown, action = Composite(pixels=Bounded(0, 255, (224, 224, 3), dtype=torch.uint8)), Bounded(-1, 1, (10,))
    with torch.device("meta"):
        model = LeWM("official", shown, action)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(18.0e6, rel=0.01)
    assert tuple(model.encoder.conv.network.positions.table.shape) == (257, 192)
    c = model.config.optimizer
    assert (c.lr, c.weight_decay, c.max_norm) == (5e-5, 1e-3, 1.0)


def test_a_collapse_is_told_and_terms_of_ones_own_take_the_place_of_the_configs():
    model = made("lewm")
    with torch.no_grad():
        model.projection.net[3].weight.zero_()
    found = model.objective()(batch())
    assert float(found["embedding_rank"]) <= 1.0 + 1e-4 and float(found["embedding_std"]) < 1e-5
    assert LeWMLoss(model, against=PLDMRegularizer()).out_keys[1] == "loss_std"


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        made("lewm", frames=0)
    with pytest.raises(ValueError, match="horizon is at least 1"):
        PLDMLoss(made("pldm-mlp"), PLDMLossConfig(horizon=0))
    with pytest.raises(ValueError, match="one of 'transformer', 'mlp', 'gru'"):
        PLDM(PLDMConfig.tiny(predictor="rnn"), VECTOR, ACTION)
    with pytest.raises(TypeError, match="inverse_dynamics"):
        PLDMLoss(made("lewm"))
    with pytest.raises(TypeError, match="embed"):
        LeWMLoss(nn.Linear(1, 1))
    model = made("lewm")
    state, action, first = model.initial_state([2]), model.null_action([2]), torch.ones(2, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"sees 'observation' as .* \[..., 3\]; got torch.float32 \[2, 4\]"):
        model.observe(state, action, {"observation": torch.zeros(2, 4)}, first, None)
