"""Every family trains under bfloat16 autocast: losses and gradients are finite, in every stage."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.models import OF_IMAGES
from wmcomponents.models import MODELS, make_model
from wmcomponents.objectives.staged import StagedModelLoss

VECTOR = Composite(observation=Unbounded(3))
IMAGE = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
LARGE = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
PAIRS = [(family, IMAGE if family in OF_IMAGES else VECTOR) for family in MODELS]
PAIRS += [(family, LARGE) for family in ("PlaNet", "DreamerV3", "WorldModels", "TDMPC2", "EfficientZero")]


def sequences(spec, rows=2, steps=6):
    generator = torch.Generator().manual_seed(0)
    shown = {key: torch.rand(rows, steps, *leaf.shape, generator=generator) for key, leaf in spec.items()}
    if "pixels" in shown:
        shown["pixels"] = (255 * shown["pixels"]).to(torch.uint8)
    flags = torch.zeros(2, rows, steps, 1, dtype=torch.bool)
    flags[0, :, 0] = True
    flags[1, 0, -1] = True
    action = torch.nn.functional.one_hot(torch.randint(3, (rows, steps), generator=generator), 3)
    reward = torch.randint(-1, 2, (rows, steps, 1), generator=generator).float()
    after = {**shown, "reward": reward, "terminated": flags[1], "done": flags[1].clone()}
    content = {**shown, "action": action, "is_init": flags[0], "next": TensorDict(after, [rows, steps])}
    return TensorDict(content, [rows, steps])


@pytest.mark.parametrize(("family", "spec"), PAIRS, ids=[f"{family}-{list(spec.keys())[0]}" for family, spec in PAIRS])
def test_a_step_under_autocast_has_finite_losses_and_gradients(family, spec):
    torch.manual_seed(0)
    model = make_model(family, "tiny", spec, OneHot(3)).train()
    objective, data = model.objective(), sequences(spec)
    model.prepare(data)
    optimizer = objective.make_optimizer(warmup=0)
    for stage in getattr(objective, "stages", ("all",)):
        if isinstance(objective, StagedModelLoss):
            objective.stage = stage
        with torch.autocast("cpu", torch.bfloat16):
            losses = [value for key, value in objective(data).items() if key.startswith("loss_")]
        optimizer.zero_grad()
        sum(losses).backward()
        gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
        assert losses and all(bool(value.isfinite()) for value in losses)
        assert gradients and all(bool(value.isfinite().all()) for value in gradients)
        assert any(bool(value.any()) for value in gradients)
        optimizer.step()
        with torch.autocast("cpu", torch.bfloat16):
            objective.after_update(0)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
