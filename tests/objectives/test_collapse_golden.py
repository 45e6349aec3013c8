"""Terms against collapse: the numbers of their authors' own codes."""

import pytest
import torch

from tests.support.golden_features import close, load
from wmcomponents.functional import EppsPulley, pldm_terms, sigreg, temporal_straightening
from wmcomponents.objectives import (
    BatchedCharacteristicSlicing,
    InverseDynamics,
    MeanVICReg,
    PLDMRegularizer,
    SIGReg,
    TemporalSimilarity,
    Together,
    VarianceCovariance,
    VICReg,
)


def test_vicreg_is_its_authors_with_its_gradients():
    info, tensors, _ = load("vicreg_original")
    x, y = (tensors[name].requires_grad_() for name in ("in.z1", "in.z2"))
    terms = VICReg()(x, y)
    sum(terms.values()).backward()
    for name, weight, official in (("invariance", 25, "repr"), ("variance", 25, "std"), ("covariance", 1, "cov")):
        close(info, terms[name] / weight, tensors[f"out.{official}_loss"])
    close(info, sum(terms.values()), tensors["out.loss"])
    close(info, x.grad, tensors["grad.z1"])
    close(info, y.grad, tensors["grad.z2"])


def test_eb_jepas_vicreg_is_its_own():
    info, tensors, _ = load("vicreg_eb_jepa")
    terms = MeanVICReg()(tensors["in.z1"], tensors["in.z2"])
    for name, official in (("invariance", "invariance"), ("variance", "var"), ("covariance", "cov")):
        close(info, terms[name], tensors[f"out.{official}_loss"])
    close(info, sum(terms.values()), tensors["out.loss"])


def test_bcs_draws_new_directions_at_every_call():
    info, tensors, _ = load("bcs_eb_jepa")
    loss = BatchedCharacteristicSlicing(info["config"]["lmbd"], info["config"]["num_slices"])
    first, second = (loss(tensors["in.z1"], tensors["in.z2"]) for _ in range(2))
    close(info, first["invariance"], tensors["out.inv_step0"])
    close(info, first["distribution"] / info["config"]["lmbd"], tensors["out.bcs_step0"])
    close(info, sum(first.values()), tensors["out.loss_step0"])
    close(info, sum(second.values()), tensors["out.loss_step1"])


@pytest.mark.parametrize("tokens,first", [(False, False), (False, True), (True, False), (True, True)])
def test_eb_jepas_regularizer_is_put_together_from_parts(tokens, first):
    info, tensors, weights = load("eb_jepa_regularizer")
    config, name = info["config"], f"out.{'spatial' if tokens else 'flat'}_{'first' if first else 'all'}"
    x = tensors["in.x"]  # channels and places before and behind the time
    embed = x.permute(0, 2, 3, 4, 1).flatten(2, 3) if tokens else x.transpose(1, 2).flatten(2)
    head = torch.nn.Linear(48, 2)
    head.load_state_dict({key.removeprefix("idm.l."): value for key, value in weights.items()})
    spread = VarianceCovariance(config["std_coeff"], config["cov_coeff"], only_first=first, tokens_are_samples=tokens)
    terms = spread(embed)
    flat = x.transpose(1, 2).flatten(2)
    moving = Together([TemporalSimilarity(config["sim_coeff_t"]), InverseDynamics(head, config["idm_coeff"])])
    terms |= moving(flat, tensors["in.actions"].transpose(1, 2)[:, :-1])
    for ours, coefficient, official in (
        ("covariance", "cov_coeff", "cov_loss"),
        ("variance", "std_coeff", "std_loss"),
        ("similarity", "sim_coeff_t", "sim_loss_t"),
        ("inverse_dynamics", "idm_coeff", "idm_loss"),
    ):
        close(info, terms[ours] / config[coefficient], tensors[f"{name}.{official}"])
    close(info, sum(terms.values()), tensors[f"{name}.total"])


def test_pldms_terms_are_its_own_with_their_gradient():
    info, tensors, _ = load("pldm_losses")
    z, weights = tensors["in.z"].requires_grad_(), info["config"]["weights"]
    for name, term in pldm_terms(z)._asdict().items():
        close(info, term, tensors[f"out.{name}_loss"])
    close(info, torch.nn.functional.mse_loss(tensors["in.a_pred"], tensors["in.a_target"]), tensors["out.idm_loss"])
    close(info, temporal_straightening(z), tensors["out.temp_straight"])
    total = sum(PLDMRegularizer(**{name: weights[name] for name in PLDMRegularizer.names})(z).values())
    close(info, total, tensors["out.weighted_no_pred"])
    total.backward()
    close(info, z.grad, tensors["grad.z"])


def test_sigreg_is_lewms_with_its_gradient():
    info, tensors, _ = load("sigreg_lewm")
    z = tensors["in.z"].requires_grad_()
    loss = z.shape[1] * sigreg(z, tensors["in.A"])
    loss.backward()
    close(info, loss, tensors["out.loss"])
    close(info, z.grad, tensors["grad.z"])
    knots, weights = EppsPulley().at()
    close(info, knots, tensors["out.t"])
    close(info, weights * (-0.5 * knots.square()).exp(), tensors["out.weights"])
    torch.manual_seed(0)
    part = SIGReg(1.0, info["config"]["num_proj"])
    close(info, part(z.transpose(0, 1))["distribution"], tensors["out.loss"])
