"""Image encoder and decoder without padding against Dreamer's own code."""

import torch

from tests.support.golden_vectors import load
from wmcomponents.decoders import TransposedConvDecoder
from wmcomponents.encoders import ConvEncoder
from wmcomponents.nn import ValidStage

NAME = "v1_conv_encoder_decoder"


def official():
    info, tensors = load(NAME)
    return info["tolerance"], tensors


def test_the_embedding_of_a_image_agrees_with_the_official_code():
    tolerance, tensors = official()
    image, embed = tensors["in/image"], tensors["out/embed"]
    encoder = ConvEncoder((64, 64, 3), 2, (1, 2, 4, 8), kernel=4, stage=ValidStage, norm="none", act="relu")
    weights = {}
    for stage in range(4):
        weights[f"stages.{stage}.conv.weight"] = tensors[f"w/enc/h{stage + 1}/kernel"].permute(3, 2, 0, 1)
        weights[f"stages.{stage}.conv.bias"] = tensors[f"w/enc/h{stage + 1}/bias"]
    encoder.load_state_dict(weights)
    torch.testing.assert_close(encoder.compute((image + 0.5) * 255.0), embed, **tolerance)


def test_the_image_and_its_log_density_agree_with_the_official_code():
    tolerance, tensors = official()
    feat = tensors["in/feat"]
    decoder = TransposedConvDecoder(5, (4,), (64, 64, 3), depth=2)
    weights = {"map_in.weight": tensors["w/dec/h1/kernel"].T, "map_in.bias": tensors["w/dec/h1/bias"]}
    for layer, name in enumerate(("stages.0.conv", "stages.1.conv", "stages.2.conv", "out"), start=2):
        weights[f"{name}.weight"] = tensors[f"w/dec/h{layer}/kernel"].permute(3, 2, 0, 1)
        weights[f"{name}.bias"] = tensors[f"w/dec/h{layer}/bias"]
    decoder.load_state_dict(weights)
    raw = decoder.compute(feat[..., 4:], feat[..., :4])
    torch.testing.assert_close(raw, tensors["out/recon_mean"], **tolerance)
    error = decoder.likelihood.error(raw, tensors["in/image"] + 0.5, event_dims=3)
    torch.testing.assert_close(-error, tensors["out/log_prob"], **tolerance)
