"""Checkpoints of github.com/eloialonso/diamond: every key of the full-size models lands."""

import pytest
import torch
from torchrl.data import Binary, Bounded, Composite, OneHot

from tests.support.golden_diamond import world_model
from tests.support.golden_vectors import load
from wmcomponents import load_official
from wmcomponents.models import Diamond, DiamondConfig
from wmcomponents.pretrained import BadModelError


def image(height, width):
    return Composite(pixels=Bounded(0, 255, (height, width, 3), dtype=torch.uint8))


def checkpoint(name):
    """The official keys, each with one number spread over its shape: all of it takes no memory."""
    info, _ = load(name)
    return {
        key: torch.full((), float(i)).expand(shape) for i, (key, (shape, _)) in enumerate(info["keys"].items(), 1)
    }, info


def test_every_key_of_an_atari_agent_lands_but_for_the_actor_critics():
    weights, info = checkpoint("diamond_atari_checkpoint_keys")
    model = Diamond.from_official(weights, observation_spec=image(64, 64), action_spec=OneHot(4))
    own = model.state_dict()
    landed = {float(value.flatten()[0]) for value in own.values()}
    expected = {float(value.flatten()[0]) for key, value in weights.items() if not key.startswith("actor_critic.")}
    assert landed == expected and len(own) == len(expected)
    assert model.config == DiamondConfig.atari()
    table = weights["denoiser.inner_model.act_emb.0.weight"]
    assert torch.equal(model.denoiser.network.action_table, table)
    assert torch.equal(model.reward_end.lstm.bias_hh, weights["rew_end_model.lstm.bias_hh_l0"])
    counts = info["param_count"]
    assert sum(p.numel() for p in model.denoiser.parameters()) == counts["denoiser"]
    assert sum(p.numel() for p in model.reward_end.parameters()) == counts["rew_end_model"]


def test_every_key_of_the_csgo_model_lands():
    weights, info = checkpoint("diamond_csgo_checkpoint_keys")
    with torch.device("meta"):
        model = Diamond.from_official(weights, observation_spec=image(150, 280), action_spec=Binary(51))
    assert len(model.state_dict()) == len(weights)
    assert sum(p.numel() for p in model.denoiser.parameters()) == info["param_count"]["denoiser"]
    assert sum(p.numel() for p in model.upsampler.parameters()) == info["param_count"]["upsampler"]


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_a_checkpoint_of_something_else_is_refused(change):
    weights, _ = checkpoint("diamond_atari_checkpoint_keys")
    key = "denoiser.inner_model.unet.d_blocks.0.resblocks.0.conv1.weight"
    value = weights.pop(key)
    if change == "unknown":
        weights |= {key: value, "denoiser.inner_model.unet.d_blocks.9.resblocks.0.conv1.weight": value}
    if change == "shape":
        weights[key] = value[:1]
    with pytest.raises(BadModelError, match=r"down_blocks\.[09]\.0\.conv1"):
        Diamond.from_official(weights, observation_spec=image(64, 64), action_spec=OneHot(4))


def test_a_file_is_read_by_name_with_the_numbers_that_were_in_it(tmp_path):
    info, vectors = load("diamond_sampler_euler3")
    expected = world_model("diamond_sampler_euler3", vectors, info)
    weights = {f"denoiser.{key.removeprefix('w/')}": value for key, value in vectors.items() if key.startswith("w/")}
    torch.save({**weights, "actor_critic.actor_linear.weight": torch.zeros(4, 4)}, tmp_path / "agent.pt")
    model = load_official(
        "diamond",
        tmp_path / "agent.pt",
        config=expected.config,
        observation_spec=expected.observation_spec,
        action_spec=expected.action_spec,
    )
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
