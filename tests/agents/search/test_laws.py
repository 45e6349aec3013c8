"""Laws that every search keeps, whatever the paper."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tabular import TabularWorld, table
from tests.support.worlds import Counter
from wmcomponents.agents.search import (
    UnscaledCompleted,
    efficientzero_search,
    efficientzero_v2_search,
    gumbel_search,
    lightzero_efficientzero_search,
    lightzero_search,
    mctx_muzero_search,
    muzero_search,
    no_value,
    uniform_prior,
    unscaled_gumbel_search,
)
from wmcomponents.agents.search.bounds import WALK
from wmcomponents.agents.search.tree import Nodes

SEARCHES = [
    muzero_search,
    mctx_muzero_search,
    lightzero_search,
    lightzero_efficientzero_search,
    efficientzero_search,
    gumbel_search,
    unscaled_gumbel_search,
    efficientzero_v2_search,
]
REUSED = [muzero_search, mctx_muzero_search, lightzero_search, gumbel_search, unscaled_gumbel_search]


def random_world(seed, states=12, actions=4):
    """A world of random tables, and what a search of it is given."""
    torch.manual_seed(seed)
    model = TabularWorld(torch.randint(states, (states, actions)), torch.randn(states, actions))
    prior, value = table(torch.randn(states, actions)), table(torch.randn(states))
    return model, {"prior": prior, "value": value, "discount": 0.9}


def planned(make, seed, roots=3, simulations=20, **options):
    model, parts = random_world(seed)
    search = make(model, simulations=simulations, **parts, **options)
    noise = search.draw([roots], torch.Generator().manual_seed(seed))
    return search, model.at(torch.arange(roots)), noise


def win_or_lose(seed, games, branches, depth):
    """Games of random results: complete trees whose leaves are won or lost by the player who moved last.

    Gives the world, the states of the first positions, and the value of each first move by minimax.
    """
    torch.manual_seed(seed)
    sizes = [branches**level for level in range(depth + 1)]
    starts = [sum(sizes[:level]) for level in range(depth + 2)]
    nodes = starts[-1]
    following = torch.arange(nodes).unsqueeze(1).expand(nodes, branches).clone()
    reward, cont = torch.zeros(nodes, branches), torch.ones(nodes, branches)
    reward, cont = reward.repeat(games, 1, 1), cont.repeat(games, 1, 1)
    for level in range(depth):
        here = torch.arange(starts[level], starts[level + 1])
        following[here] = starts[level + 1] + (here - starts[level]).unsqueeze(1) * branches + torch.arange(branches)
    last = slice(starts[depth - 1], starts[depth])
    reward[:, last] = torch.randint(2, (games, sizes[depth - 1], branches)) * 2.0 - 1
    cont[:, last] = 0
    value = reward[:, last].amax(-1)
    for _ in range(depth - 1):
        moves = -value.reshape(games, -1, branches)
        value = moves.amax(-1)
    offset = torch.arange(games).view(-1, 1, 1) * nodes
    to_play = torch.cat([torch.full((size,), level % 2) for level, size in enumerate(sizes)]).repeat(games)
    world = TabularWorld((following + offset).flatten(0, 1), reward.flatten(0, 1), cont.flatten(0, 1), to_play)
    return world, world.at(torch.arange(games) * nodes), moves.squeeze(1)


@pytest.mark.parametrize("make", [muzero_search, mctx_muzero_search, lightzero_search, gumbel_search])
@settings(max_examples=1, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_long_search_of_a_small_game_finds_the_minimax_move(make, seed):
    world, state, moves = win_or_lose(seed, games=16, branches=3, depth=3)
    search = make(world, simulations=200, discount=1.0, prior=uniform_prior, value=no_value)
    plan = search.plan(state)
    chosen = moves.gather(1, plan.edge.unsqueeze(1)).squeeze(1)
    assert torch.equal(chosen, moves.amax(1))


@pytest.mark.parametrize("make", SEARCHES)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000), simulations=st.integers(1, 30))
def test_visits_sum_to_the_budget_and_policies_to_one(make, seed, simulations):
    search, state, noise = planned(make, seed, simulations=simulations)
    plan = search.plan(state, noise=noise)
    assert torch.equal(plan.visits.sum(1), torch.full((3,), float(simulations)))
    torch.testing.assert_close(plan.policy.sum(1), torch.ones(3))
    children = plan.tree.edge_visits.sum(2)[:, 1:]
    assert torch.equal(plan.tree.visits[:, 1:], children + 1)  # each node was evaluated once
    assert torch.equal(plan.tree.size, torch.full((3,), simulations + 1))


@pytest.mark.parametrize("make", SEARCHES)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000))
def test_what_the_mask_forbids_is_never_visited(make, seed):
    search, state, noise = planned(make, seed)
    mask = torch.randint(2, (3, 4)).bool()
    mask[:, 1] = True
    plan = search.plan(state, mask=mask, noise=noise)
    assert not plan.visits[~mask].any()
    assert not plan.policy[~mask].any()
    assert mask.gather(1, plan.edge.unsqueeze(1)).all()


@pytest.mark.parametrize("make", SEARCHES)
def test_what_the_rules_forbid_is_never_visited_anywhere_in_the_tree(make):
    legal = torch.rand(12, 4) < 0.5
    legal[:, 2] = True
    search, state, noise = planned(make, 1, simulations=40, legal=lambda s: legal[s["index"].squeeze(-1)])
    tree = search.plan(state, noise=noise).tree
    index = tree.states.tables["index"].view(3, -1)
    assert not tree.edge_visits[~legal[index] & (tree.visits > 0).unsqueeze(2)].any()


@pytest.mark.parametrize("make", SEARCHES)
def test_rows_are_independent(make):
    search, state, noise = planned(make, 5)
    together = search.plan(state, noise=noise)
    for row in range(3):
        alone = noise._replace(
            root={key: value[row : row + 1] for key, value in noise.root.items()}, ties=noise.ties[row : row + 1]
        )
        plan = search.plan({key: value[row : row + 1] for key, value in state.items()}, noise=alone)
        assert torch.equal(plan.visits, together.visits[row : row + 1])
        assert torch.equal(plan.value, together.value[row : row + 1])
        assert torch.equal(plan.action, together.action[row : row + 1])


@pytest.mark.parametrize("make", SEARCHES)
def test_the_same_seed_gives_the_same_plan(make):
    search, state, noise = planned(make, 3)
    again, _, same_noise = planned(make, 3)
    first, second = search.plan(state, noise=noise), again.plan(state, noise=same_noise)
    assert torch.equal(first.tree.parent, second.tree.parent)
    assert torch.equal(first.action, second.action)


@pytest.mark.parametrize("max_depth", [None, 3])
@pytest.mark.parametrize("make", [mctx_muzero_search, gumbel_search])
def test_a_local_rule_follows_the_edges_that_it_would_choose_level_by_level(make, max_depth):
    followed, state, noise = planned(make, 8, simulations=30, max_depth=max_depth)
    chosen = planned(make, 8, simulations=30, max_depth=max_depth)[0]
    rule = chosen.selection.values if make is mctx_muzero_search else chosen.selection.completed
    assert rule.is_local
    rule.is_local = False
    mask = torch.tensor([[True, True, False, True]]).expand(3, 4)
    noise, reuse, again = noise._replace(ties=None), None, None
    for _ in range(2):  # the second search goes on with the subtree of the first
        one = followed.plan(state, mask=mask, noise=noise, reuse=reuse)
        other = chosen.plan(state, mask=mask, noise=noise, reuse=again)
        assert torch.equal(one.tree.links, other.tree.links)
        assert torch.equal(one.tree.edge_stats, other.tree.edge_stats)
        reuse, again = one.tree.subtree(one.edge), other.tree.subtree(other.edge)


@pytest.mark.parametrize("make", REUSED)
def test_a_search_that_goes_on_with_its_own_tree_equals_one_long_search(make):
    model, parts = random_world(2)
    state = model.at(torch.arange(3))
    options = {"considered": 1} if make in (gumbel_search, unscaled_gumbel_search) else {}
    short, long = (make(model, simulations=n, **options, **parts) for n in (15, 30))
    whole = long.plan(state)
    resumed = short.plan(state, reuse=short.plan(state).tree)
    torch.testing.assert_close(resumed.tree.visits, whole.tree.visits)
    torch.testing.assert_close(resumed.value, whole.value)


@pytest.mark.parametrize("make", REUSED)
def test_a_move_keeps_what_was_found_below_it(make):
    search, state, noise = planned(make, 4, simulations=25)
    plan = search.plan(state, noise=noise)
    below = plan.tree.subtree(plan.edge)
    child = plan.tree.children[:, 0].gather(1, plan.edge.unsqueeze(1))
    for table_name in ("edge_visits", "edge_q", "logits"):
        old = getattr(plan.tree, table_name)[torch.arange(3), child.squeeze(1)]
        assert torch.equal(getattr(below, table_name)[:, 0], old)
    kept = below.edge_visits[:, 0].clone()
    moved = search.searched.model.imagine(state, plan.action, None).state
    after = search.plan(moved, noise=noise, reuse=below)
    assert torch.equal(after.visits.sum(1), kept.sum(1) + 25)
    assert (after.visits >= kept).all()
    used = torch.arange(after.tree.nodes) < after.tree.size.unsqueeze(1)
    assert torch.equal(after.tree.visits[:, 1:][used[:, 1:]], (after.tree.edge_visits.sum(2) + 1)[:, 1:][used[:, 1:]])
    index = after.tree.states.tables["index"].view(3, -1)
    parent, action = after.tree.parent.clamp(min=0), after.tree.parent_action.clamp(min=0)
    expected = search.searched.model.following[index.gather(1, parent), action]
    assert torch.equal(index[:, 1:][used[:, 1:]], expected[:, 1:][used[:, 1:]])


def test_an_episode_that_begins_keeps_nothing_of_the_tree_before():
    search, state, noise = planned(mctx_muzero_search, 4)
    plan = search.plan(state, noise=noise)
    below = plan.tree.subtree(plan.edge)
    is_init = torch.tensor([[True], [False], [True]])
    mixed = search.plan(state, noise=noise, reuse=below, is_init=is_init)
    assert torch.equal(mixed.visits[::2], plan.visits[::2])
    assert torch.equal(mixed.value[::2], plan.value[::2])
    assert mixed.visits[1].sum() > plan.visits[1].sum()


@pytest.mark.parametrize("make", SEARCHES)
@pytest.mark.parametrize("max_depth", [1, 2])
def test_no_leaf_lies_below_the_depth_limit(make, max_depth):
    search, state, noise = planned(make, 6, simulations=40, max_depth=max_depth)
    plan = search.plan(state, noise=noise)
    assert plan.tree.depth.max() == max_depth
    assert torch.equal(plan.visits.sum(1), torch.full((3,), 40.0))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), max_depth=st.sampled_from([None, 3]))
def test_the_authors_walk_goes_down_by_the_last_action_first(seed, max_depth):
    search, state, noise = planned(efficientzero_search, seed, simulations=30, max_depth=max_depth)
    tree = search.plan(state, noise=noise).tree
    for row in range(3):
        stack, order = [0], []
        while stack:
            order.append(stack.pop())
            stack += [child for child in tree.children[row, order[-1]].tolist() if child >= 0]
        assert tree.extra[WALK][row, : len(order)].tolist() == order


def test_a_random_world_is_searched_with_the_noise_that_it_is_given():
    model = Counter()
    search = gumbel_search(model, simulations=12, discount=0.9, prior=uniform_prior, value=lambda s: s["count"])
    state = {"count": torch.zeros(2, 1)}
    noise = search.draw([2], torch.Generator().manual_seed(0))
    plan, again = search.plan(state, noise=noise), search.plan(state, noise=noise)
    assert torch.equal(plan.value, again.value)
    assert not torch.equal(plan.value, search.plan(state).value)
    tree = plan.tree
    leaf = tree.states.tables["count"].view(2, -1)[:, 1]
    assert torch.equal(leaf, 1 + noise.model["shake"][:, 0, 0])


def test_what_the_other_player_expects_is_lost_to_the_one_who_moves():
    world, state, _ = win_or_lose(1, games=2, branches=2, depth=3)
    value = table(torch.full((len(world.following),), 0.5))
    search = lightzero_search(world, simulations=1, discount=1.0, prior=uniform_prior, value=value)
    tree = search.plan(state).tree
    root, leaf = tree.look(tree.rows), tree.look(tree.rows + 1)
    _, mean = search.selection.values(tree, root, None)
    assert torch.equal(mean, torch.full((2, 1), -0.5))
    assert torch.equal(search.selection.values(tree, leaf, mean)[1], torch.full((2, 1), 0.5))


def test_a_prior_of_minus_infinity_is_an_action_that_cannot_be_taken():
    logits = torch.zeros(12, 4)
    logits[3:, 1] = -torch.inf
    logits[7] = -torch.inf  # nothing may be done there
    model, parts = random_world(0)
    search = muzero_search(model, simulations=30, **{**parts, "prior": table(logits)})
    tree = search.plan(model.at(torch.arange(3))).tree
    index = tree.states.tables["index"].view(3, -1)
    forbidden = (logits[index] == -torch.inf) & (index != 7).unsqueeze(2) & (tree.visits > 0).unsqueeze(2)
    assert not tree.edge_visits[forbidden].any()
    assert torch.isfinite(tree.value_sum).all()


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_values_as_they_are_change_the_policy_by_as_much_as_they_differ(share):
    search, roots, _ = planned(unscaled_gumbel_search, seed=3, weight=0.7, prior_share=share, max_depth=2)
    plan = search.plan(roots)
    tree = plan.tree
    assert bool((plan.visits > 0).all())
    expected = (share * tree.root(tree.logits) + 0.7 * tree.root(tree.edge_q)).softmax(1)
    torch.testing.assert_close(plan.policy, expected)


def test_a_policy_improved_over_and_over_ends_at_a_temperature_where_its_prior_counts_in_part():
    q, nothing = torch.tensor([[1.0, 0.4, -2.0]]), torch.zeros(1)
    improve, logits = UnscaledCompleted(weight=0.7, prior_share=0.8), torch.zeros(1, 3)
    for _ in range(100):
        nodes = Nodes(nothing.long(), logits, logits.softmax(-1), torch.ones(1, 3), q, *[nothing] * 5)
        logits = (logits + improve({}, nodes)).log_softmax(-1)
    torch.testing.assert_close(logits, (0.7 / 0.2 * q).log_softmax(-1))


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_of_the_prior_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="in \\(0, 1\\]"):
        UnscaledCompleted(prior_share=share)
