"""Terms against collapse: laws and refusals."""

import pytest
import torch
from torch import nn

from tests.support.parts import assert_inputs_untouched
from wmcomponents.functional import (
    EppsPulley,
    off_diagonal_covariance,
    random_directions,
    sigreg,
    std_hinge,
    temporal_similarity,
    temporal_straightening,
)
from wmcomponents.objectives import (
    BatchedCharacteristicSlicing,
    InverseDynamics,
    LeJEPA,
    MeanVICReg,
    PLDMRegularizer,
    SIGReg,
    TemporalSimilarity,
    TemporalStraightening,
    Together,
    VarianceCovariance,
    VICReg,
)

SEQUENCES = {
    "variance": VarianceCovariance,
    "tokens": lambda: VarianceCovariance(tokens_are_samples=True, only_first=True),
    "similarity": TemporalSimilarity,
    "straightening": TemporalStraightening,
    "inverse": lambda: InverseDynamics(nn.Linear(24, 2), next_first=True),
    "sigreg": lambda: SIGReg(directions=16),
    "pldm": PLDMRegularizer,
    "together": lambda: Together([VarianceCovariance(), SIGReg(directions=16)]),
}
VIEWS = {
    "vicreg": VICReg,
    "mean": MeanVICReg,
    "bcs": lambda: BatchedCharacteristicSlicing(directions=16),
    "lejepa": lambda: LeJEPA(0.5, 16),
}
AGAINST_CONSTANTS = ("variance", "tokens", "sigreg", "pldm", "together")


@pytest.mark.parametrize("build", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("tokens", [(), (3,)])
def test_terms_of_sequences_have_their_names_and_a_gradient(build, tokens):
    torch.manual_seed(0)
    part = build()
    embed = torch.randn(5, 4, *tokens, 12 // (3 if tokens else 1), requires_grad=True)
    action = torch.randn(5, 3, 2)
    terms = part(embed, action)
    assert tuple(terms) == part.names and all(term.ndim == 0 and term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    assert embed.grad.isfinite().all() and embed.grad.abs().sum() > 0
    order = torch.randperm(5)
    if "distribution" not in part.names:  # which draws directions
        for name, term in part(embed.detach()[order], action[order]).items():
            torch.testing.assert_close(term, terms[name].detach())


@pytest.mark.parametrize("name", AGAINST_CONSTANTS)
def test_embeddings_that_are_all_alike_cost_more_than_normal_ones(name):
    torch.manual_seed(0)
    part, normal = SEQUENCES[name](), torch.randn(512, 3, 4)
    alike = normal[:1, :1].expand(512, 3, 4)
    assert sum(part(alike).values()) > 3 * sum(part(normal).values())


@pytest.mark.parametrize("build", VIEWS.values(), ids=VIEWS)
def test_terms_of_views_are_symmetric_and_grow_when_views_part_or_collapse(build):
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    near, far, alike = x + 0.01 * torch.randn_like(x), x + torch.randn_like(x), torch.zeros(256, 4)

    def cost(a, b):
        return float(sum(build()(a, b).values()))

    assert cost(x, near) == pytest.approx(cost(near, x), rel=1e-5)
    assert cost(x, far) > cost(x, near) and cost(alike, alike) > cost(x, near)
    assert_inputs_untouched(lambda a, b: tuple(build()(a, b).values()), x, near)


def test_directions_of_slicing_go_on_where_they_were_saved():
    torch.manual_seed(0)
    x, y = torch.randn(2, 8, 3)
    loss, other = (BatchedCharacteristicSlicing(directions=4) for _ in range(2))
    loss(x, y)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(loss(x, y)["distribution"], other(x, y)["distribution"])


def test_knots_on_half_the_line_are_those_on_the_whole():
    x = torch.randn(7, 5, 2)
    torch.testing.assert_close(EppsPulley(17, 3.0)(x), EppsPulley(33, 3.0, folded=False)(x))


def test_the_statistic_of_normal_samples_is_of_the_order_of_one_over_their_number():
    generator = torch.Generator().manual_seed(0)
    directions = random_directions(8, 64, generator)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(64))
    z = torch.randn(4096, 8, generator=generator)
    normal = float(4096 * sigreg(z, directions))
    assert 0.1 < normal < 3
    for other in (z + 0.2, 1.2 * z, z.sign(), z / z.norm(dim=1, keepdim=True)):
        assert 4096 * sigreg(other, directions) > 5 * normal


def test_hinges_and_covariances_are_those_worked_out_by_hand():
    x = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]])
    assert float(std_hinge(x, margin=3.0, eps=0.0)) == pytest.approx((2.0 + 1.0) / 2)
    assert float(off_diagonal_covariance(x)) == pytest.approx(2 * 2.0**2)
    assert float(off_diagonal_covariance(x + 5.0)) == pytest.approx(2 * 2.0**2)
    assert float(off_diagonal_covariance(x + 5.0, centred=True)) > 100
    straight = torch.arange(4.0).unsqueeze(-1) * torch.ones(3)
    assert float(temporal_straightening(straight)) == pytest.approx(-1.0)
    assert float(temporal_similarity(straight)) == 1.0


def test_too_few_samples_missing_actions_and_names_given_twice_are_refused():
    with pytest.raises(ValueError, match="at least 2 embeddings"):
        VICReg()(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="at least 2 embeddings"):
        TemporalSimilarity()(torch.zeros(4, 1, 3))
    with pytest.raises(ValueError, match="at least 3 embeddings"):
        TemporalStraightening()(torch.zeros(4, 2, 3))
    for action in (None, torch.zeros(4, 3, 2)):
        with pytest.raises(ValueError, match="the 2 actions between"):
            InverseDynamics(nn.Linear(6, 2))(torch.zeros(4, 3, 3), action)
    with pytest.raises(ValueError, match="name their terms differently"):
        Together([SIGReg(), SIGReg()])
    with pytest.raises(ValueError, match="share of the distribution"):
        LeJEPA(1.5)
    for bad in ({"knots": 1}, {"limit": 0.0}):
        with pytest.raises(ValueError, match="at least 2 knots"):
            EppsPulley(**bad)
