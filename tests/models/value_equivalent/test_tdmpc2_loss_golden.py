"""One whole update of the authors' code: targets, losses, gradients, and the weights after it."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import ReplayBuffer

from tests.support.golden_tdmpc2 import UPDATES, ours, recorded, update
from wmcomponents.training import Trainer

SCALES = {"consistency": 20.0, "reward": 0.1, "value": 0.1}


@pytest.fixture(params=UPDATES)
def vector(request):
    return recorded(request.param)


def test_value_targets_and_model_losses_are_the_official_ones(vector):
    meta, tensors, model = vector
    losses, info, _ = model.objective().model_terms(*update(tensors))
    torch.testing.assert_close(info["value_target"].T.unsqueeze(-1), tensors["out.td_target"], **meta["tolerance"])
    for name, scale in SCALES.items():
        torch.testing.assert_close(losses[name].mean() / scale, tensors[f"out.info.{name}_loss"], **meta["tolerance"])
    total = sum(loss.mean() for loss in losses.values())
    torch.testing.assert_close(total, tensors["out.info.total_loss"], **meta["tolerance"])


def test_gradients_of_the_model_are_the_official_ones(vector):
    meta, tensors, model = vector
    losses, _, _ = model.objective().model_terms(*update(tensors))
    sum(loss.mean() for loss in losses.values()).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    official = {name: value for name, value in ours(tensors, "grad.").items() if not name.startswith("policy")}
    assert found.keys() == official.keys()
    for name, gradient in official.items():
        torch.testing.assert_close(found[name], gradient, **meta["tolerance"], msg=lambda text, n=name: f"{n}: {text}")
    norm = torch.nn.utils.get_total_norm(list(found.values()))
    torch.testing.assert_close(norm, tensors["out.info.grad_norm"], **meta["tolerance"])


def test_the_whole_update_in_the_official_order_gives_the_official_weights(vector):
    meta, tensors, model = vector
    objective = model.objective()
    optimizer = objective.make_optimizer()
    windows, draws = update(tensors)
    objective.policy_scale.copy_(tensors["in.scale"].squeeze())
    losses, _, latents = objective.model_terms(windows, draws)
    sum(loss.mean() for loss in losses.values()).backward()
    optimizer.step()
    optimizer.zero_grad()
    losses, info = objective.policy_terms(latents, draws)
    for name, value in (
        ("loss", losses["policy"]),
        ("entropy", info["policy_entropy"]),
        ("scaled_entropy", info["policy_bonus"]),
        ("scale", info["policy_scale"]),
    ):
        torch.testing.assert_close(value.mean(), tensors[f"out.info.pi_{name}"], **meta["tolerance"])
    losses["policy"].mean().backward()
    gradients = {name: value for name, value in ours(tensors, "grad.").items() if name.startswith("policy")}
    parameters = dict(model.named_parameters())
    for name, gradient in gradients.items():
        torch.testing.assert_close(parameters[name].grad, gradient, **meta["tolerance"])
    norm = torch.nn.utils.get_total_norm([parameters[name].grad for name in gradients])
    torch.testing.assert_close(norm, tensors["out.info.pi_grad_norm"], **meta["tolerance"])
    for name, parameter in parameters.items():  # the authors step the policy alone here
        parameter.grad = parameter.grad if name in gradients else None
    optimizer.step()
    objective.after_update(0)
    torch.testing.assert_close(objective.policy_scale.reshape(1), tensors["out.scale"], **meta["tolerance"])
    state = model.state_dict()
    for name, value in ours(tensors, "after.").items():
        torch.testing.assert_close(state[name], value, **meta["tolerance"], msg=lambda text, n=name: f"{n}: {text}")


def test_an_update_of_the_training_loop_is_the_official_one(vector):
    meta, tensors, model = vector
    windows, draws = update(tensors)
    data = TensorDict(
        {
            **windows.observation,
            "action": windows.action,
            "is_init": windows.begins.unsqueeze(-1),
            "next": {
                **windows.following,
                "reward": windows.reward,
                "terminated": windows.terminated,
                "done": windows.terminated,
            },
        },
        windows.weight.shape,
    )
    trainer = Trainer(model, ReplayBuffer(), progress=False)
    trainer.objective.policy_scale.copy_(tensors["in.scale"].squeeze())
    trainer.objective.draw = lambda *_: draws
    found = trainer.update(data)
    for name in ("consistency", "reward", "value"):
        torch.testing.assert_close(
            found[f"loss_{name}"] / SCALES[name], tensors[f"out.info.{name}_loss"], **meta["tolerance"]
        )
    for name, official in (("loss_policy", "loss"), ("policy_bonus", "scaled_entropy"), ("policy_scale", "scale")):
        torch.testing.assert_close(found[name], tensors[f"out.info.pi_{official}"], **meta["tolerance"])
    torch.testing.assert_close(trainer.objective.policy_scale.reshape(1), tensors["out.scale"], **meta["tolerance"])
    state = model.state_dict()
    for name, value in ours(tensors, "after.").items():
        torch.testing.assert_close(state[name], value, **meta["tolerance"], msg=lambda text, n=name: f"{n}: {text}")
    policy = torch.nn.utils.get_total_norm([p.grad for p in model.policy.parameters()])
    torch.testing.assert_close(policy, tensors["out.info.pi_grad_norm"], **meta["tolerance"])


def test_clipped_gradients_keep_the_policy_apart(vector):
    _, tensors, model = vector
    objective = model.objective()
    optimizer = objective.make_optimizer()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 1e3 if name.startswith("policy") else 1e-3)
    optimizer.step()
    policy = [p.grad for p in model.policy.parameters()]
    torch.testing.assert_close(torch.nn.utils.get_total_norm(policy), torch.tensor(20.0), rtol=1e-4, atol=0)
    assert all(p.grad.max() == 1e-3 for p in model.dynamics.parameters())
