"""How large every family's tiny preset is for images of several sizes: small, as the docs' table says, or refused."""

import re
from pathlib import Path

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot

from wmcomponents.models import MODELS, make_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "models" / "index.md"
LARGEST = 20_000_000


def sizes():
    """Rows of the docs' table: family, side, millions of parameters, or nothing where it is refused."""
    rows = [line.strip()[1:-1].split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    (_, *sides), _, *families = [[cell.strip() for cell in row] for row in rows]
    return [
        (row[0], int(re.sub(r"\D", "", side)), cell)
        for row in families
        for side, cell in zip(sides, row[1:], strict=True)
    ]


@pytest.mark.parametrize(("family", "side", "cell"), sizes())
def test_a_tiny_preset_is_small_for_any_image_or_says_what_to_do(family, side, cell):
    spec = Composite(pixels=Bounded(0, 255, (side, side, 3), dtype=torch.uint8))
    if cell == "refused":
        with pytest.raises(ValueError, match=r"[Rr]esize|larger|divisible|latent"), torch.device("meta"):
            make_model(family, "tiny", spec, OneHot(3))
        return
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in make_model(family, "tiny", spec, OneHot(3)).parameters())
    assert count < LARGEST and f"{count / 1e6:.2f}" == cell


def test_the_table_has_every_family_and_four_sides():
    assert {family for family, _, _ in sizes()} == set(MODELS)
    assert {side for _, side, _ in sizes()} == {16, 36, 64, 96}
