"""Calls lead down the house in every family: through its loss, its dream, and its folder on disk."""

import pytest
import torch
from tensordict import TensorDict

from tests.support import walks
from tests.support.drive import actions, sequences, view_of
from tests.support.pages import rooms
from wmcomponents.dream import PriorStarts, Simulator
from wmcomponents.models.loading import load_with_starts
from wmcomponents.pretrained import PretrainedModel


def check(walk):
    """No call climbs, nor do calls lead round in a circle; a model that stands at the top is a user's own."""
    assert [call for call in walks.climbs(walk, rooms()) if not call.callee.startswith("testing/")] == []
    assert set(walks.ordered(walk)) == set(walk.passed)


def transitions(model, rows=2, steps=12):
    """Sequences in TorchRL's layout."""
    shown = sequences(model, rows, steps + 1)
    flags = {key: torch.zeros(rows, steps, 1, dtype=torch.bool) for key in ("terminated", "truncated", "done")}
    content = {key: shown[key][:, :-1] for key in model.observation_spec.keys()}
    following = {key: shown[key][:, 1:] for key in model.observation_spec.keys()}
    content |= {"action": actions(model, rows, steps), "is_init": flags["done"].clone()}
    content["next"] = {**following, **flags, "reward": torch.randn(rows, steps, 1)}
    return TensorDict(content, [rows, steps])


def test_through_the_loss(model):
    if "objective" not in model.capabilities:
        pytest.skip("the model has no objective")
    objective, data = model.objective(), transitions(model)
    for stage in getattr(objective, "stages", [None]):
        if stage is not None:
            objective.stage = stage
        with walks.Walk() as walk:
            objective(data)
        check(walk)


def test_through_the_dream(model):
    simulator = Simulator(model.eval(), PriorStarts(model), batch_size=2, view=view_of(model))
    with walks.Walk() as walk:
        simulator.reset()
        simulator.step(actions(model, 2))
    check(walk)


def test_to_disk_and_back(model, tmp_path):
    if not isinstance(model, PretrainedModel):
        pytest.skip("the model has no folder")
    with walks.Walk() as walk:
        model.save_pretrained(tmp_path / "model")
        load_with_starts(tmp_path / "model")
    check(walk)
