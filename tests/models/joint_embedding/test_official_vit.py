"""Published vision transformers: the numbers of the authors' own code, and that every key of a full-size file lands."""

import re

import pytest
import torch
from torch import Tensor, nn

from tests.support import golden_vectors
from tests.support.golden_features import close, load, weights_of
from wmcomponents.models.joint_embedding.official_vit import VIT_RULES, block_rules, vit_from_official
from wmcomponents.models.official import load_official_vit
from wmcomponents.nn import (
    DINOV2_GIANT,
    AttentivePooling,
    VisionTransformer,
    ViTSize,
    dinov2_vit,
    vjepa2_vit,
    vjepa_vit,
)
from wmcomponents.pretrained import BadModelError, Rule, load_mapped, map_keys

POOLING_RULES = (
    Rule(r"pooler\.query_tokens", "query", lambda value: value.squeeze(0)),
    # V-JEPA keeps an output map that it never applies.
    Rule(r"pooler\.cross_attention_block\.xattn\.proj\..+|linear\..+", None),
    Rule(r"pooler\.cross_attention_block\.norm(\d)\.(.+)", r"norm\1.\2"),
    Rule(r"pooler\.cross_attention_block\.xattn\.(q|kv)\.(.+)", r"attention.\1.\2"),
    Rule(r"pooler\.cross_attention_block\.mlp\.fc1\.(.+)", r"mlp.0.\1"),
    Rule(r"pooler\.cross_attention_block\.mlp\.fc2\.(.+)", r"mlp.3.\1"),
    *block_rules(r"pooler\.blocks\."),
)


def test_dinov2_gives_its_tokens_at_its_own_size_and_another():
    info, tensors, weights = load("dinov2_tiny")
    net = vit_from_official("dinov2", weights, heads=info["config"]["num_heads"])
    tokens = net(tensors["in.x"])
    close(info, tokens[:, 0], tensors["out.x_norm_clstoken"])
    close(info, tokens[:, 1:], tensors["out.x_norm_patchtokens"])
    close(info, net.hidden(tensors["in.x"]), tensors["out.x_prenorm"])
    close(info, net(tensors["in.x_70px"])[:, 1:], tensors["out.patchtokens_70px"])


def test_v_jepa_gives_its_tokens_whole_masked_and_interpolated():
    info, tensors, weights = load("vjepa_encoder")
    net = vit_from_official("vjepa", weights, heads=4, frames=4)
    x, keep = tensors["in.x"], tensors["in.mask"]
    close(info, net(x), tensors["out.full"])
    close(info, net(x, keep), tensors["out.masked"])
    close(info, torch.cat([net(x, keep), net(x, keep.flip(0))]), tensors["out.masked_two"])
    close(info, net(tensors["in.x_48px"]), tensors["out.interp_48px"])


def test_v_jepa_2_gives_its_tokens_whole_masked_and_of_longer_clips():
    info, tensors, weights = load("vjepa2_encoder_rope")
    net = vit_from_official("vjepa2", weights, heads=2)
    close(info, net(tensors["in.x"]), tensors["out.full"])
    close(info, net(tensors["in.x"], tensors["in.mask"]), tensors["out.masked"])
    close(info, net(tensors["in.x_6f_48x32"]), tensors["out.x_6f_48x32"])


def test_i_jepas_context_encoder_gives_its_tokens():
    info, tensors = golden_vectors.load("ijepa_train_step")
    net = vit_from_official("ijepa", weights_of(tensors, "w.enc."), heads=4)
    close(info, net(tensors["in.x"], tensors["in.mask_enc_0"]), tensors["out.z_enc"])


@pytest.mark.parametrize("name,blocks", [("vjepa_attentive_probe", 0), ("vjepa2_attentive_probe", 2)])
def test_attentive_probes_give_their_logits(name, blocks):
    info, tensors, weights = load(name)
    pooling = load_mapped(AttentivePooling(24, 4, blocks=blocks), weights, POOLING_RULES)
    pooled = pooling(tensors["in.x"])
    close(info, pooled, tensors["out.pooled"])
    logits = nn.functional.linear(pooled.squeeze(1), weights["linear.weight"], weights["linear.bias"])
    close(info, logits, tensors["out.logits"])


def full_size(small: dict[str, Tensor], size: ViTSize, old: tuple[int, int], positions: int) -> dict[str, Tensor]:
    """Weights of a published size: the names of a small one, each a number in a tensor of the full shape.

    Args:
        small: of the small one.
        size: the full one.
        old: width and hidden width of the small one, no side of anything else.
        positions: in the full table.
    """
    grown = {old[0]: size.dim, 3 * old[0]: 3 * size.dim, old[1]: size.hidden}
    out: dict[str, Tensor] = {}
    for key, value in small.items():
        shape = [grown.get(side, side) for side in value.shape]
        if key == "pos_embed":
            shape = [1, positions, size.dim]
        names = [re.sub(r"^blocks\.0\.", f"blocks.{i}.", key) for i in range(size.depth)]
        for name in names if key.startswith("blocks.0.") else [] if key.startswith("blocks.") else [key]:
            out[name] = torch.full((), float(len(out) + 1)).expand(shape)
    return out


def in_wrappers(weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """As V-JEPA's files have them."""
    return {"target_encoder": {f"module.backbone.{key}": value for key, value in weights.items()}}


@pytest.mark.parametrize("vector,layout,positions", [("dinov2_tiny", "dinov2", 1370), ("vjepa_encoder", "vjepa", 1568)])
def test_every_key_of_a_published_file_lands(vector, layout, positions):
    info, _, small = load(vector)
    dim, size = info["config"]["embed_dim"], ViTSize.named("small")
    weights = full_size(small, size, (dim, 4 * dim), positions)
    with torch.device("meta"):
        net = vit_from_official(layout, in_wrappers(weights) if layout == "vjepa" else weights)
    own = net.state_dict()
    assert len(own) == len(weights) - ("mask_token" in weights)
    assert net.blocks[0].attention.heads == size.heads and net.positions(net.positions.grid)[1].shape[0] > 1000


@pytest.mark.parametrize(
    "vector,layout,size,positions,parameters",
    [
        ("dinov2_tiny", dinov2_vit, "small", 1370, 22_056_576),
        ("dinov2_tiny", dinov2_vit, "base", 1370, 86_580_480),
        ("dinov2_tiny", dinov2_vit, "large", 1370, 304_368_640),
        ("vjepa_encoder", vjepa_vit, "large", 1568, None),
        ("vjepa_encoder", vjepa_vit, "huge", 1568, None),
        ("vjepa2_encoder_rope", vjepa2_vit, "huge", 0, None),
        ("vjepa2_encoder_rope", vjepa2_vit, "giant-22", 0, None),
    ],
)
def test_the_weights_of_full_sizes_have_the_shapes_of_ours(vector, layout, size, positions, parameters):
    info, _, small = load(vector)
    dim, patch, size = info["config"]["embed_dim"], info["config"]["patch_size"], ViTSize.named(size)
    weights = full_size(small, size, (dim, 4 * dim), positions)
    with torch.device("meta"):
        net = layout(size, patch=(2, patch, patch) if layout is not dinov2_vit else patch)
    if layout is vjepa_vit:  # its patches are of 16 pixels where the vector's are of 8
        with torch.device("meta"):
            net = layout(size, (16, 112, 112), (2, patch, patch))
    mapped = map_keys(weights, VIT_RULES)
    assert {key: value.shape for key, value in mapped.items()} == {k: v.shape for k, v in net.state_dict().items()}
    if parameters is not None:  # without the token of masked patches, which is of no use after training
        assert sum(p.numel() for p in net.parameters()) == parameters - size.dim


def test_dinov2s_giant_has_gates_and_its_published_number_of_parameters():
    with torch.device("meta"):
        net = dinov2_vit(DINOV2_GIANT)
    assert sum(p.numel() for p in net.parameters()) == 1_136_480_768 - DINOV2_GIANT.dim


def test_v_jepa_2s_unread_table_is_passed_over():
    _, _, weights = load("vjepa2_encoder_rope")
    table = {"pos_embed": torch.zeros(1, 32, 56)}
    net = vit_from_official("vjepa2", in_wrappers({**weights, **table}), heads=2)
    assert net.positions is None and len(net.state_dict()) == len(weights)


def saved(tmp_path, name="dinov2_tiny"):
    weights = load(name)[2]
    torch.save(weights, tmp_path / "vit.pth")
    return weights, tmp_path / "vit.pth"


def test_a_file_is_read_by_its_layout_without_a_trace_in_the_process(tmp_path):
    weights, path = saved(tmp_path)
    before = torch.random.get_rng_state()
    net = load_official_vit("dinov2", path, heads=4)
    assert isinstance(net, VisionTransformer) and not net.training
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(net.blocks[1].attention.qkv.weight, weights["blocks.1.attn.qkv.weight"])


@pytest.mark.parametrize(
    "layout,details,words",
    [
        ("clip", {}, "layouts known here"),
        ("dinov2", {}, "give heads="),
        ("vjepa", {"heads": 4}, "patch_embed.proj.weight.*5 dimensions"),
        ("ijepa", {"heads": 4}, "no square image"),
        ("dinov2", {"heads": 5}, "heads divide the size"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path, layout, details, words):
    _, path = saved(tmp_path)
    with pytest.raises(BadModelError, match=words):
        load_official_vit(layout, path, **details)


def test_an_unknown_key_or_detail_is_refused(tmp_path):
    weights, path = saved(tmp_path)
    with pytest.raises(TypeError, match="part, heads and frames"):
        load_official_vit("dinov2", path, head=4)
    torch.save({**weights, "blocks.0.attn.rel_pos": torch.zeros(2)}, path)
    with pytest.raises(BadModelError, match="rel_pos"):
        load_official_vit("dinov2", path, heads=4)
