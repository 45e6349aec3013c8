"""An ensemble of probabilistic networks: the authors' numbers, and its laws."""

import pytest
import torch

from tests.support.golden_vectors import load
from wmcomponents.dynamics import GaussianMLPEnsemble


@pytest.fixture
def official():
    info, tensors = load("mbrl_gaussian_mlp")
    ensemble = GaussianMLPEnsemble(5, 3, members=4, units=12, layers=3, act="relu", learn_bounds=True)
    state = {key.removeprefix("state_dict."): value for key, value in tensors.items() if key.startswith("state_dict.")}
    names = {f"hidden_layers.{n}.0": f"hidden.{n}" for n in range(3)} | {"mean_and_logvar": "out"}
    own = {"min_log_var": state["min_logvar"][0], "max_log_var": state["max_logvar"][0]}
    for theirs, ours in names.items():
        own[f"{ours}.weight"] = state[f"{theirs}.weight"].transpose(1, 2)
        own[f"{ours}.bias"] = state[f"{theirs}.bias"].squeeze(1)
    ensemble.load_state_dict(own)
    tolerance = {name: info["tolerance"][name] for name in ("rtol", "atol")}
    return ensemble, tensors, lambda found, name: torch.testing.assert_close(found, tensors[name], **tolerance)


def test_predictions_loss_and_scores_are_the_authors(official):
    ensemble, tensors, same = official
    with torch.no_grad():
        mean, log_var = ensemble(tensors["in.x"])
        same(mean, "out.mean_bcast"), same(log_var, "out.logvar_bcast")
        mean, log_var = ensemble(tensors["in.x_ens"])
        same(mean, "out.mean"), same(log_var, "out.logvar")
        same(ensemble.loss(tensors["in.x_ens"], tensors["in.y"]), "out.nll_loss")
        scores = tensors["out.eval_score"]
        torch.testing.assert_close(
            (ensemble(tensors["in.x"])[0] - tensors["in.y"]).square(), scores, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(ensemble.errors(tensors["in.x"], tensors["in.y"]), scores.mean((1, 2)))


def test_propagation_by_fixed_members_is_the_authors(official):
    """Theirs shuffles the rows and gives each member an equal share; ours names each row's member."""
    ensemble, tensors, same = official
    perm, member = tensors["in.perm"], torch.empty(8, dtype=torch.int64)
    with torch.no_grad():
        member[perm] = torch.arange(4).repeat_interleave(2)
        mean, log_var = ensemble.assigned(tensors["in.x"], member)
        same(mean, "out.fixed_mean"), same(log_var, "out.fixed_logvar")
        elite = torch.tensor([2, 0])
        member[perm] = elite.repeat_interleave(4)
        mean, log_var = ensemble.assigned(tensors["in.x"], member)
        same(mean, "out.fixed_mean_elite20"), same(log_var, "out.fixed_logvar_elite20")
        mean, log_var = ensemble.expected(tensors["in.x"], elite)
        same(mean, "out.expectation_mean_elite20"), same(log_var, "out.expectation_logvar_elite20")


def test_members_that_are_equal_agree_and_others_do_not():
    torch.manual_seed(0)
    ensemble = GaussianMLPEnsemble(2, 3, members=4, units=8, layers=2)
    x = torch.randn(6, 2)
    assert (ensemble.disagreement(ensemble(x)[0]) > 0).all()
    with torch.no_grad():
        for parameter in (*ensemble.hidden.parameters(), *ensemble.out.parameters()):
            parameter.copy_(parameter[:1].clone().expand_as(parameter))
    assert not ensemble.disagreement(ensemble(x)[0]).any()
    assert not ensemble.disagreement(torch.randn(4, 5, 3), members=[1]).any()


def test_it_learns_how_uncertain_data_are_and_knows_its_best_members():
    torch.manual_seed(0)
    ensemble = GaussianMLPEnsemble(1, 1, members=3, units=16, layers=2)
    x = torch.rand(512, 1) * 2 - 1
    spread = torch.where(x > 0, 0.5, 0.05)
    target = x.sin() + spread * torch.randn_like(x)
    optimizer = torch.optim.Adam(ensemble.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        ensemble.loss(x, target).backward()
        optimizer.step()
    with torch.no_grad():
        _, log_var = ensemble(torch.tensor([[-0.5], [0.5]]))
    std = (0.5 * log_var).exp().mean(0).squeeze()
    assert 0.03 < std[0] < 0.12 and 0.35 < std[1] < 0.7
    with torch.no_grad():
        ensemble.out.bias[1, 0] += 1.0
    assert 1 not in ensemble.elite(x, x.sin(), 2).tolist()
    with pytest.raises(ValueError, match="1 to 3"):
        ensemble.elite(x, target, 4)


def test_bounds_hold_softly_and_are_learned_only_where_asked():
    ensemble = GaussianMLPEnsemble(1, 2, members=2, units=4, layers=1, bounds=(-2.0, 1.0))
    with torch.no_grad():
        ensemble.out.bias[:, 2:] = torch.tensor([-50.0, 50.0])
        _, log_var = ensemble(torch.zeros(1, 1))
    assert log_var.min() >= -2.0 and log_var.max() <= 1.2
    assert not ensemble.min_log_var.requires_grad
    assert GaussianMLPEnsemble(1, 2, learn_bounds=True).max_log_var.requires_grad
