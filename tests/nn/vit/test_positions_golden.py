"""Positions on a grid: V-JEPA's own numbers."""

import re

import torch

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from wmcomponents.functional import sincos_axis, sincos_grid
from wmcomponents.nn import FixedGridPositions, TiledAxialRoPE, clip_positions


def test_rotary_positions_are_v_jepa_2s():
    info, tensors = load("vjepa2_rope")
    close(info, TiledAxialRoPE(8, axes=1)(tensors["in.x"], tensors["in.pos"].unsqueeze(-1)), tensors["out.y"])


def test_sines_and_cosines_are_v_jepas():
    info, tensors = load("vjepa_sincos_pos")
    for name, expected in tensors.items():
        size = {letter: int(number) for letter, number in re.findall(r"_([dgtu])(\d+)", name)}
        dim, side = size["d"], size["g"]
        if "pos1d" in name:
            actual = sincos_axis(torch.arange(side), dim)
        elif "pos2d" in name:
            grid = (side, side)
            actual = FixedGridPositions(sincos_grid(grid, (dim // 2, dim // 2)), grid, prefix=int("cls" in name)).table
        elif size["u"]:
            actual = clip_positions((size["t"], side, side), dim)
        else:
            actual = sincos_grid((size["t"], side, side), (dim // 2, dim // 4, dim // 4))
        close(info, actual, expected)
    assert len(tensors) == 8
