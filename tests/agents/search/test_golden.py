"""Visit counts and choices of the authors' own searches on a world of tables."""

import pytest
import torch

from tests.support import golden_vectors
from tests.support.tabular import world_of
from wmcomponents.agents.search import (
    SearchNoise,
    considered_visits,
    efficientzero_search,
    efficientzero_v2_search,
    gumbel_search,
    lightzero_efficientzero_search,
    lightzero_search,
    mctx_muzero_search,
    muzero_search,
)


@pytest.mark.parametrize("name", ["mctx_muzero_puct_nonoise", "mctx_muzero_puct_dirichlet_invalid"])
def test_puct_visits_what_mctx_visits(name):
    description, vectors = golden_vectors.load(name)
    config = description["config"]
    model, parts, state = world_of(vectors, 0.97)
    search = mctx_muzero_search(
        model, simulations=config["num_simulations"], fraction=config["dirichlet_fraction"], **parts
    )
    invalid = vectors.get("in.invalid_actions")
    mask = None if invalid is None else invalid == 0
    plan = search.plan(state, mask=mask, noise=SearchNoise({"dirichlet": vectors["noise.dirichlet"]}))
    assert torch.equal(plan.visits, vectors["out.visit_counts"])
    assert torch.equal(plan.tree.parent, vectors["out.tree.parents"].long())
    assert torch.equal(plan.tree.parent_action, vectors["out.tree.action_from_parent"].long())
    assert torch.equal(plan.tree.visits, vectors["out.tree.node_visits"].float())
    assert golden_vectors.worst(plan.value.squeeze(-1), vectors["out.root_value"]) < 1e-4
    assert golden_vectors.worst(plan.policy, vectors["out.visit_probs"]) < 1e-6
    assert golden_vectors.worst(plan.tree.edge_q[:, 0], vectors["out.root_qvalues"]) < 1e-4


@pytest.mark.parametrize("name", ["mctx_gumbel_full", "mctx_gumbel_m4", "mctx_gumbel_noiseless"])
def test_gumbel_search_chooses_what_mctx_chooses(name):
    description, vectors = golden_vectors.load(name)
    config = description["config"]
    model, parts, state = world_of(vectors, 0.97)
    search = gumbel_search(
        model,
        simulations=config["num_simulations"],
        considered=config["max_num_considered_actions"],
        c_visit=config["maxvisit_init"],
        c_scale=config["value_scale"],
        **parts,
    )
    plan = search.plan(state, noise=SearchNoise({"gumbel": vectors["noise.gumbel"]}))
    assert torch.equal(plan.visits, vectors["out.visit_counts"])
    assert torch.equal(plan.edge, vectors["out.action"].long())
    assert torch.equal(plan.tree.parent, vectors["out.tree.parents"].long())
    assert torch.equal(plan.tree.visits, vectors["out.tree.node_visits"].float())
    assert golden_vectors.worst(plan.policy, vectors["out.action_weights"]) < 1e-4
    assert golden_vectors.worst(plan.value.squeeze(-1), vectors["out.root_value"]) < 1e-4


def test_sequential_halving_considers_what_mctx_considers():
    _, vectors = golden_vectors.load("mctx_sequential_halving")
    for name, expected in vectors.items():
        considered, simulations = (int(part[1:]) for part in name.split("_"))
        assert considered_visits(considered, simulations) == expected.tolist(), name


TREES = {
    "muzero_general_mcts_noise": muzero_search,
    "muzero_general_mcts_nonoise": muzero_search,
    "lightzero_muzero_mcts_nonoise": lightzero_search,
    "lightzero_efficientzero_mcts_noise": lightzero_efficientzero_search,
    "efficientzero_mcts_noise": efficientzero_search,
    "efficientzero_mcts_nonoise": efficientzero_search,
}


@pytest.mark.parametrize("name", TREES)
def test_puct_visits_what_the_authors_trees_visit(name):
    description, vectors = golden_vectors.load(name)
    config = description["config"]
    model, parts, state = world_of(vectors, config["discount"])
    horizon = {} if config.get("lstm_horizon_len") is None else {"horizon": config["lstm_horizon_len"]}
    search = TREES[name](model, simulations=config["num_simulations"], **horizon, **parts)
    noise = {} if name.endswith("nonoise") else {"dirichlet": vectors["in.dirichlet_noise"]}
    plan = search.plan(state, noise=SearchNoise(noise))
    assert torch.equal(plan.visits.long(), vectors["out.visit_counts"])
    assert golden_vectors.worst(plan.value.squeeze(-1), vectors["out.root_value"]) < 1e-4


@pytest.mark.parametrize("kind", ["n16m4", "n16m4_nogumbel", "n32m4"])
def test_list_halving_chooses_what_efficientzero_v2_chooses(kind):
    description, vectors = golden_vectors.load(f"efficientzerov2_gumbel_mcts_{kind}")
    config = description["config"]
    model, parts, state = world_of(vectors, config["discount"])
    search = efficientzero_v2_search(
        model,
        simulations=config["num_simulations"],
        considered=config["num_top_actions"],
        c_visit=config["c_visit"],
        c_scale=config["c_scale"],
        **parts,
    )
    noise = {"gumbel": vectors["noise.gumbel"]} if config["use_gumbel"] else {}
    plan = search.plan(state, noise=SearchNoise(noise))
    assert torch.equal(plan.visits.long(), vectors["out.visit_counts"])
    assert torch.equal(plan.edge, vectors["out.best_action"])
    assert golden_vectors.worst(plan.policy, vectors["out.root_policy"]) < 1e-4
    assert golden_vectors.worst(plan.value.squeeze(-1), vectors["out.root_value"]) < 1e-4
