"""Whoever loads a model opens its folder once, and reads each file in it once."""

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torchrl.data import Composite, OneHot, Unbounded

from tests.support.running import wmc
from wmcomponents.dream import PriorStarts, Simulator
from wmcomponents.dream.make import make_simulator
from wmcomponents.models import TDMPC2, TDMPC2Config
from wmcomponents.models.loading import load, load_starts, load_with_starts
from wmcomponents.pretrained import PretrainedModel, SavedModel, StrictFolder
from wmcomponents.pretrained.tensors import TensorFile


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A model without a decoder, and its start states."""
    torch.manual_seed(0)
    model = TDMPC2(TDMPC2Config.tiny(), Composite(observation=Unbounded(3)), OneHot(2)).eval()
    starts = PriorStarts(model).sample(5, torch.Generator().manual_seed(0))
    return model.save_pretrained(tmp_path_factory.mktemp("once") / "model", starts=starts)


@contextlib.contextmanager
def counted() -> Iterator[Counter]:
    """How often a model's folder is opened, each file of it opened, and the numbers of each read and hashed."""
    counts: Counter = Counter()
    with pytest.MonkeyPatch.context() as patch:

        def count(kind: type, name: str, what: Callable[..., str]) -> None:
            original = getattr(kind, name)

            def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
                counts[what(self, *args)] += 1
                return original(self, *args, **kwargs)

            patch.setattr(kind, name, counting)

        count(StrictFolder, "__init__", lambda folder, path, *_: Path(path).name)
        count(StrictFolder, "open", lambda folder, name: name)
        count(TensorFile, "read", lambda file, *_: f"the numbers of {Path(file.name).name}")
        yield counts


ONCE = dict.fromkeys(("model", "config.json", "model.safetensors", "starts.safetensors"), 1)
NUMBERS = dict.fromkeys(("the numbers of model.safetensors", "the numbers of starts.safetensors"), 1)


def gymnasium_dream(path: Path) -> None:
    pytest.importorskip("gymnasium")
    from wmcomponents.integrations.gymnasium import DreamEnv

    DreamEnv(path, view="latent", termination="off")


def gymnasium_id(path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    gymnasium.make(
        "wmcomponents.integrations.gymnasium_registration:wmcomponents/Dream-v0",
        model=path,
        view="latent",
        termination="off",
        disable_env_checker=True,
    )


def torchrl_dream(path: Path) -> None:
    from wmcomponents.integrations.torchrl import TorchRLDreamEnv

    TorchRLDreamEnv(path, view="latent", termination="off")


def command_info(path: Path) -> None:
    pytest.importorskip("tyro")
    ran = wmc("info", "--model", path)
    assert ran.code == 0, ran.err


WAYS: dict[str, Callable[[Path], Any]] = {
    "load": load,
    "a model's own class": TDMPC2.from_pretrained,
    "load_with_starts": load_with_starts,
    "a simulator": lambda path: make_simulator(path, view="latent", termination="off"),
    "a Gymnasium dream": gymnasium_dream,
    "a Gymnasium id": gymnasium_id,
    "a TorchRL dream": torchrl_dream,
    "wmc info": command_info,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_and_each_file_in_it_are_opened_and_hashed_once(saved, way):
    WAYS[way](saved)  # what is opened at the first use of a library is not counted
    with counted() as counts:
        WAYS[way](saved)
    assert {name: counts[name] for name in (*ONCE, *NUMBERS)} == {**ONCE, **NUMBERS}


def test_a_command_that_dreams_opens_the_folder_once(tmp_path):
    pytest.importorskip("tyro")
    pytest.importorskip("matplotlib")
    from wmcomponents.models import make_model

    model = make_model("DreamerV3", "tiny", Composite(observation=Unbounded(3)), OneHot(2)).eval()
    starts = PriorStarts(model).sample(5, torch.Generator().manual_seed(0))
    path = model.save_pretrained(tmp_path / "model", starts=starts)
    with counted() as counts:
        ran = wmc("dream", "--model", path, "--steps", 2, "--out", tmp_path / "dream.png")
    assert ran.code == 0, ran.err
    assert {name: counts[name] for name in (*ONCE, *NUMBERS)} == {**ONCE, **NUMBERS}


def test_start_states_alone_are_read_without_the_weights(saved):
    with counted() as counts:
        load_starts(saved)
    assert counts["the numbers of model.safetensors"] == 0 and counts["config.json"] == counts["model"] == 1


def test_an_opened_folder_tells_config_specs_weights_and_starts(saved):
    model = load(saved)
    with counted() as counts, SavedModel.open(saved) as opened:
        observation, action = opened.specs()
        assert (observation, action) == (model.observation_spec, model.action_spec)
        assert opened.content["config"] == json.loads(json.dumps(dataclasses.asdict(model.config)))
        assert opened.weights().keys() == model.state_dict().keys()
        assert opened.starts().keys() == opened.starts().keys() == set(model.state_spec.keys())
        again: PretrainedModel = TDMPC2.from_saved(opened)
    assert Simulator(again, view="latent", termination="off").batch_size == 1
    assert {name: counts[name] for name in ONCE} == ONCE and counts["the numbers of starts.safetensors"] == 1
