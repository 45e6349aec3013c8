"""The world model of numbers around an ensemble of probabilistic networks: the authors' numbers, and its laws."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.drive import actions, some_states
from tests.support.golden_vectors import load
from tests.support.models import IMAGE
from tests.support.worlds import transitions
from wmcomponents.dream import Disagreement, Halt, Penalty, PredictedSpread, Simulator, Uncertainty
from wmcomponents.functional import max_pairwise_distance
from wmcomponents.models import ProbabilisticEnsemble, ProbabilisticEnsembleConfig, all_rows
from wmcomponents.models.ensemble.probabilistic.objective import ProbabilisticEnsembleLoss
from wmcomponents.models.loading import load as load_model
from wmcomponents.testing import check_world_model
from wmcomponents.world_model import CapabilityError

SPECS = Composite(observation=Unbounded(3)), Bounded(-2, 2, (1,))


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    return ProbabilisticEnsemble(ProbabilisticEnsembleConfig.tiny(units=16, **changes), *SPECS)


@pytest.fixture
def official():
    """A model of two observed numbers and three actions, whose members are the authors'."""
    info, tensors = load("mbrl_gaussian_mlp")
    sizes = {"members": 4, "elites": 4, "units": 12, "layers": 3, "act": "relu", "propagation": "TSinf"}
    specs = Composite(observation=Unbounded(2)), Unbounded(3)
    model = ProbabilisticEnsemble(ProbabilisticEnsembleConfig().vary(**sizes), *specs)
    state = {key.removeprefix("state_dict."): value for key, value in tensors.items() if key.startswith("state_dict.")}
    names = {f"hidden_layers.{n}.0": f"hidden.{n}" for n in range(3)} | {"mean_and_logvar": "out"}
    own = {"min_log_var": state["min_logvar"][0], "max_log_var": state["max_logvar"][0]}
    for theirs, ours in names.items():
        own[f"{ours}.weight"] = state[f"{theirs}.weight"].transpose(1, 2)
        own[f"{ours}.bias"] = state[f"{theirs}.bias"].squeeze(1)
    model.dynamics.load_state_dict(own)
    tolerance = {name: info["tolerance"][name] for name in ("rtol", "atol")}
    return model, tensors, lambda found, wanted: torch.testing.assert_close(found, wanted, **tolerance)


@torch.no_grad()
def test_what_members_predict_is_the_authors(official):
    model, tensors, same = official
    x = tensors["in.x"]
    state = {"numbers": x[:, :2], "member": torch.zeros(8, 1, dtype=torch.int64)}
    mean, log_var = (tensors[f"out.{name}_bcast"].movedim(0, 1) for name in ("mean", "logvar"))
    seen, reward = (model.predict_members(state, x[:, 2:], of) for of in ("observation", "reward"))
    same(seen.mean, x[:, None, :2] + mean[..., :2]), same(seen.std, (0.5 * log_var[..., :2]).exp())
    same(reward.mean, mean[..., 2:]), same(reward.std, (0.5 * log_var[..., 2:]).exp())


@torch.no_grad()
def test_a_dream_of_fixed_members_is_the_authors(official):
    model, tensors, same = official
    x, member = tensors["in.x"], torch.empty(8, 1, dtype=torch.int64)
    member[tensors["in.perm"], 0] = torch.arange(4).repeat_interleave(2)
    noise = {"outcome": torch.randn(8, 3), "choice_of_member": torch.rand(8, 1)}
    outcome = tensors["out.fixed_mean"] + (0.5 * tensors["out.fixed_logvar"]).exp() * noise["outcome"]
    after, reward, cont = model.imagine({"numbers": x[:, :2], "member": member}, x[:, 2:], noise)
    same(after["numbers"], x[:, :2] + outcome[:, :2]), same(reward, outcome[:, 2:])
    assert cont is None and torch.equal(after["member"], member)


@torch.no_grad()
def test_the_loss_is_the_authors(official):
    model, tensors, same = official
    x, y = tensors["in.x"], tensors["in.y"]
    data = steps(*(part.unsqueeze(1) for part in (x[:, :2], x[:, :2] + y[:, :2], x[:, 2:], y[:, 2:])))
    loss = ProbabilisticEnsembleLoss(model, rows=all_rows)
    out = loss(data)
    mean, log_var = tensors["out.mean_bcast"], tensors["out.logvar_bcast"]
    likelihood = ((mean - y).square() * (-log_var).exp() + log_var).mean((1, 2)).sum()
    bounds = 0.01 * (model.dynamics.max_log_var - model.dynamics.min_log_var).sum()
    same(out["loss_likelihood"], likelihood), same(out["loss_bounds"], bounds)
    same(out["loss_likelihood"] + out["loss_bounds"], model.dynamics.loss(x, y))


@pytest.mark.parametrize("propagation", ["TS1", "TSinf"])
def test_it_keeps_the_protocol(propagation):
    assert check_world_model(tiny(propagation=propagation)).held


def test_a_member_is_drawn_of_the_elites_once_or_at_each_step():
    stays = {}
    for propagation in ("TS1", "TSinf"):
        model = tiny(elites=2, propagation=propagation)
        model.elites.copy_(torch.tensor([4, 1]))
        simulator = Simulator(model, batch_size=64, termination="off", seed=0)
        simulator.reset()
        first = simulator.state["member"]
        assert set(first.flatten().tolist()) == {1, 4}
        simulator.step(actions(model, 64))
        stays[propagation] = torch.equal(simulator.state["member"], first)
        assert set(simulator.state["member"].flatten().tolist()) == {1, 4}
    assert stays == {"TS1": False, "TSinf": True}


def test_equal_members_disagree_by_nothing_and_still_say_how_noisy_the_world_is():
    model = tiny()
    state, action = some_states(model, 6), actions(model, 6)
    distance, spread = Disagreement(max_pairwise_distance), PredictedSpread()
    assert (distance(model, state, action) > 0).all()
    with torch.no_grad():
        for layer in (*model.dynamics.hidden, model.dynamics.out):
            for parameter in layer.parameters():
                parameter.copy_(parameter[:1].clone().expand_as(parameter))
    assert distance(model, state, action).max() < 1e-6
    assert (spread(model, state, action) > 0).all()


def steps(here, after, action, reward):
    return transitions({"observation": here}, {"observation": after}, action, reward)


def linear_world(count, generator):
    """x' = 0.9 x + 0.3 a, and the reward is -x'^2; seen where x is above 0."""
    x = torch.rand(count, 1, 3, generator=generator)
    a = 4 * torch.rand(count, 1, 1, generator=generator) - 2
    after = 0.9 * x + 0.3 * a + 0.01 * torch.randn(count, 1, 3, generator=generator)
    return steps(x, after, a, -after.square().sum(-1, keepdim=True))


def test_it_learns_a_world_and_knows_where_it_has_not_been():
    generator = torch.Generator().manual_seed(0)
    model = tiny()
    train, held_out = linear_world(512, generator), linear_world(128, generator)
    model.prepare(train)
    loss = model.objective()
    optimizer = loss.make_optimizer(3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        out = loss(train)
        (out["loss_likelihood"] + out["loss_bounds"]).backward()
        optimizer.step()
    assert out["error"] < 0.02
    errors = model.dynamics.errors(*(part.flatten(0, -2) for part in scaled(model, held_out)))
    assert torch.equal(model.choose_elites(held_out), errors.argsort()[:4]) and torch.equal(
        model.elites, errors.argsort()[:4]
    )
    action = torch.zeros(2, 1)
    state = {"numbers": torch.tensor([[0.5] * 3, [-3.0] * 3]), "member": torch.zeros(2, 1, dtype=torch.int64)}
    after = model.imagine(state, action, None).state["numbers"]
    torch.testing.assert_close(after[0], torch.full((3,), 0.45), atol=0.05, rtol=0)
    here, elsewhere = Disagreement()(model, state, action)
    assert elsewhere > 20 * here


def scaled(model, data):
    seen = {"observation": data["observation"]}, data["action"], {"observation": data["next", "observation"]}
    inputs, target = model.pairs(*seen, data["next", "reward"])
    return model.inputs(inputs), model.targets(target)


def test_a_penalty_by_its_spread_and_a_halt_by_its_distance():
    model = tiny()
    for uncertainty in (
        Uncertainty(PredictedSpread(), Penalty(2.0)),
        Uncertainty(Disagreement(max_pairwise_distance), halt=Halt(1e-9, -7.0)),
    ):
        simulator = Simulator(model, batch_size=4, termination="off", seed=0, uncertainty=uncertainty)
        simulator.reset()
        step = simulator.step(actions(model, 4))
        assert bool(step.terminated.all()) is (uncertainty.halt is not None)
    assert (step.reward == -7).all()


def test_it_is_saved_and_loaded(tmp_path):
    model = tiny().eval()
    model.elites.copy_(torch.tensor([3, 0, 1, 4]))
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again) is ProbabilisticEnsemble and again.config == model.config
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_what_it_cannot_model_is_refused():
    with pytest.raises(ValueError, match=r"models numbers, and \['pixels'\] are none.*Ensemble\.of"):
        ProbabilisticEnsemble("tiny", IMAGE, OneHot(2))
    with pytest.raises(ValueError, match="elites are 1 to 5"):
        tiny(elites=6)
    with pytest.raises(CapabilityError, match="termination='off'"):
        Simulator(tiny())
    with pytest.raises(ValueError, match="members predict one of"):
        tiny().predict_members(tiny().initial_state((1,)), tiny().null_action((1,)), "pixels")
