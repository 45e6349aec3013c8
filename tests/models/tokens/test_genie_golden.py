"""Genie's parts compute what the open codes compute: p-doom/jasmine and 1x-technologies/1xgpt."""

import pytest
import torch
from torch.nn import functional as F

from tests.support import golden_genie, golden_vectors
from tests.support.golden_genie import below
from wmcomponents.functional.patches import patchify
from wmcomponents.nn import onexgpt_block, onexgpt_pre_norm_block
from wmcomponents.tokenizers.video import patches_film


def assert_close(actual, expected, facts):
    tolerance = facts["tolerance"]
    torch.testing.assert_close(actual, expected, atol=tolerance["atol"], rtol=tolerance.get("rtol", 0.0))


@pytest.mark.parametrize(
    ("name", "make", "scale"),
    [
        ("qk_norm_True", onexgpt_block, None),
        ("qk_norm_True.mup_scale", onexgpt_block, 8 / 8),
        ("qk_norm_False", onexgpt_pre_norm_block, None),
    ],
)
def test_the_blocks_of_1xgpt(name, make, scale):
    facts, t = golden_vectors.load("genie_st_block_1xgpt")
    block = make(16, facts["config"]["num_heads"], 64, scale=scale)
    weights = below(t, f"weight.{name.removesuffix('.mup_scale')}.")
    block = golden_genie.load_onexgpt_block(block, weights)
    assert_close(block(t["input.x"]), t[f"output.{name}"], facts)


def test_the_transformer_of_jasmine_its_block_and_its_positions():
    facts, t = golden_vectors.load("genie_axial_transformer_jasmine")
    net = golden_genie.jasmine_transformer(below(t, "weight."), 3, 4, facts["config"]["num_heads"])
    assert_close(net(t["input.x"]), t["output.y"], facts)
    assert_close(net.blocks[0](t["input.block_x"]), t["output.block0_y"], facts)
    assert_close(net.positions.at(torch.arange(3)), t["output.positional_encoding"][0], facts)


def test_the_dynamics_of_jasmine():
    facts, t = golden_vectors.load("genie_dynamics_maskgit_jasmine")
    dynamics = golden_genie.jasmine_dynamics(below(t, "weight."), 4, 6, facts["config"]["num_heads"])
    tokens, masked = t["input.video_tokens"].long(), t["output.mask"].bool()
    action = F.pad(t["input.latent_actions"].squeeze(2), (0, 0, 1, 0))
    logits = dynamics.compute(tokens, masked, action)
    assert_close(logits, t["output.logits"], facts)
    loss = F.cross_entropy(logits[masked], tokens[masked])
    assert_close(loss.view(1), t["derived.masked_cross_entropy"], facts)


def test_the_latent_actions_of_jasmine():
    facts, t = golden_vectors.load("genie_lam_jasmine")
    films = t["input.videos"]
    model = golden_genie.jasmine_actions(below(t, "weight."), (8, 8, 3), 4, 4, facts["config"]["num_heads"])
    patches = patchify(films.movedim(-1, -3), 4)
    made = model.infer(patches)
    assert torch.equal(made.tokens.flatten(), t["output.indices"].long())
    assert_close(made.codes, t["output.z_q"].squeeze(2), facts)
    emb = F.normalize(model.encoder(patches)[:, 1:], dim=-1)
    assert_close(emb.flatten(0, 1), t["output.emb"], facts)
    seen = model.predict(patches[:, :-1], made.codes)
    assert_close(patches_film(seen, 4, model.grid), t["output.recon"], facts)
