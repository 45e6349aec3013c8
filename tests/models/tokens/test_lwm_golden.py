"""LWM against the numbers of its authors' code."""

import torch
from torchrl.data import Bounded, Categorical, Composite

from tests.support.golden_vectors import load
from wmcomponents.models import LWM, LWMConfig
from wmcomponents.nn import InterleavedRoPE, RoPE

SMALL = {"grid": 8, "channels": 32, "mults": (1, 1), "blocks": 1, "latent_channels": 8, "vocabulary": 32, "code": 8}
TINY = {"layers": 1, "dim": 16, "heads": 2, "hidden": 16, "max_frames": 2, "text_vocabulary": 16}


def test_positions_turn_as_in_every_stage_of_the_context():
    _, v = load("lwm_rope")
    for theta in ("10000", "1e+06", "1e+07", "2.5e+07", "5e+07"):
        rope = InterleavedRoPE(16, float(theta))
        for name in ("q", "k"):
            turned = rope(v[f"input.{name}"].transpose(1, 2), v["input.position_ids"])
            torch.testing.assert_close(turned.transpose(1, 2), v[f"output.theta{theta}.{name}"], rtol=1e-5, atol=2e-4)


def test_neighbouring_pairs_are_halves_in_another_order():
    x, position = torch.randn(2, 3, 5, 8), torch.arange(5)
    halves = x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
    turned = InterleavedRoPE(8)(x, position).unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
    torch.testing.assert_close(turned, RoPE(8)(halves, position))


def test_images_become_the_codes_and_the_images_of_the_authors():
    info, v = load("lwm_vqgan")
    image = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
    model = LWM(LWMConfig.tiny(**SMALL, **TINY), image, Categorical(2))
    weights = {name.removeprefix("weight."): value for name, value in v.items() if name.startswith("weight.")}
    model.load_official(vqgan=weights)
    x = v["input.pixels"].flatten(0, 1).permute(0, 3, 1, 2)
    z = model.tokenizer.encode(x)
    tokenized = model.tokenizer.tokenize(x)
    close = {"rtol": info["tolerance"]["rtol"], "atol": info["tolerance"]["atol"]}
    torch.testing.assert_close(z.unflatten(1, (8, 8)), v["output.pre_quant"], **close)
    assert torch.equal(tokenized.tokens.view(2, 2, 8, 8), v["output.indices"].long())
    torch.testing.assert_close(tokenized.codes.view(2, 2, 8, 8, 8), v["output.z_q"], **close)
    made = model.tokenizer.decode(tokenized.codes).clamp(-1, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(made.view(2, 2, 16, 16, 3), v["output.reconstruction"], **close)
