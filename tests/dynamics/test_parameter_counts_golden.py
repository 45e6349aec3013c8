"""Every part at every official size has as many parameters as in DreamerV3's own code."""

import pytest
import torch
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.golden_vectors import load
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, TwoHotHead

PRESETS = {"size1m": 64, "size12m": 256, "size25m": 384, "size50m": 512, "size100m": 768, "size200m": 1024}
PRESETS["size400m"] = 1536
CASES = {
    "image64x64x3_18actions": (Composite(image=Bounded(0, 255, shape=(64, 64, 3), dtype=torch.uint8)), 18),
    "proprio24_6dactions": (
        Composite({"orientations": Unbounded(14), "height()": Unbounded(1), "velocity": Unbounded(9)}),
        6,
    ),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", CASES)
def test_parameter_counts_agree_with_the_official_code(case, preset):
    info, _ = load("v3_param_counts")
    spec, action = CASES[case]
    units = PRESETS[preset]
    deter, classes, depth = 8 * units, units // 16, units // 16
    feat = deter + 32 * classes
    with torch.device("meta"):
        encoder = MultiEncoder.dreamer_v3(spec, units=units, depth=depth)
        parts = {
            "enc": encoder,
            "dyn": RSSM.block_gru(encoder.out_features, action, deter, units, 32, classes),
            "dec": MultiDecoder.dreamer_v3(spec, deter, (32, classes), units=units, depth=depth),
            "rew": TwoHotHead(feat, units),
            "con": BernoulliHead(feat, units),
            "val": TwoHotHead(feat, units, layers=3),
        }
    official = info["counts"][f"{case}/{preset}"]
    for name, part in parts.items():
        assert sum(parameter.numel() for parameter in part.parameters()) == official[name], name
