"""Encoder and decoder against DreamerV3's own code."""

import torch
from torchrl.data import Bounded, Categorical, Composite, Unbounded

from tests.support.golden_dreamerv3 import torch_state
from tests.support.golden_vectors import load
from wmcomponents.decoders import MultiDecoder
from wmcomponents.encoders import MultiEncoder

SPEC = Composite(
    image=Bounded(0, 255, shape=(16, 16, 3), dtype=torch.uint8), mode=Categorical(3), pos=Unbounded(4), vel=Unbounded(2)
)


def test_tokens_predictions_and_losses_agree_with_the_official_code():
    info, tensors = load("v3_encoder_decoder_default")
    sizes, observation = info["config"], {key: tensors[f"in/obs/{key}"] for key in SPEC.keys()}
    encoder_sizes = {key: sizes["enc"][key] for key in ("units", "layers", "depth", "mults", "kernel")}
    decoder_sizes = {key: sizes["dec"][key] for key in ("units", "layers", "depth", "mults", "kernel")}
    encoder = MultiEncoder.dreamer_v3(SPEC, **encoder_sizes)
    decoder = MultiDecoder.dreamer_v3(SPEC, 16, (4, 6), blocks=sizes["dec"]["bspace"], **decoder_sizes)
    encoder.load_state_dict(torch_state(tensors, "enc"))
    decoder.load_state_dict(torch_state(tensors, "dec"))
    raw = decoder.raw(tensors["in/feat/deter"], tensors["in/feat/stoch"])
    actual = {
        "tokens": encoder.embed(observation),
        "pred/image": raw["image"].sigmoid(),
        "pred/pos": raw["pos"],
        "pred/vel": raw["vel"],
        "mode_logits": raw["mode"],
        "pred/mode": decoder.mean(raw)["mode"].int(),
        **{f"loss/{key}": value for key, value in decoder.loss(raw, observation).items()},
    }
    assert {f"out/{key}" for key in actual} == {key for key in tensors if key.startswith("out/")}
    for key, value in actual.items():
        torch.testing.assert_close(value, tensors[f"out/{key}"], **info["tolerance"], msg=lambda m, k=key: f"{k}: {m}")
