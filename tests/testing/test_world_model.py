"""check_world_model lets healthy models pass, and itself leaves no trace."""

import importlib.util
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from wmcomponents.pretrained import PretrainedModel
from wmcomponents.testing import ConformanceError, check_world_model
from wmcomponents.testing.strategies import toy_models
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError, Prediction, WorldModel

ROOT = Path(__file__).resolve().parents[2]


def point_mass() -> WorldModel:
    path = ROOT / "examples" / "bring_your_own_model.py"
    spec = importlib.util.spec_from_file_location("bring_your_own_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PointMass()


def toy(**options) -> ToyWorldModel:
    return ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(3), **options)


HEALTHY = {
    "PointMass": point_mass,
    "deterministic": lambda: toy(noise="none"),
    "uniform": lambda: toy(noise="uniform"),
    "normal": lambda: toy(noise="normal"),
    "valued": lambda: toy(parts=("reward", "continue", "value")),
    "bare": lambda: toy(parts=()),
    "pixels": lambda: ToyWorldModel(Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8)), Categorical(4)),
}


@pytest.mark.parametrize("model", HEALTHY)
def test_a_healthy_model_passes(model):
    result = check_world_model(HEALTHY[model]())
    assert len(result.held) + len(result.skipped) > 30
    assert "asked for" in result.skipped["modes/compile"]


@pytest.mark.compile
@pytest.mark.parametrize("model", HEALTHY)
def test_a_healthy_model_passes_compiled(model):
    assert "modes/compile" in check_world_model(HEALTHY[model](), compile=True).held


@given(toy_models())
@settings(max_examples=10)
def test_any_toy_model_passes(model):
    check_world_model(model)


def test_a_model_whose_output_layers_begin_at_zero_passes():
    model = toy()
    with torch.no_grad():
        model.heads.zero_()
        model.act.zero_()
        model.show["observation"].zero_()
    check_world_model(model)
    assert not model.act.any()


@dataclass(frozen=True)
class SavedConfig:
    size: int = 4


class Saved(PretrainedModel):
    config_class = SavedConfig

    def __init__(self, config, observation_spec, action_spec) -> None:
        super().__init__(
            observation_spec=observation_spec, action_spec=action_spec, state_spec=Composite(x=Unbounded(config.size))
        )
        self.config = config
        self.mix = nn.Linear(observation_spec["observation"].shape[-1] + action_spec.shape[-1], config.size)
        self.gain = 2.0

    def observe(self, state, action, observation, is_init, noise):
        kept = action.masked_fill(is_init, 0.0)
        return {"x": self.gain * self.mix(torch.cat([observation["observation"], kept], -1))}

    def imagine(self, state, action, noise):
        after = torch.tanh(state["x"] + action.sum(-1, keepdim=True))
        return Prediction({"x": after}, after[..., :1].clone(), torch.ones_like(after[..., :1]))


def saved() -> Saved:
    return Saved(SavedConfig(), Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)))


def test_a_model_that_can_be_saved_is_saved_and_loaded():
    assert "saving/round-trip" in check_world_model(saved()).held


def test_what_saving_forgets_is_caught():
    model = saved()
    model.gain = 3.0
    with pytest.raises(ConformanceError) as caught:
        check_world_model(model)
    assert caught.value.clauses == {"saving/round-trip"}


@pytest.mark.compile
def test_a_verb_that_reads_numbers_on_the_host_fails_only_the_compile_clause():
    class Branches(ToyWorldModel):
        def features(self, state):
            return super().features(state) * (1.0 if state["memory"].sum().item() > -1e9 else 2.0)

    check_world_model(Branches(Composite(observation=Unbounded(3)), OneHot(3)))
    with pytest.raises(ConformanceError) as caught:
        check_world_model(Branches(Composite(observation=Unbounded(3)), OneHot(3)), compile=True)
    assert caught.value.clauses == {"modes/compile"}


def test_the_check_leaves_the_global_generators_and_the_training_flags_alone():
    model = toy().train()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    wanted = (torch.rand(1), np.random.rand(), random.random())
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    check_world_model(model)
    assert (torch.rand(1), np.random.rand(), random.random()) == wanted
    assert model.training


def test_what_is_no_world_model_is_refused():
    with pytest.raises(TypeError, match="check_dream"):
        check_world_model(nn.Linear(2, 2))


def test_a_small_model_is_checked_in_two_seconds():
    start = time.perf_counter()
    check_world_model(toy())
    assert time.perf_counter() - start < 2


def test_the_undeclared_parts_of_a_toy_refuse_by_name():
    with pytest.raises(CapabilityError):
        toy(parts=()).features({})


def test_every_clause_is_in_the_table_of_the_docstring():
    from wmcomponents.testing.world_model import CLAUSES

    table = str(check_world_model.__doc__)
    ids = {clause_id for clause in CLAUSES for clause_id in clause.ids}
    assert all(f"\n    {clause_id} " in table for clause_id in ids)
    listed = {line.split()[0] for line in table.splitlines() if "/" in (line.split() or [""])[0]}
    assert listed == ids
