"""Nested states come back as they were, and what is no such state is refused in words."""

import pytest
import torch

from wmcomponents.training import BadCheckpointError
from wmcomponents.training.nested_state import load_nested, not_numbers, save_nested


def test_a_nested_state_comes_back_with_its_keys_and_tensors(tmp_path):
    state = {"a/b": torch.arange(3), "a": {"b": torch.ones(2, dtype=torch.bool), 0: [None, 1.5, (2, "x")]}}
    save_nested(tmp_path / "s", state)
    found = load_nested(tmp_path / "s")
    assert torch.equal(found["a/b"], state["a/b"]) and torch.equal(found["a"]["b"], state["a"]["b"])
    assert found["a"][0] == [None, 1.5, [2, "x"]]
    with pytest.raises(TypeError, match="state/f is a set"):
        save_nested(tmp_path / "s", {"f": {1}})


def test_a_damaged_state_is_refused_and_a_nan_is_found(tmp_path):
    file = tmp_path / "s"
    save_nested(file, {"a": torch.arange(8)})
    content = file.read_bytes()
    for bad in (b"", content[:-4], content[:-1] + b"\x01"):
        file.write_bytes(bad)
        with pytest.raises(BadCheckpointError, match="damaged"):
            load_nested(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        load_nested(file)
    assert list(not_numbers({"a": [torch.tensor([1.0, torch.nan]), torch.inf]})) == ["state/a/0"]
