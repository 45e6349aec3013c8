"""STORM computes what the authors' code computes."""

import pytest
import torch

from tests.support import golden_vectors
from wmcomponents.agents.actor_critic import OwnValueReturn, RankNormalizer
from wmcomponents.dynamics import CategoricalLatent, StateActionTransformer
from wmcomponents.heads import PreprintTwoHotHead


@pytest.fixture(scope="module")
def golden():
    return golden_vectors.load("storm_transformer_losses")


@pytest.fixture(scope="module")
def dynamics(golden):
    facts, t = golden
    c = facts["config"]
    part = StateActionTransformer(
        CategoricalLatent(4, 4),
        c["action_dim"],
        layers=c["num_layers"],
        heads=c["num_heads"],
        dim=c["feat_dim"],
        positions=c["max_length"],
        kept=2,
    )
    theirs = {name.removeprefix("weight."): value for name, value in t.items() if name.startswith("weight.")}
    ours = {name: value for name, value in theirs.items() if name.startswith("stem.")}
    ours["positions.weight"] = theirs["position_encoding.pos_emb.weight"]
    ours |= {f"transformer.norm.{kind}": theirs[f"layer_norm.{kind}"] for kind in ("weight", "bias")}
    for layer in range(c["num_layers"]):
        old, new = f"layer_stack.{layer}", f"transformer.blocks.{layer}"
        maps = [theirs[f"{old}.slf_attn.{name}.weight"] for name in ("w_qs", "w_ks", "w_vs")]
        ours[f"{new}.attention.qkv.weight"] = torch.cat(maps)
        ours[f"{new}.attention.proj.weight"] = theirs[f"{old}.slf_attn.fc.weight"]
        for kind in ("weight", "bias"):
            ours[f"{new}.norm1.{kind}"] = theirs[f"{old}.slf_attn.layer_norm.{kind}"]
            ours[f"{new}.norm2.{kind}"] = theirs[f"{old}.pos_ffn.layer_norm.{kind}"]
            ours[f"{new}.mlp.0.{kind}"] = theirs[f"{old}.pos_ffn.w_1.{kind}"]
            ours[f"{new}.mlp.2.{kind}"] = theirs[f"{old}.pos_ffn.w_2.{kind}"]
    ours |= {name: value for name, value in part.state_dict().items() if name.startswith("prior.")}
    part.load_state_dict(ours)
    return part.eval()


def inputs(golden):
    facts, t = golden
    stoch = t["input.samples"].unflatten(-1, (4, 4))
    return stoch, torch.nn.functional.one_hot(t["input.actions"], facts["config"]["action_dim"]).float()


def test_the_transformers_outputs_are_the_authors(golden, dynamics):
    facts, t = golden
    hidden = dynamics(stoch=inputs(golden)[0], action_vector=inputs(golden)[1])
    torch.testing.assert_close(hidden, t["output.full"], rtol=0.0, atol=facts["tolerance"]["atol"])


def test_its_outputs_with_a_kv_cache_are_the_authors(golden, dynamics):
    facts, t = golden
    stoch, action = inputs(golden)
    rows = stoch.shape[0]
    kv_cache, length = dynamics.empty_kv_cache([rows]), torch.zeros(rows, 1, dtype=torch.int64)
    recent, found = torch.zeros(rows, dynamics.kept, dynamics.dim), []
    for step in range(stoch.shape[1]):
        hidden, length, recent = dynamics.read(dynamics.mix(stoch[:, step], action[:, step]), kv_cache, length, recent)
        found.append(hidden)
    torch.testing.assert_close(torch.stack(found, 1), t["output.cached"], rtol=0.0, atol=facts["tolerance"]["atol"])


def test_the_reward_heads_loss_and_value_are_the_authors(golden):
    _, t = golden
    head, logits = PreprintTwoHotHead(4, 4), t["twohot.input.logits"]
    loss = head.loss(logits, t["twohot.input.target"].unsqueeze(-1)).mean()
    torch.testing.assert_close(loss, t["twohot.loss"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(head.mean(logits).squeeze(-1), t["twohot.decoded"], rtol=1e-4, atol=1e-5)


def test_returns_are_built_on_the_value_of_the_state_that_a_step_leaves(golden):
    _, t = golden
    nothing = torch.zeros(3, 1)
    reward = torch.cat([nothing, t["returns.rewards"]], 1)
    cont = 0.985 * torch.cat([nothing, 1.0 - t["returns.termination"]], 1)
    found = OwnValueReturn(0.95)(reward, cont, t["returns.values"])
    torch.testing.assert_close(found.state_value, t["returns.g0.985_l0.95"], rtol=1e-5, atol=1e-5)
    assert torch.equal(found.action_value, found.state_value) and bool((found.state_weight == 1).all())


def test_the_range_of_returns_is_between_two_of_them(golden):
    _, t = golden
    normalizer = RankNormalizer(rate=1.0, low=0.1, high=0.95)
    normalizer.update(t["returns.rewards"])
    assert float(normalizer.first) == float(t["percentile.p5_of_rewards"])
    assert float(normalizer.second) == float(t["percentile.p95_of_rewards"])
