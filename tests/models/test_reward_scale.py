"""Rewards of any size in every family: what a tiny preset dreams, and what a published one says before it trains."""

import re

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.models import OF_IMAGES
from wmcomponents import load
from wmcomponents.codecs import RewardRangeWarning
from wmcomponents.models import MODELS, make_model

VECTOR, IMAGE = Composite(observation=Unbounded(3)), Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
SIGNS = frozenset({"IRIS", "DeltaIRIS", "Diamond"})


def paid(spec, scale, rows=4, steps=12):
    """Sequences in which every step pays ``scale``."""
    generator = torch.Generator().manual_seed(0)
    shown = {key: torch.rand(rows, steps, *leaf.shape, generator=generator) for key, leaf in spec.items()}
    if "pixels" in shown:
        shown["pixels"] = (255 * shown["pixels"]).to(torch.uint8)
    flags = torch.zeros(2, rows, steps, 1, dtype=torch.bool)
    flags[0, :, 0] = True
    action = torch.nn.functional.one_hot(torch.randint(2, (rows, steps), generator=generator), 2)
    after = {**shown, "reward": torch.full((rows, steps, 1), scale), "terminated": flags[1], "done": flags[1].clone()}
    content = {**shown, "action": action, "is_init": flags[0], "next": TensorDict(after, [rows, steps])}
    return TensorDict(content, [rows, steps])


def built(family, preset="tiny", **changes):
    torch.manual_seed(0)
    return make_model(family, preset, IMAGE if family in OF_IMAGES else VECTOR, OneHot(2), **changes)


@pytest.mark.parametrize("family", sorted(set(MODELS) - set(OF_IMAGES)))
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_tiny_presets_hold_rewards_of_any_size_without_a_word(family, scale):
    model = built(family)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.prepare(paid(VECTOR, scale))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    units = {key: float(value) for key, value in model.state_dict().items() if key.endswith(".unit.unit")}
    assert all(value == scale for value in units.values())
    # Where rewards are ordinary, nothing of the preset is another than it was.
    assert scale > 1 or not any(key.endswith(".unit.unit") for key in changed)


@pytest.mark.parametrize("family", sorted(SIGNS))
def test_families_of_signs_say_so(family):
    model = built(family)
    model.prepare(paid(IMAGE, -1.0))
    with pytest.warns(RewardRangeWarning, match="signs"):
        model.prepare(paid(IMAGE, 5.0))


@pytest.mark.parametrize(
    ("family", "preset", "scale", "beyond"),
    [
        ("MuZero", "cartpole", 1e3, "117.43"),
        ("TDMPC2", "size1", 1e5, "22025.5"),
        ("DreamerV1", "official", 1e3, "100"),
        ("DreamerV2", "atari", 5.0, "3"),
        ("EfficientZero", "state", 1e6, "58705.6"),
    ],
)
def test_published_presets_stay_as_they_are_and_warn(family, preset, scale, beyond):
    with torch.device("meta"):
        sizes = set(built(family, preset).state_dict())
    assert not any(key.endswith(".unit") for key in sizes)
    model = built(family, preset)
    with pytest.warns(RewardRangeWarning, match=beyond):
        model.prepare(paid(VECTOR, scale))


@pytest.mark.parametrize("family", ["DreamerV2", "MuZero", "TDMPC2"])
def test_the_unit_is_saved_with_the_model(family, tmp_path):
    model = built(family).eval()
    model.prepare(paid(VECTOR, 1e5))
    again = load(model.save_pretrained(tmp_path / "model"))
    state, action = model.initial_state((2,)), torch.tensor([[1, 0], [0, 1]])
    assert torch.equal(again.imagine(state, action, None).reward, model.imagine(state, action, None).reward)
    units = {key: float(value) for key, value in again.state_dict().items() if key.endswith("unit")}
    assert units and set(units.values()) == {1e5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "scale", "steps"),
    [
        ("DreamerV1", 1e3, 60),
        ("DreamerV2", 1e3, 60),
        ("DreamerV3", 1e5, 60),
        ("DreamerV3Preprint", 1e5, 60),
        ("EfficientZero", 1e3, 100),
        ("MuZero", 1e3, 60),
        ("PlaNet", 1e3, 60),
        ("TDMPC2", 1e5, 60),
        ("WorldModels", 1e5, 60),
    ],
)
def test_a_world_that_always_pays_as_much_is_dreamt_so(family, scale, steps):
    model = built(family)
    data = paid(VECTOR, scale, rows=8)
    model.prepare(data)
    objective = model.objective()
    optimizer = objective.make_optimizer(lr=3e-3, warmup=0)
    model.train()
    for step in range(steps):
        number = 10**6 + step if family == "WorldModels" else step  # M's stage
        objective.before_update(number)
        sum(value for key, value in objective(data).items() if key.startswith("loss_")).backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_update(number)
    model.eval()
    shown = {key: data[key] for key in data.keys() if key == "observation"}
    state = model.observe_last(model.initial_state((8,)), data["action"], shown, data["is_init"], None)
    with torch.no_grad():
        reward = model.imagine(state, data["action"][:, -1], None).reward
    assert 0.3 * scale < float(reward.mean()) < 3 * scale


@pytest.mark.parametrize(
    ("family", "places"), [("PlaNet", ["reward_head.transform"]), ("TDMPC2", ["reward_head.unit", "q.unit"])]
)
def test_units_of_earlier_folders_have_their_place_in_the_models_of_today(family, places):
    model = built(family)
    for key in (f"{place}.{name}" for place in places for name in ("unit", "fitted")):
        renamed = key
        for pattern, replacement in model.format_1_weights:
            renamed = re.sub(pattern, replacement, renamed)
        assert key not in model.state_dict() and renamed in model.state_dict()
