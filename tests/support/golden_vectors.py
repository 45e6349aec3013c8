"""Numbers that the authors' own code produced: from tests/golden, $WMC_GOLDEN, or a folder beside the checkout."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).resolve().parents[1]


def _folders() -> list[Path]:
    folders = [HERE / "golden"]
    if "WMC_GOLDEN" in os.environ:
        root = Path(os.environ["WMC_GOLDEN"])
        folders += [root, *sorted(root.glob("*/"))]
    return folders + sorted((HERE.parent.parent / "shared" / "golden").glob("*/"))


def load(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The json beside a vector, and its tensors (none where the vector is all json); skips the test if absent."""
    for folder in _folders():
        description = folder / f"{name}.json"
        if description.is_file():
            vectors = description.with_suffix(".safetensors")
            return json.loads(description.read_text()), load_file(vectors) if vectors.is_file() else {}
    pytest.skip(f"golden vector {name!r} is not in tests/golden, nor in $WMC_GOLDEN")


def worst(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute difference, for reports."""
    return float((actual.detach().double() - expected.double()).abs().max())
