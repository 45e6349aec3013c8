"""EfficientZero against its authors' network on random weights."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot

from tests.support.golden_vectors import load
from wmcomponents.functional import negative_cosine
from wmcomponents.models import EfficientZero, EfficientZeroConfig
from wmcomponents.pretrained import BadModelError


def close(actual, expected, meta):
    torch.testing.assert_close(actual.reshape(expected.shape), expected, **meta["tolerance"])


def build(checkpoint=None, **changes):
    meta, tensors = load("efficientzero_net")
    c = meta["config"]
    planes, height, width = c["obs"]
    config = EfficientZeroConfig.atari(
        blocks=c["blocks"],
        channels=c["channels"],
        reduced=c["reduced"],
        reduced_heads=tuple(c["fc"]),
        support=c["support"] // 2,
        lstm=c["lstm"],
        projection=c["proj_hid"],
        bottleneck=c["pred_hid"],
        **changes,
    )
    weights = {k.removeprefix("state_dict."): v for k, v in tensors.items() if k.startswith("state_dict.")}
    spec = Composite(pixels=Bounded(0, 255, (height, width, planes // config.network.frames), dtype=torch.uint8))
    model = EfficientZero.from_official(
        checkpoint or weights, config=config, observation_spec=spec, action_spec=OneHot(c["actions"])
    )
    return model, meta, tensors


def test_two_steps_of_the_official_network():
    model, meta, t = build()
    latent = model.representation.compute(t["in.obs"])
    memory = model.fresh_memory(torch.zeros(3, 1))
    for step in range(3):
        policy, value_logits, value = model.prediction.compute(latent)
        close(latent, t[f"out{step}.state"], meta)
        close(policy, t[f"out{step}.policy_logits"], meta)
        close(value_logits, t[f"out{step}.value_logits"], meta)
        close(value, t[f"out{step}.value"], meta)
        if step == 2:
            break
        action = torch.nn.functional.one_hot(t[f"in.action{step}"].squeeze(-1), 6).float()
        latent, unscaled = model.transition.compute(latent, action)
        before = memory["value_prefix"]
        logits, reward, memory = model.reward_head.advance(unscaled, memory)
        close(logits, t[f"out{step + 1}.value_prefix_logits"], meta)
        close(memory["value_prefix"], t[f"out{step + 1}.value_prefix"], meta)
        close(memory["lstm_h"], t[f"out{step + 1}.lstm_h"], meta)
        close(memory["lstm_c"], t[f"out{step + 1}.lstm_c"], meta)
        close(reward, t[f"out{step + 1}.value_prefix"] - before, meta)


def test_a_dream_gives_the_differences_of_the_official_prefixes():
    model, meta, t = build()
    state = {**model.initial_state((3,)), "latent": model.flat(model.representation.compute(t["in.obs"]))}
    before = torch.zeros(3, 1)
    for step in range(2):
        action = torch.nn.functional.one_hot(t[f"in.action{step}"].squeeze(-1), 6).float()
        state, reward, _ = model.imagine(state, action, None)
        close(state["latent"], t[f"out{step + 1}.state"], meta)
        close(reward, t[f"out{step + 1}.value_prefix"] - before, meta)
        before = t[f"out{step + 1}.value_prefix"]


def test_projections_and_consistency_are_the_official_ones():
    model, meta, t = build()
    observed, imagined = t["out0.state"], t["out2.state"]
    projected, (_, predicted) = model.projection.project(observed), model.projection.compute(imagined)
    close(projected, t["out.project_observation"], meta)
    close(predicted, t["out.project_dynamic"], meta)
    close(negative_cosine(predicted, projected), t["out.consistency_loss"], meta)
    close(model.projection.loss(imagined, observed), t["out.consistency_loss"], meta)


def test_every_key_of_a_checkpoint_must_land():
    _, _, t = build()
    whole = {key.removeprefix("state_dict."): value for key, value in t.items() if key.startswith("state_dict.")}
    with pytest.raises(BadModelError, match="nothing in the checkpoint lands"):
        build({key: value for key, value in whole.items() if "lstm" not in key})
    with pytest.raises(BadModelError, match="does not know"):
        build({**whole, "reward_network.weight": torch.zeros(1)})
    assert build({**whole, "dynamics_network.reward_resblocks.0.conv1.weight": torch.zeros(1)})[0]
