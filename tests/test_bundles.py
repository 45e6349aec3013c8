"""Models that version e92d95a saved load, with the config they had, and dream what they dreamt then."""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support import saved_at
from tests.support.bundles import CATALOGUE, Record
from tests.support.saved_at import GIVEN, differences, recorded, replayed
from wmcomponents.functional import symlog
from wmcomponents.models import MODELS
from wmcomponents.models.loading import load

SAVED = Path(__file__).parent / "saved"
"""A folder for each name; ``python -m tests.support.saved_at e92d95a --keep tests/saved`` wrote them."""
LEVELS = ("loc", "scale", "sigma_min", "sigma_max")
RENAMED: dict[str, dict[str, str]] = {
    "Diamond": {
        **{f"denoiser.{name}": f"loss.noise.{name}" for name in LEVELS},
        **{f"upsampler.denoiser.{name}": f"loss.upsampler_noise.{name}" for name in LEVELS},
        "upsampler.autoregressive": "loss.upsampler_autoregressive",
        "reward_end.steps": "loss.reward_steps",
        "reward_end.windows": "loss.reward_windows",
    },
    "EfficientZero": {"optimizer": "optimizer.algorithm"},
    "MuZero": {"optimizer": "optimizer.algorithm"},
    "WorldModels": {"growth_channels": "network.vision.decoder_channels"},
}
"""By family: fields of its config that have another name now than in version e92d95a, such as ``"optimizer.lr"``."""
ROUNDED = {"DeltaIRIS", "Diamond"}
"""Families that read what else they tell of a step from its image, rounded to bytes: as exact as a byte."""

older = pytest.mark.filterwarnings("ignore:.*the defaults are taken")  # of fields of the config that came since


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a config by their path, as JSON has them."""
    fields = {}
    for key, value in config.items():
        is_part = isinstance(value, dict)
        fields |= flat(value, f"{prefix}{key}.") if is_part else {f"{prefix}{key}": json.loads(json.dumps(value))}
    return fields


def today(field: str, fields: dict[str, Any], family: str) -> str:
    """The path of a field of an earlier config: renamed, the same, or the same in one of the config's parts now."""
    if field in RENAMED.get(family, {}) or field in fields:
        return RENAMED.get(family, {}).get(field, field)
    ends = [path for path in fields if path.endswith(f".{field}")]
    moved = [path for path in ends if path.count(".") == min(end.count(".") for end in ends)]  # not a part's own part
    assert len(moved) == 1, f"{family}'s {field} is {moved or 'nowhere'} now: name its place in RENAMED"
    return moved[0]


def digest(value: Tensor) -> tuple[tuple[int, ...], bytes]:
    """A weight by its shape and numbers, whatever its name."""
    return tuple(value.shape), value.numpy().tobytes()


def scaled(value: Tensor) -> Tensor:
    """Numbers of order one: images in [0, 1], rewards and values in symlog space."""
    return value / 255 if value.dtype is torch.uint8 else symlog(value.float())


def test_every_family_of_that_version_was_saved_and_is_here():
    assert {entry.name for entry in SAVED.iterdir()} == set(CATALOGUE)
    assert {family for family, *_ in CATALOGUE.values()} <= set(MODELS)


@older
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_model_saved_earlier_has_the_config_that_it_was_saved_with(name):
    family = CATALOGUE[name][0]
    written = json.loads((SAVED / name / "model/config.json").read_bytes())
    model: Any = load(SAVED / name / "model")
    assert type(model).__name__ == written["model"] == family
    fields = flat(dataclasses.asdict(model.config))
    assert {field: fields[today(field, fields, family)] for field in flat(written["config"])} == flat(written["config"])


@older
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_model_saved_earlier_has_every_weight_that_it_was_saved_with(name):
    written = load_file(SAVED / name / "model/model.safetensors")
    loaded: Any = load(SAVED / name / "model")
    assert Counter(map(digest, loaded.state_dict().values())) == Counter(map(digest, written.values()))


@older
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_model_saved_earlier_dreams_what_it_dreamt_then(name):
    family, record = CATALOGUE[name][0], recorded(SAVED / name)
    dreamt = replayed(SAVED / name, record, is_free=False)
    assert dreamt.keys() == {key for key in record if not key.startswith(GIVEN)}
    for key, value in dreamt.items():
        if value.dtype is torch.uint8:
            close = {"atol": 2.01 / 255, "rtol": 0}  # rounded, PlaNet's to 7 bits
        else:
            close = {"atol": 2 / 255, "rtol": 0} if family in ROUNDED else {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(
            scaled(value), scaled(record[key]), **close, msg=lambda text, key=key: f"{key}: {text}"
        )


def written(record: Record, folder: Path) -> Path:
    """A bundle with another record."""
    save_file(record, folder / "dream.safetensors")
    return folder


@older
def test_a_bit_of_difference_is_told(tmp_path):
    folder = Path(shutil.copytree(SAVED / "TDMPC2", tmp_path / "TDMPC2"))
    record = recorded(folder)
    record |= replayed(folder, record, is_free=True)  # of this processor
    assert not differences(written(record, folder))
    del record["value"]
    record["dreamt.latent"] = record["dreamt.latent"].nextafter(torch.ones(()))
    found = differences(written(record, folder))
    assert [line.split(" ", 1)[0] for line in found] == ["value", "dreamt.latent"]
    assert found[0] == "value is new" and "differs by up to" in found[1]
    (folder / "model/model.safetensors").unlink()
    assert "fails with BadModelError" in differences(folder)[0]


@older
def test_states_and_fields_that_have_another_name_now_are_found(monkeypatch):
    starts = load_file(SAVED / "IRIS/model/starts.safetensors")
    renamed = {{"cache": "kv_cache"}.get(key, key): value for key, value in starts.items()}
    monkeypatch.setattr(saved_at, "load_starts", lambda path: renamed)
    record = recorded(SAVED / "IRIS")
    assert "seen.kv_cache" in record and "dreamt.kv_cache" in record and "dreamt.cache" not in record
    now = flat({"network": {"units": 8, "sizes": (1, 2)}, "horizon": 3})
    assert [today(field, now, "") for field in ("units", "sizes", "horizon")] == [
        "network.units",
        "network.sizes",
        "horizon",
    ]
    with pytest.raises(AssertionError, match="lr is nowhere now"):
        today("lr", now, "")
