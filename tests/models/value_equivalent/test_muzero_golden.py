"""MuZero against muzero-general's networks on random weights."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.golden_vectors import load
from wmcomponents.models import MuZero, MuZeroConfig
from wmcomponents.pretrained import BadModelError


def close(actual, expected, meta):
    torch.testing.assert_close(actual, expected, **meta["tolerance"])


def weights(tensors):
    return {key.removeprefix("state_dict."): value for key, value in tensors.items() if key.startswith("state_dict.")}


def fully_connected(checkpoint=None, **changes):
    meta, tensors = load("muzero_general_fc")
    c = meta["config"]
    config = MuZeroConfig().vary(
        units=c["encoding_size"],
        representation=tuple(c["fc_representation_layers"]),
        dynamics=tuple(c["fc_dynamics_layers"]),
        heads=tuple(c["fc_value_layers"]),
        support=c["support_size"],
        past=c["stacked_observations"],
        **changes,
    )
    specs = {
        "observation_spec": Composite(observation=Unbounded(c["observation_shape"][-1])),
        "action_spec": OneHot(c["action_space_size"]),
    }
    return MuZero.from_official(checkpoint or weights(tensors), config=config, **specs), meta, tensors


def residual(checkpoint=None, **changes):
    meta, tensors = load("muzero_general_resnet")
    c = meta["config"]
    config = MuZeroConfig().vary(
        blocks=c["num_blocks"],
        channels=c["num_channels"],
        reduced=c["reduced_channels"],
        reduced_heads=tuple(c["fc_layers"]),
        support=c["support_size"],
        past=c["stacked_observations"],
        downsample=c["downsample"],
        **changes,
    )
    channels, height, width = c["observation_shape"]
    specs = {
        "observation_spec": Composite(pixels=Bounded(0, 255, (height, width, channels), dtype=torch.uint8)),
        "action_spec": OneHot(c["action_space_size"]),
    }
    return MuZero.from_official(checkpoint or weights(tensors), config=config, **specs), meta, tensors


@pytest.mark.parametrize("build", [fully_connected, residual])
def test_initial_and_recurrent_inference_are_the_official_ones(build):
    model, meta, t = build()
    frames = t["in.obs"]
    stack = frames.flatten(1).unsqueeze(1) if len(model.frames.space) == 1 else frames
    latent = model.representation.compute(stack.reshape(-1, model.history.channels, *model.frames.space))
    action = torch.nn.functional.one_hot(t["in.action"].squeeze(-1), model.action_vector.size).float()
    following, unscaled = model.transition.compute(latent, action)
    reward_logits, reward = model.reward_head.compute(unscaled)
    for step, state in enumerate((latent, following)):
        close(state, t[f"out{step}.hidden"], meta)
        policy, value_logits, _ = model.prediction.compute(state)
        close(policy, t[f"out{step}.policy_logits"], meta)
        close(value_logits, t[f"out{step}.value_logits"], meta)
    close(reward_logits, t["out1.reward_logits"], meta)
    dreamed = model.imagine({**model.initial_state((len(latent),)), "latent": latent.flatten(1)}, action, None)
    close(dreamed.state["latent"], t["out1.hidden"].flatten(1), meta)
    torch.testing.assert_close(dreamed.reward, reward)
    assert dreamed.cont is None


def test_the_root_s_reward_is_certainly_zero():
    model, _, t = fully_connected()
    nothing = model.reward_head.support.encode(torch.zeros(5)).log().clamp_min(-1e30)
    assert torch.equal(nothing, t["out0.reward_logits"])


def test_the_stack_is_muzero_generals():
    model, _, _ = fully_connected()
    state = model.initial_state((1,))
    first, second, third = (torch.full((1, 4), value) for value in (1.0, 2.0, 3.0))
    turn, on = torch.nn.functional.one_hot(torch.tensor([2]), 3).float(), torch.tensor([[False]])
    seen = []
    for observation, is_init in ((first, ~on), (second, on), (third, on), (first, ~on)):
        stack, memory = model._remember(state, turn, model.frames({"observation": observation}), is_init)
        state = {**state, **memory}
        seen.append(stack[0, :, 0].tolist())
    # Newest first; behind each past observation the action that was taken there, as a / |A|; zeros before the start.
    assert seen == [[1, 0, 0], [2, 1, pytest.approx(2 / 3)], [3, 2, pytest.approx(2 / 3)], [1, 0, 0]]


@pytest.mark.parametrize("build", [fully_connected, residual])
def test_every_key_of_a_checkpoint_must_land(build):
    _, _, t = build()
    whole = weights(t)
    some = next(key for key in whole if key.endswith("weight") and "downsample" not in key and ".conv." not in key)
    with pytest.raises(BadModelError, match="nothing in the checkpoint lands"):
        build({key: value for key, value in whole.items() if key != some})
    with pytest.raises(BadModelError, match="does not know"):
        build({**whole, "extra.weight": torch.zeros(1)})
    with pytest.raises(BadModelError, match=some.replace(".", r"\.")):
        build({**whole, some: torch.zeros(1, 1, 1, 1, 1)})
    assert build({"weights": whole, "training_step": 7})[0]


def test_a_part_that_the_checkpoint_lacks_is_refused():
    with pytest.raises(BadModelError, match="continue_head"):
        fully_connected(continue_head=True)
