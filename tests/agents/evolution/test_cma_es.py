"""The strategy finds optima, goes on from its plain state to the bit, and touches nobody's generator."""

import numpy as np
import pytest
import torch

from wmcomponents.agents.evolution import CMAES
from wmcomponents.training.nested_state import load_nested, save_nested

pytest.importorskip("cma")


def evolved(search, fitness, generations):
    found = []
    for _ in range(generations):
        solutions = search.ask()
        search.tell(solutions, fitness(solutions))
        found.append(solutions)
    return torch.cat(found) if found else None


def turned_ellipsoid(solutions):
    """Highest where every number is 2, a hundred times as steep along one axis as along another, and turned."""
    size = solutions.shape[-1]
    turn = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    steep = torch.logspace(0, 2, size, dtype=torch.float64)
    return -(((solutions - 2.0) @ turn).square() * steep).sum(-1)


def test_it_finds_the_optimum_of_a_turned_ellipsoid():
    search = CMAES(6, population=12, sigma=0.5)
    evolved(search, turned_ellipsoid, 160)
    assert torch.allclose(search.mean, torch.full((6,), 2.0, dtype=torch.float64), atol=1e-4)
    assert search.generations == 160 and search.sigma < 0.05


@pytest.mark.parametrize(("size", "population", "before"), [(3, 8, 0), (3, 4, 1), (6, 8, 9), (80, 8, 7)])
def test_it_goes_on_from_its_saved_state_to_the_bit(tmp_path, size, population, before):
    """Of 80 numbers, the covariance is decomposed in some generations only, and at the state's own in none."""
    search, other = CMAES(size, population=population, seed=1), CMAES(size, population=population, sigma=3.0, seed=2)
    evolved(search, turned_ellipsoid, before)
    search.ask()  # of a generation that is told nothing
    save_nested(tmp_path / "state", search.state_dict())
    other.load_state_dict(load_nested(tmp_path / "state"))
    assert torch.equal(evolved(search, turned_ellipsoid, 12), evolved(other, turned_ellipsoid, 12))
    assert torch.equal(search.mean, other.mean) and search.sigma == other.sigma


def test_a_state_does_not_move_with_the_search_it_was_taken_of():
    search = CMAES(3, population=6)
    evolved(search, turned_ellipsoid, 3)
    state = search.state_dict()
    kept = {name: value.clone() for name, value in state.items() if torch.is_tensor(value)}
    evolved(search, turned_ellipsoid, 3)
    assert all(torch.equal(state[name], value) for name, value in kept.items())


def test_it_draws_from_no_generator_of_others():
    np.random.seed(5), torch.manual_seed(5)
    before = (np.random.get_state()[1].copy(), torch.get_rng_state())
    first = evolved(CMAES(4, population=6, seed=1), turned_ellipsoid, 2)
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(first, evolved(CMAES(4, population=6, seed=1), turned_ellipsoid, 2))
    assert not torch.equal(first, evolved(CMAES(4, population=6, seed=2), turned_ellipsoid, 2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": 1}, "at least 2"),
        ({"size": 20_000}, "3.2 GB"),
        ({"size": 4, "population": 3}, "at least 4"),
        ({"size": 4, "sigma": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        CMAES(**given)


def test_the_state_of_a_search_of_other_numbers_is_refused():
    with pytest.raises(ValueError, match="of 4 numbers, and there are 3"):
        CMAES(3).load_state_dict(CMAES(4).state_dict())
