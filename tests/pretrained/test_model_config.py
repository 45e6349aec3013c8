"""Configs of parts: entries and parts by their own names, and what earlier versions wrote."""

from dataclasses import dataclass, field

import pytest

from wmcomponents.pretrained import ModelConfig


@dataclass(frozen=True)
class Encoder:
    units: int = 8
    depth: int = 2


@dataclass(frozen=True)
class Network:
    encoder: Encoder = field(default_factory=Encoder)
    second: Encoder | None = field(default_factory=Encoder)
    act: str = "silu"


@dataclass(frozen=True)
class Loss:
    scale: float = 1.0
    second_steps: int = 5


@dataclass(frozen=True)
class Config(ModelConfig):
    network: Network = field(default_factory=Network)
    loss: Loss = field(default_factory=Loss)
    moved = {"encoder.scale": "loss.scale", "second.steps": "loss.second_steps"}


def test_entries_and_parts_are_varied_by_their_own_names():
    config = Config().vary(units=3, second=None, **{"loss.scale": 2.0})
    assert config == Config(Network(Encoder(units=3), second=None), Loss(scale=2.0))
    assert Config().vary(encoder=Encoder(depth=7), units=3).network.encoder == Encoder(3, 7)
    with pytest.raises(ValueError, match="has no 'unit'; it has .*Did you mean 'units'"):
        Config().vary(unit=3)


@pytest.mark.parametrize("given", ["silu", None, Loss, {"scale": 2.0}])
def test_entries_of_what_is_no_part_are_refused(given):
    with pytest.raises(ValueError, match="has no scale: change a part's entries by their names"):
        Config().vary(loss=given, scale=3.0)


def test_what_an_earlier_version_wrote_lands_in_the_parts_of_today():
    written = {
        "act": "relu",
        "encoder": {"units": 3, "depth": 4, "scale": 2.0},
        "second": {"units": 5, "depth": 1, "steps": 9},
    }
    assert Config.regrouped(written) == {
        "network": {"act": "relu", "encoder": {"units": 3, "depth": 4}, "second": {"units": 5, "depth": 1}},
        "loss": {"scale": 2.0, "second_steps": 9},
    }


def test_a_part_that_was_missing_leaves_the_defaults_of_what_moved_out_of_it():
    out = Config.regrouped({"act": "relu", "second": None, "encoder": {"units": 3, "depth": 4, "scale": 2.0}})
    assert out["network"]["second"] is None and out["loss"] == {"scale": 2.0, "second_steps": 5}


def test_what_has_no_place_today_stays_to_be_refused():
    assert Config.regrouped({"gone": 1, "gone_part": {"units": 1}}) == {"gone": 1, "gone_part": {"units": 1}}
