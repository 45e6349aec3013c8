"""Diffusion transformers against the numbers of their authors' codes."""

import torch

from tests.support.golden_features import close
from tests.support.golden_vectors import load as load_vector
from wmcomponents.models.diffusion.official_transformers import (
    CDIT_RULES,
    CROSS_RULES,
    DISPLACEMENT_RULES,
    DIT_RULES,
    OASIS_RULES,
    VIT_AUTOENCODER_RULES,
    cdit_from_official,
    dit_from_official,
    oasis_autoencoder_from_official,
    oasis_dit_from_official,
)
from wmcomponents.nn import ContextBlock, DisplacementEmbedding, NumberEmbedding, column_first_positions, dit_block
from wmcomponents.nn.diffusion.embeddings import cosine_sine
from wmcomponents.pretrained import load_mapped, map_keys


def load(name):
    info, tensors = load_vector(name)
    return info, tensors, {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}


def of_block(rules):
    """The rules of a whole network, for one of its blocks."""
    return [
        (rule[0].replace(r"blocks\.(\d+)\.", "()"), rule[1] and rule[1].replace(r"blocks.\1.", ""), *rule[2:])
        for rule in rules
    ]


@torch.no_grad()
def test_dits_block_is_its_own():
    info, tensors, weights = load("dit_block")
    block = load_mapped(dit_block(24, 3, 96), weights, of_block(DIT_RULES))
    close(info, block(tensors["in/x"], tensors["in/c"].unsqueeze(1)), tensors["out/y"])


def test_dits_positions_are_its_own():
    info, tensors, _ = load("dit_pos_embed")
    close(info, column_first_positions((3, 3), 16).double(), tensors["out/pos_embed"])


@torch.no_grad()
def test_levels_are_told_as_dit_tells_them():
    info, tensors, weights = load("dit_timestep_embedder")
    net = NumberEmbedding(16)
    net.load_state_dict(weights)
    close(info, cosine_sine(tensors["in/t"], 256), tensors["out/freq"])
    close(info, net(tensors["in/t"]), tensors["out/emb"])


@torch.no_grad()
def test_dit_is_its_own_with_guidance_too():
    info, tensors, weights = load("dit_tiny")
    net = dit_from_official({"ema": weights, "model": {}, "opt": {}}, heads=4).eval()
    close(info, net.tokens(tensors["in/x"]), tensors["out/tokens_after_patchify"])
    close(info, net(tensors["in/x"], tensors["in/t"], tensors["in/y"]), tensors["out/y"])
    half = tensors["in/cfg_x"][:2]
    told, untold = net(half.repeat(2, 1, 1, 1), tensors["in/cfg_t"], tensors["in/cfg_y"]).chunk(2)
    guided = untold[:, :3] + 4.0 * (told[:, :3] - untold[:, :3])  # the variance, and one channel, are not guided
    both = torch.cat([torch.cat([guided, part[:, 3:]], 1) for part in (told, untold)])
    close(info, both, tensors["out/cfg4"])


@torch.no_grad()
def test_cdits_block_is_its_own():
    info, tensors, weights = load("cdit_block")
    block = load_mapped(ContextBlock(24, 3, 96), weights, [*CROSS_RULES, *of_block(CDIT_RULES)])
    close(info, block(tensors["in/x"], tensors["in/c"].unsqueeze(1), tensors["in/x_cond"]), tensors["out/y"])


@torch.no_grad()
def test_displacements_are_told_as_nwm_tells_them():
    info, tensors, weights = load("cdit_action_embedder")
    net = load_mapped(DisplacementEmbedding(32), weights, DISPLACEMENT_RULES)
    close(info, net(tensors["in/xya"]), tensors["out/emb"])


@torch.no_grad()
def test_cdit_is_its_own():
    info, tensors, weights = load("cdit_tiny")
    net = cdit_from_official({f"_orig_mod.{key}": value for key, value in weights.items()}, heads=4)
    inputs = (tensors[f"in/{key}"] for key in ("x", "t", "x_cond", "y_action", "rel_t"))
    close(info, net(*inputs), tensors["out/y"])


@torch.no_grad()
def test_oasis_network_is_its_own_with_and_without_actions():
    info, tensors, weights = load("oasis_dit_tiny")
    net = oasis_dit_from_official(weights, latent=(4, 6), frames=4)
    x, level, action = tensors["in/x"], tensors["in/t"], tensors["in/external_cond"]
    close(info, net(x, level, action), tensors["out/y"])
    close(info, net(x, level), tensors["out/y_no_action"])
    close(info, net.blocks[0](*net._told(x, level, action, 4), net.place).unflatten(2, (2, 3)), tensors["out/block0"])
    attention = net.blocks[0].space.attention
    y = attention(tensors["out/spatial_attn_in"].flatten(2, 3), None, net.place)
    close(info, y, tensors["out/spatial_attn_out"].flatten(2, 3))


def test_rotary_frequencies_are_those_that_the_file_holds():
    _, _, weights = load("oasis_dit_tiny")
    net = oasis_dit_from_official(weights, latent=(4, 6), frames=4)
    rope = net.blocks[0].space.attention.rope
    torch.testing.assert_close(rope._rate(torch.device("cpu")), weights["spatial_rotary_emb.freqs"])


def full(keys, depths):
    """A published file's keys with every block, and tensors that take no memory."""
    found = {}
    for key, shape in keys.items():
        first = next((name for name in depths if key.startswith(f"{name}.0.")), None)
        names = (
            [key] if first is None else [key.replace(f"{first}.0.", f"{first}.{i}.", 1) for i in range(depths[first])]
        )
        found |= {name: torch.zeros(()).expand(shape) for name in names}
    return found


def test_every_key_of_the_published_files_lands_on_full_sizes(monkeypatch):
    monkeypatch.setattr("wmcomponents.pretrained.key_map.nonfinite", lambda tensors: None)  # a billion zeros
    for vector, keys, build, depth, rules, parameters in (
        ("dit_xl_checkpoint_keys", "keys", dit_from_official, 28, DIT_RULES, 675_129_632),
        ("nwm_cdit_xl_checkpoint_keys", "keys", cdit_from_official, 28, CDIT_RULES, 1_011_959_456),
        ("oasis_checkpoint_keys", "dit_keys", oasis_dit_from_official, 16, OASIS_RULES, 607_943_792),
    ):
        info, _ = load_vector(vector)
        weights = full(info[keys], {"blocks": depth})
        with torch.device("meta"):
            net = build(weights)
        own = {key: value.shape for key, value in net.state_dict().items()}
        assert {key: value.shape for key, value in map_keys(weights, rules).items()} == own
        numbers = sum(value.numel() for value in net.state_dict().values())
        frequencies = sum(value.numel() for key, value in weights.items() if key.endswith("_rotary_emb.freqs"))
        assert numbers + (frequencies and 48) == parameters
    info, _ = load_vector("oasis_checkpoint_keys")
    weights = full(info["vae_keys"], {"encoder": 6, "decoder": 12})
    with torch.device("meta"):
        net = oasis_autoencoder_from_official(weights).autoencoder
    own = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in map_keys(weights, VIT_AUTOENCODER_RULES).items()} == own
    assert sum(value.numel() for value in net.parameters()) == info["vae_params"]


@torch.no_grad()
def test_oasis_autoencoder_is_its_own():
    info, tensors, weights = load("oasis_vit_vae_tiny")
    part = oasis_autoencoder_from_official(weights, image_size=(8, 12), heads=(2, 2))
    moments = part.moments(tensors["in/img"])
    for ours, key in ((moments.mean, "mean"), (moments.log_variance, "logvar")):
        close(info, ours.flatten(2).mT, tensors[f"out/{key}"])
    close(info, part.decode(part.scaled(moments.mean)), tensors["out/decoded_from_mean"])
    torch.testing.assert_close(part.scale.item(), 0.07843137255)
