"""Simulations along paths of a fixed length, as they are compiled."""

import pytest
import torch
from torchrl.data import Composite, OneHot, Unbounded

from tests.support.tabular import TabularWorld, table
from wmcomponents.agents.search import (
    CompiledSimulations,
    gumbel_search,
    mctx_muzero_search,
    muzero_search,
    unscaled_gumbel_search,
)
from wmcomponents.models import MuZero, MuZeroConfig


def a_search(make, **options):
    torch.manual_seed(0)
    model = TabularWorld(torch.randint(12, (12, 4)), torch.randn(12, 4))
    parts = {"prior": table(torch.randn(12, 4)), "value": table(torch.randn(12)), "discount": 0.9}
    return make(model, simulations=24, **parts, **options), model.at(torch.arange(3))


@pytest.mark.parametrize("make", [mctx_muzero_search, gumbel_search, unscaled_gumbel_search])
@pytest.mark.parametrize("options", [{}, {"max_depth": 1}, {"max_depth": 5}])
def test_paths_filled_up_to_a_length_find_the_same_tree(make, options):
    search, state = a_search(make, **options)
    noise = search.draw([3], torch.Generator().manual_seed(1))
    mask = torch.tensor([[True, True, False, True]] * 3)
    expected = search.plan(state, mask=mask, noise=noise)
    search.run = CompiledSimulations(disable=True)
    found = search.plan(state, mask=mask, noise=noise)
    for name in ("visits", "policy", "value", "edge"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(found.tree.links, expected.tree.links)
    assert torch.equal(found.tree.node_stats, expected.tree.node_stats)


def test_a_tree_that_is_reused_goes_on_along_filled_paths():
    search, state = a_search(gumbel_search)
    first = search.plan(state)
    below = first.tree.subtree(first.edge)
    expected = search.plan(state, reuse=below)
    search.run = CompiledSimulations(disable=True)
    assert torch.equal(search.plan(state, reuse=below).visits, expected.visits)


def test_few_lengths_are_compiled():
    lengths = []

    class Watched(CompiledSimulations):
        @staticmethod
        def _levels(needed, most):
            lengths.append(CompiledSimulations._levels(needed, most))
            return lengths[-1]

    search, state = a_search(gumbel_search)
    search.run = Watched(disable=True)
    deepest = int(search.plan(state).tree.depth.amax())
    assert lengths == sorted(lengths) and set(lengths) <= {4, 8, 16} and lengths[-1] >= deepest


def test_a_rule_that_looks_at_the_whole_tree_is_not_compiled():
    search, state = a_search(muzero_search)
    search.run = CompiledSimulations(disable=True)
    with pytest.raises(ValueError, match="local rule"):
        search.plan(state)


@pytest.mark.slow
@pytest.mark.compile
def test_searches_in_different_models_have_graphs_of_their_own():
    for config in (MuZeroConfig.tiny(past=2), MuZeroConfig.tiny()):
        model = MuZero(config, Composite(observation=Unbounded(4)), OneHot(2))
        search = gumbel_search(model, simulations=4)
        state = {**model.initial_state((2,)), "latent": torch.randn(2, 64)}
        expected = search.plan(state).visits
        search.run = CompiledSimulations(backend="eager")
        assert torch.equal(search.plan(state).visits, expected)
