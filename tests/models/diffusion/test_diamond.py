"""DIAMOND: sizes, samplers, the dream written out by hand, buffers, start states."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.golden_diamond import channels_last, one_hot, world_model
from tests.support.golden_vectors import load
from tests.support.small_diamond import SMALL, UPSAMPLED, image
from wmcomponents.dream import Simulator
from wmcomponents.functional import EDMSampler, from_bytes, to_bytes
from wmcomponents.models import Diamond, DiamondConfig, presets
from wmcomponents.models.diffusion.diamond.config import (
    FINE_DYNAMICS,
    FINE_UPSAMPLER,
)
from wmcomponents.testing import check_world_model
from wmcomponents.world_model import CapabilityError


def with_nonzero_weights(model, seed=0):
    """Weights that let everything through, for output layers begin at zero."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def small(seed=0, **changes):
    torch.manual_seed(seed)
    return with_nonzero_weights(Diamond(SMALL.vary(**changes), image(16), OneHot(4))).eval()


def frames(*batch, size=16, seed=0):
    return torch.randint(0, 256, (*batch, size, size, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def choices(*batch, seed=0):
    return one_hot(torch.randint(0, 4, batch, generator=torch.Generator().manual_seed(seed)), 4)


def filtered(model, pixels, actions):
    """The state after the frames of one episode ``[n, T]`` and the actions between them ``[n, T - 1]``."""
    n, steps = pixels.shape[:2]
    led = torch.cat([torch.zeros(n, 1, 4), actions], 1)
    is_init = torch.zeros(n, steps, 1, dtype=torch.bool)
    is_init[:, 0] = True
    with torch.no_grad():
        states = model.observe_sequence(model.initial_state((n,)), led, {"pixels": pixels}, is_init, None)
    return {key: value[:, -1] for key, value in states.items()}


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_the_papers_sizes_have_the_papers_parameters():
    with torch.device("meta"):
        atari = Diamond(DiamondConfig.atari(), image(64), OneHot(4))
        csgo = Diamond(DiamondConfig.csgo(), image(150, 280), Binary(51))

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(atari.denoiser) == 4_405_955 and count(atari.reward_end) == 5_900_864
    assert count(csgo.denoiser) == 330_489_219 and count(csgo.upsampler) == 51_149_187
    assert atari.reward_end.lstm.in_features == 2048 and csgo.small_shape == (30, 56, 3)
    assert csgo.capabilities == {"decode", "objective"}


def test_gamengens_context_is_of_64_noised_frames_and_actions():
    with torch.device("meta"):
        model = Diamond(DiamondConfig.gamengen(), image(240, 320), OneHot(18))
    network = model.denoiser.network
    assert network.conv_in.in_channels == (64 + 1) * 3 and network.action_table.shape == (18, 1280 // 64)
    assert network.context_noise_features is not None and model.sampler.steps == 4
    assert model.capabilities == {"decode", "objective"}


def test_a_small_world_learns_with_noised_context_from_given_frames_alone():
    model = small(noised_context=True, reward_end=None, autoregressive=0, segments=1)
    objective = model.objective()
    flag = torch.zeros(2, 8, 1, dtype=torch.bool)
    seen = frames(2, 9)
    after = {"pixels": seen[:, 1:], "reward": torch.zeros(2, 8, 1), "terminated": flag, "done": flag}
    now = {"pixels": seen[:, :-1], "action": choices(2, 8), "is_init": flag.clone()}
    batch = TensorDict({**now, "next": TensorDict(after, [2, 8])}, [2, 8])
    objective(batch)["loss_denoising"].backward()
    named = objective.world_model_params.flatten_keys(".").items()
    assert any("context_noise" in name or "cond_mlp" in name for name, value in named if value.grad is not None)


def test_tiny_is_small_and_first_of_the_presets():
    assert presets("Diamond") == ("tiny", "pong", "atari", "csgo", "gamengen")
    for preset, size in (("tiny", 16), ("tiny", 32), ("pong", 64)):
        model = Diamond(getattr(DiamondConfig, preset)(), image(size), OneHot(4))
        assert sum(p.numel() for p in model.parameters()) < 2e6


# -- the dream, against the parts put together by hand ---------------------------------------------------------------


@torch.no_grad()
def test_a_dream_is_the_papers_loop_over_its_buffers():
    model = small()
    n, horizon = 3, 6
    pixels, acts = frames(n, 4), choices(n, 3)
    state = filtered(model, pixels, acts)
    # The paper's environment: buffers of frames and actions, the last action put in place before sampling, then rolled.
    obs_buffer = from_bytes(pixels).permute(0, 1, 4, 2, 3)
    act_buffer = torch.cat([acts, torch.zeros(n, 1, 4)], 1)
    head, h, c = model.reward_end, torch.zeros(n, 8), torch.zeros(n, 8)
    for t in range(3):
        h, c = head.advance(head.encode(obs_buffer[:, t], acts[:, t], obs_buffer[:, t + 1]), h, c)
    torch.testing.assert_close(state["h"], h, rtol=1e-4, atol=1e-5)
    source, generator = model.noise_source("imagine"), torch.Generator().manual_seed(1)
    for step in range(horizon):
        action, noise = choices(n, seed=step), source((n,), generator)
        act_buffer[:, -1] = action
        x = noise["frame"].permute(0, 3, 1, 2)
        for sigma, following in zip(model.sampler.sigmas()[:-1], model.sampler.sigmas()[1:], strict=True):
            level = torch.full((n,), sigma)
            denoised = model.denoiser.denoise(x, level, obs_buffer.flatten(1, 2), act_buffer)
            x = x + (x - denoised) / sigma * (following - sigma)
        h, c = head.advance(head.encode(obs_buffer[:, -1], action, x), h, c)
        rewards, ends = head.raw(h)
        state, reward, cont = model.imagine(state, action, noise)
        bytes_apart = (to_bytes(x).permute(0, 2, 3, 1).int() - state["frames"][:, -1].int()).abs()
        assert int(bytes_apart.max()) <= 1 and float(bytes_apart.float().mean()) < 1e-3
        assert torch.equal(reward[:, 0], head.rewards.reward(rewards, noise["reward"][:, 0]))
        torch.testing.assert_close(cont, head.cont(ends), rtol=1e-3, atol=1e-4)
        obs_buffer, act_buffer = obs_buffer.roll(-1, 1), act_buffer.roll(-1, 1)
        obs_buffer[:, -1] = from_bytes(state["frames"][:, -1]).permute(0, 3, 1, 2)


@torch.no_grad()
@pytest.mark.parametrize("name, order", [("diamond_sampler_euler3", 1), ("diamond_sampler_heun3", 2)])
def test_a_step_of_the_dream_gives_the_official_sample(name, order):
    info, vectors = load(name)
    model = world_model(name, vectors, info)
    model.sampler = EDMSampler(order=order)
    pixels, acts = to_bytes(channels_last(vectors["in/prev_obs"])), one_hot(vectors["in/prev_act"], 4)
    state = filtered(model, pixels, acts[:, :-1])
    state, reward, cont = model.imagine(state, acts[:, -1], {"frame": channels_last(vectors["rec/x0"])})
    assert reward is None and cont is None
    drawn = from_bytes(model.decode(state)["pixels"])
    torch.testing.assert_close(drawn, channels_last(vectors["out/x"]), **info["tolerance"])


@torch.no_grad()
def test_noise_on_the_context_accumulates_over_the_steps_of_a_sample():
    model = with_nonzero_weights(Diamond(UPSAMPLED.vary(upsampler=None), image(16), OneHot(4)))
    pixels, acts = frames(2, 2), choices(2, 1)
    state = filtered(model, pixels, acts)
    noise = model.noise_source("imagine")((2,), torch.Generator().manual_seed(0))
    assert noise["context_noise"].shape == (2, 2, 2, 16, 16, 3)
    x, context = noise["frame"].permute(0, 3, 1, 2), from_bytes(pixels).permute(0, 1, 4, 2, 3)
    actions = torch.cat([acts, choices(2, 1, seed=3)], 1)
    for i, (sigma, following) in enumerate(zip(model.sampler.sigmas()[:-1], model.sampler.sigmas()[1:], strict=True)):
        context = context + 0.05 * noise["context_noise"][:, i].permute(0, 1, 4, 2, 3)
        told = torch.full((2,), 0.05)
        denoised = model.denoiser.denoise(x, torch.full((2,), sigma), context.flatten(1, 2), actions, told)
        x = x + (x - denoised) / sigma * (following - sigma)
    state = model.imagine(state, actions[:, -1], noise).state
    assert int((state["frames"][:, -1].int() - to_bytes(x).permute(0, 2, 3, 1).int()).abs().max()) <= 1


@torch.no_grad()
def test_the_upsampler_sees_its_past_and_the_small_frame():
    torch.manual_seed(0)
    model = with_nonzero_weights(Diamond(UPSAMPLED, image(32), Binary(6))).eval()
    pixels = frames(2, 3, size=32)
    bits = torch.ones(2, 3, 6, dtype=torch.bool)
    is_init = torch.tensor([True, False, False]).view(1, 3, 1).expand(2, 3, 1)
    states = model.observe_sequence(model.initial_state((2,)), bits, {"pixels": pixels}, is_init, None)
    state = {key: value[:, -1] for key, value in states.items()}
    assert torch.equal(state["large"][:, -1], pixels[:, -1])
    assert torch.equal(state["frames"], model.downsampled(pixels[:, 1:]))
    noise = model.noise_source("imagine")((2,), torch.Generator().manual_seed(0))
    after = model.imagine(state, bits[:, 0], noise).state
    low = from_bytes(after["frames"][:, -1]).permute(0, 3, 1, 2)
    context = torch.cat([from_bytes(pixels[:, -1]).permute(0, 3, 1, 2), model.upsampled(low)], 1)
    x = model.upsampler_sampler.sample(
        lambda x, sigma, step: model.upsampler.denoise(x, torch.full((2,), sigma), context),
        noise["large_frame"].permute(0, 3, 1, 2),
        noise["large_churn"].permute(1, 0, 4, 2, 3),
    )
    drawn = model.decode(after)["pixels"]
    assert drawn.shape == (2, 32, 32, 3)
    apart = (drawn.int() - to_bytes(x).permute(0, 2, 3, 1).int()).abs()
    assert int(apart.max()) <= 2 and float(apart.float().mean()) < 0.01


@pytest.mark.slow
def test_the_form_with_an_upsampler_keeps_the_protocol_and_has_no_reward():
    torch.manual_seed(0)
    model = Diamond(UPSAMPLED, image(16), Binary(6))
    check_world_model(model, batch_sizes=((), (2,)))
    with pytest.raises(CapabilityError, match="reward"):
        Simulator(model, termination="off")
    dream = Simulator(model, termination="off", reward=lambda s, a, n: torch.zeros(2, 1), batch_size=2)
    dream.reset()
    assert dream.step(torch.ones(2, 6, dtype=torch.bool)).observation["pixels"].shape == (2, 16, 16, 3)


# -- what is seen before an episode's first frame --------------------------------------------------------------------


@torch.no_grad()
def test_before_the_first_frame_the_network_sees_grey_and_the_first_action():
    model = small()
    pixels = frames(2, 2)
    state = filtered(model, pixels, choices(2, 1, seed=5))
    assert state["seen"].eq(2).all()
    assert torch.equal(state["actions"][:, :2], one_hot(torch.zeros(2, 2, dtype=torch.long), 4))
    seen = {}
    raw = model.denoiser.raw

    def spy(noisy, coefficients, context, actions, sigma_context):
        seen["context"] = context.unflatten(1, (4, 3))
        return raw(noisy, coefficients, context, actions, sigma_context)

    model.denoiser.raw = spy
    model.imagine(state, choices(2), None)
    assert seen["context"][:, :2].eq(0).all()
    torch.testing.assert_close(seen["context"][:, 2:], from_bytes(pixels).permute(0, 1, 4, 2, 3))


@torch.no_grad()
def test_the_memory_takes_in_real_transitions_and_forgets_where_an_episode_begins():
    model = small()
    pixels, acts = frames(1, 6), choices(1, 5)
    led = torch.cat([torch.zeros(1, 1, 4), acts], 1)
    is_init = torch.zeros(1, 6, 1, dtype=torch.bool)
    is_init[:, [0, 3]] = True
    states = model.observe_sequence(model.initial_state((1,)), led, {"pixels": pixels}, is_init, None)
    assert states["h"][:, [0, 3]].eq(0).all() and states["h"][:, 1].ne(0).any()
    later = filtered(model, pixels[:, 3:], acts[:, 3:])
    for key, value in later.items():
        torch.testing.assert_close(states[key][:, -1], value)


@torch.no_grad()
def test_rows_taken_a_few_at_a_time_dream_the_same(monkeypatch):
    model = small()
    state = filtered(model, frames(5, 4), choices(5, 3))
    noise = model.noise_source("imagine")((5,), torch.Generator().manual_seed(0))
    whole = model.imagine(state, choices(5), noise)
    monkeypatch.setattr("wmcomponents.nn.chunks.CPU_PIXELS", 2 * 16 * 16)
    parts = model.imagine(state, choices(5), noise)
    assert int((whole.state["frames"].int() - parts.state["frames"].int()).abs().max()) <= 1
    torch.testing.assert_close(whole.cont, parts.cont, rtol=1e-3, atol=1e-4)


# -- how it is sampled is the model's --------------------------------------------------------------------------------


@torch.no_grad()
def test_the_sampler_is_an_attribute_and_the_noise_follows_it():
    model = small()
    assert set(model.noise_spec["imagine"].keys()) == {"frame", "reward"}
    model.sampler = EDMSampler(steps=5, order=2, s_churn=1.0, s_cond=0.1)
    assert model.noise_spec["imagine"]["churn"].shape == (5, 16, 16, 3)
    assert model.noise_spec["imagine"]["context_noise"].shape == (5, 4, 16, 16, 3)
    dream = Simulator(model, batch_size=2)
    dream.reset()
    dream.step(choices(2))
    with pytest.raises(ValueError, match="no upsampler"):
        model.upsampler_sampler = EDMSampler()
    large = Diamond(UPSAMPLED, image(32), Binary(6))
    large.sampler, large.upsampler_sampler = FINE_DYNAMICS, FINE_UPSAMPLER
    assert large.noise_spec["imagine"]["large_churn"].shape == (10, 32, 32, 3)
    with pytest.raises(ValueError, match="carry no noise"):
        large.upsampler_sampler = FINE_DYNAMICS
    assert large.upsampler_sampler == FINE_UPSAMPLER


def test_a_sampler_that_was_set_is_saved(tmp_path):
    large = Diamond(UPSAMPLED, image(32), Binary(6))
    large.sampler, large.upsampler_sampler = FINE_DYNAMICS, FINE_UPSAMPLER
    twin = Diamond.from_pretrained(large.save_pretrained(tmp_path / "model"))
    assert (twin.sampler, twin.upsampler_sampler) == (FINE_DYNAMICS, FINE_UPSAMPLER)
    assert twin.noise_spec == large.noise_spec


@torch.no_grad()
def test_without_noise_sampling_begins_at_zero():
    model = small()
    state = filtered(model, frames(2, 4), choices(2, 3))
    zero = {"frame": torch.zeros(2, 16, 16, 3)}
    mode, explicit = model.imagine(state, choices(2), None), model.imagine(state, choices(2), zero)
    assert torch.equal(mode.state["frames"], explicit.state["frames"])


def test_rewards_are_of_three_kinds_and_continuation_is_a_probability():
    model = small()
    state = filtered(model, frames(64, 4), choices(64, 3))
    noise = model.noise_source("imagine")((64,), torch.Generator().manual_seed(0))
    with torch.no_grad():
        step = model.imagine(state, choices(64), noise)
    assert set(step.reward.unique().tolist()) <= {-1.0, 0.0, 1.0} and len(step.reward.unique()) > 1
    assert bool(((step.cont >= 0) & (step.cont <= 1)).all())


# -- specs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action_spec", [OneHot(3), Categorical(3), Binary(5), Bounded(-1, 1, (2,))])
def test_any_action_that_is_a_vector_will_do(action_spec):
    model = small_with(action_spec)
    dream = Simulator(model, batch_size=2)
    dream.reset()
    dream.step(action_spec.expand(2, *action_spec.shape).rand())


def small_with(action_spec):
    return Diamond(SMALL, image(16), action_spec)


def test_what_is_no_single_image_is_refused():
    for spec in (Composite(observation=Unbounded(3)), Composite(a=image(16)["pixels"], b=image(16)["pixels"])):
        with pytest.raises(ValueError, match="one uint8 image"):
            Diamond(SMALL, spec, OneHot(4))
    with pytest.raises(ValueError, match="divides"):
        Diamond(UPSAMPLED, image(33), OneHot(4))
    with pytest.raises(ValueError, match="no multiple"):
        Diamond(SMALL.vary(context=3), image(16), OneHot(4))
    with pytest.raises(ValueError, match="at least one frame"):
        Diamond(SMALL.vary(context=0), image(16), OneHot(4))
    with pytest.raises(ValueError, match="no more past frames"):
        Diamond(UPSAMPLED.vary(upsampler=replace(UPSAMPLED.network.upsampler, context=3)), image(32), OneHot(4))


def test_a_context_of_one_frame_keeps_no_actions():
    model = small(context=1)
    assert "actions" not in model.state_spec.keys()
    dream = Simulator(model, batch_size=2)
    dream.reset()
    dream.step(choices(2))


def test_weights_lie_channels_last_before_and_after_loading(tmp_path):
    model = small()
    twin = Diamond.from_pretrained(model.save_pretrained(tmp_path / "model"))
    for one in (model, twin):
        assert one.denoiser.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert twin.config == model.config
