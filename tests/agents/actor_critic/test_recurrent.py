"""The actor-critics of IRIS, Delta-IRIS and DIAMOND against the authors' own numbers, and laws of their returns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.golden_vectors import load
from wmcomponents.agents.actor_critic import (
    RecurrentActorCritic,
    recurrent_losses,
    recurrent_returns,
    until_first_end,
)
from wmcomponents.heads import SymlogTwoHotDistribution
from wmcomponents.nn import FrameFeatures, PooledConvs, ResidualConvs

BUCKETS = SymlogTwoHotDistribution(torch.linspace(-20.0, 20.0, 255))


def tolerance(info):
    return {name: info["tolerance"][name] for name in ("rtol", "atol")}


def pixels(tensor):
    """The authors' ``[..., C, H, W]`` as an environment shows it."""
    return tensor.movedim(-3, -1)


def filled(agent, weights, encoder):
    """An agent with official weights; ``encoder`` maps a key of the encoder, or drops it with None."""
    names = {"actor_linear": "actor", "critic_linear": "critic", "lstm": "lstm"}
    state = {}
    for key, value in weights.items():
        head, _, rest = key.partition(".")
        state[f"{names[head]}.{rest}" if head in names else f"encoder.{encoder(key)}"] = value
    agent.load_state_dict(state | {key: value for key, value in agent.state_dict().items() if key.startswith("value.")})
    return agent.eval()


def weights_of(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@torch.no_grad()
def test_iriss_network_and_burn_in_are_the_authors():
    info, tensors = load("iris_actor_critic")
    agent = filled(
        RecurrentActorCritic(PooledConvs(), 1024, actions=5, units=16),
        weights_of(tensors, "weight."),
        lambda key: f"{3 * (int(key[4]) - 1)}.{key.partition('.')[2]}",
    )
    frames = pixels(tensors["input.frames_uint8"])
    # 1 marks a frame that is there.
    hx, cx = agent.burn_in(frames[:, :2], tensors["input.burn_in_mask_padding"].bool())
    torch.testing.assert_close(hx, tensors["output.hx_after_burn_in"], **tolerance(info))
    torch.testing.assert_close(cx, tensors["output.cx_after_burn_in"], **tolerance(info))
    step = agent.step(frames[:, 2], hx, cx)
    torch.testing.assert_close(step.logits[:, None], tensors["output.logits_actions"], **tolerance(info))
    torch.testing.assert_close(step.raw_value[:, None], tensors["output.means_values"], **tolerance(info))
    torch.testing.assert_close(step.hx, tensors["output.hx"], **tolerance(info))
    torch.testing.assert_close(step.cx, tensors["output.cx"], **tolerance(info))


def test_iriss_losses_are_the_authors():
    info, tensors = load("iris_actor_critic")
    config, got = info["config"], weights_of(tensors, "imagined.")
    value, ended = got["values"], got["ends"].bool()
    returns = recurrent_returns(
        got["rewards"][:, :-1], ended[:, :-1], value[:, 1:], discount=config["gamma"], lam=config["lambda_"]
    )
    losses = recurrent_losses(
        got["logits_actions"][:, :-1],
        got["actions"][:, :-1],
        value[:, :-1, None],
        returns,
        RecurrentActorCritic(PooledConvs(), 1024, actions=5, units=4).value,
        entropy_scale=config["entropy_weight"],
    )
    for found, name in zip(losses, ("actions", "values", "entropy"), strict=True):
        torch.testing.assert_close(found, tensors[f"loss.loss_{name}"], **tolerance(info))


@pytest.mark.parametrize(
    "discount,lam,name", [(0.995, 0.95, "g0.995_l0.95"), (0.9, 0.0, "g0.9_l0"), (0.9, 1.0, "g0.9_l1")]
)
def test_iriss_returns_are_the_authors(discount, lam, name):
    info, tensors = load("iris_lambda_returns")
    reward, value, ended = (tensors[f"input.{key}"] for key in ("rewards", "values", "ends"))
    found = recurrent_returns(reward[:, :-1], ended.bool()[:, :-1], value[:, 1:], discount=discount, lam=lam)
    torch.testing.assert_close(found, tensors[f"output.{name}"][:, :-1], **tolerance(info))
    assert torch.equal(tensors[f"output.{name}"][:, -1], value[:, -1])


@pytest.mark.parametrize("form", ["mse", "twohot"])
def test_delta_iriss_network_and_losses_are_the_authors(form):
    info, tensors = load(f"delta_iris_actor_critic_{form}")
    value = BUCKETS if form == "twohot" else None
    agent = filled(
        RecurrentActorCritic(FrameFeatures(), 1024, actions=5, units=16, value=value),
        weights_of(tensors, "weight.model."),
        lambda key: (
            key.replace("cnn.0.encoder", "cnn")
            .replace(".f.0.", ".norm1.")
            .replace(".f.2.", ".conv1.")
            .replace(".f.3.", ".norm2.")
            .replace(".f.5.", ".conv2.")
            .replace(".conv.weight", ".weight")
            .replace(".conv.bias", ".bias")
        ),
    )
    frames = pixels(tensors["input.frames_uint8"])
    with torch.no_grad():
        step = agent.step(frames[:, 2], *agent.burn_in(frames[:, :2]))
    torch.testing.assert_close(step.hx, tensors["output.hx"], **tolerance(info))
    torch.testing.assert_close(step.logits[:, None], tensors["output.logits_actions"], **tolerance(info))
    torch.testing.assert_close(step.raw_value[:, None], tensors["output.logits_values"], **tolerance(info))
    config, got = info["config"], weights_of(tensors, "imagined.")
    ended, target = got["ends"].bool(), got["target_values"]
    following = torch.cat([target[:, 1:], got["value_bootstrap"][:, None]], 1)
    returns = recurrent_returns(got["rewards"], ended, following, discount=config["gamma"], lam=config["lambda_"])
    raw = got["logits_values"] if form == "twohot" else got["logits_values"].unsqueeze(-1)
    losses = recurrent_losses(
        got["logits_actions"],
        got["actions"],
        raw,
        returns,
        agent.value,
        entropy_scale=config["entropy_weight"],
        baseline=target,
        counts=until_first_end(ended),
    )
    for found, name in zip(losses, ("actions", "values", "entropy"), strict=True):
        torch.testing.assert_close(found, tensors[f"loss.loss_{name}"], **tolerance(info))


def test_delta_iriss_returns_and_mask_are_the_authors():
    info, tensors = load("delta_iris_returns_twohot")
    reward, value, ended = (tensors[f"input.{key}"] for key in ("rewards", "values", "ends"))
    following = torch.cat([value[:, 1:], tensors["input.value_bootstrap"][:, None]], 1)
    found = recurrent_returns(reward, ended.bool(), following, discount=0.995)
    torch.testing.assert_close(found, tensors["output.g0.995_l0.95"], **tolerance(info))
    assert torch.equal(until_first_end(ended.bool()), tensors["output.mask_after_first_done"].bool())
    torch.testing.assert_close(
        BUCKETS.mean(tensors["input.logits"]).squeeze(-1), tensors["output.symexp_expectation"], **tolerance(info)
    )


@torch.no_grad()
def test_diamonds_network_is_the_authors():
    info, tensors = load("diamond_actor_critic")
    encoder = ResidualConvs(channels=(8, 8, 16), halves=(True, True, False))
    agent = filled(
        RecurrentActorCritic(encoder, 256, actions=5, units=16),
        weights_of(tensors, "w/") if any(key.startswith("w/") for key in tensors) else weights_of(tensors, "weight."),
        lambda key: (
            key.removeprefix("encoder.encoder.")
            .replace(".f.0.norm.", ".norm.")
            .replace(".f.2.", ".conv.")
            .replace("skip_projection", "skip")
        ),
    )
    hx, cx = agent.lstm(agent.encoder((tensors["in/obs"] + 1) / 2), (tensors["in/hx"], tensors["in/cx"]))
    torch.testing.assert_close(hx, tensors["out/hx"], **tolerance(info))
    torch.testing.assert_close(cx, tensors["out/cx"], **tolerance(info))
    torch.testing.assert_close(agent.actor(hx), tensors["out/logits_act"], **tolerance(info))
    torch.testing.assert_close(agent.critic(hx).squeeze(-1), tensors["out/val"], **tolerance(info))


def test_diamonds_returns_and_losses_are_the_authors():
    info, tensors = load("diamond_actor_critic_loss")
    config, got = info["config"], weights_of(tensors, "in/")
    ended, cut = got["end"].bool(), got["trunc"].bool()
    returns = {
        lam: recurrent_returns(
            got["rew"].sign(), ended, got["val_bootstrap"], discount=config["gamma"], lam=lam, truncated=cut
        )
        for lam in (0.95, 0.0, 1.0)
    }
    for lam, found in returns.items():
        torch.testing.assert_close(found, tensors[f"out/lambda_returns_{lam}"], **tolerance(info))
    losses = recurrent_losses(
        got["logits_act"],
        got["act"],
        got["val"].unsqueeze(-1),
        returns[0.95],
        RecurrentActorCritic(PooledConvs(), 1024, actions=5, units=4).value,
        entropy_scale=config["weight_entropy_loss"],
    )
    for found, name in zip(losses, ("actions", "values", "entropy"), strict=True):
        torch.testing.assert_close(found, tensors[f"out/loss_{name}"], **tolerance(info))
    torch.testing.assert_close(sum(losses), tensors["out/loss"], **tolerance(info))


@given(st.integers(0, 2**31 - 1), st.integers(0, 4))
def test_a_cut_goes_on_with_the_value_alone_and_an_end_with_nothing(seed, at):
    generator = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(2, 5, generator=generator)
    mark = torch.zeros(5, dtype=torch.bool)
    mark[at] = True
    cut = recurrent_returns(reward, torch.zeros_like(mark), value, discount=0.9, lam=0.7, truncated=mark)
    over = recurrent_returns(reward, mark, value, discount=0.9, lam=0.7)
    torch.testing.assert_close(cut[at], reward[at] + 0.9 * value[at])
    torch.testing.assert_close(over[at], reward[at])


def test_padding_leaves_the_memory_as_it_is():
    torch.manual_seed(0)
    agent = RecurrentActorCritic(PooledConvs(channels=(4, 4)), 64, actions=3, units=8)
    images = torch.randint(256, (2, 3, 16, 16, 3), dtype=torch.uint8)
    known = torch.tensor([[False, True, True], [True, True, True]])
    padded, plain = agent.burn_in(images, known), agent.burn_in(images[:, 1:])
    for with_padding, without in zip(padded, plain, strict=True):
        torch.testing.assert_close(with_padding[0], without[0])
        assert not torch.equal(with_padding[1], without[1])


def test_diamonds_heads_begin_at_zero():
    agent = RecurrentActorCritic(ResidualConvs(channels=(8,), halves=(True,)), 512, actions=3, units=8, zero_heads=True)
    step = agent.step(torch.zeros(1, 16, 16, 3, dtype=torch.uint8), *agent.initial_state(1))
    assert not step.logits.any() and not step.raw_value.any()
