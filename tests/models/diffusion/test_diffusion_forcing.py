"""Diffusion Forcing: its window, how frames are drawn, its loss, and input that cannot be."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot

from tests.support.models import DIAMOND_LEVELS
from wmcomponents.functional import ddim_step, denoised, fused_snr, levels_from_clean, snr_weight
from wmcomponents.functional.edm import from_bytes
from wmcomponents.models import (
    Diamond,
    DiamondConfig,
    DiffusionForcing,
    DiffusionForcingConfig,
    FilmUNetConfig,
    ForcingLoss,
    ForcingLossConfig,
    ForcingSamplingConfig,
    RewardEndConfig,
)
from wmcomponents.models.loading import load

IMAGE = Composite(pixels=Bounded(0, 255, (6, 6, 2), dtype=torch.uint8))
SIZES = {"unet": FilmUNetConfig(dim=4, multiples=(1, 2), heads=1, head_dim=4), "frames": 4, "steps": 3}
PLAIN = DiffusionForcingConfig.tiny(**SIZES, reward_end=None, levels=50)
REWARDED = PLAIN.vary(reward_end=RewardEndConfig(hidden=8, **DIAMOND_LEVELS))


def model(config=PLAIN):
    torch.manual_seed(0)
    return DiffusionForcing(config, IMAGE, OneHot(3)).eval()


def drawn(spec, rows, seed=0):
    """Noise of rows."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(rows, *leaf.shape, generator=generator)
        if isinstance(leaf, Bounded)
        else torch.randn(rows, *leaf.shape, generator=generator)
        for key, leaf in spec.items()
    }


def actions(*numbers):
    return torch.nn.functional.one_hot(torch.tensor(numbers), 3).bool()


def seen(net, frames, rows=2):
    """A state that has seen so many random frames; the first action is 0, then 1, 2, 0 ..."""
    pixels = torch.randint(0, 256, (rows, frames, 6, 6, 2), generator=torch.Generator().manual_seed(3))
    begins = torch.zeros(rows, frames, 1, dtype=torch.bool)
    begins[:, 0] = True
    led = actions(*(t % 3 for t in range(frames))).expand(rows, -1, -1)
    observation = {"pixels": pixels.to(torch.uint8)}
    return net.observe_last(net.initial_state((rows,)), led, observation, begins, None), pixels


# -- the window ----------------------------------------------------------------------------------------------------


def test_the_window_holds_the_last_frames_and_what_led_to_them():
    net = model()
    for count in (1, 3, 4, 6):
        state, pixels = seen(net, count)
        kept = min(count, 4)
        assert state["filled"].tolist() == [[kept]] * 2
        expected = from_bytes(pixels[:, -kept:]).movedim(-1, -3)
        torch.testing.assert_close(state["window"][:, :kept], expected)
        led = [t % 3 for t in range(count)][-kept:]
        numbers = state["led"][:, :kept].argmax(-1).tolist()
        assert numbers == [[0, *led[1:]] if count == kept else led] * 2
        assert (state["led"][:, 0].sum(-1) == (0 if count == kept else 1)).all()
        assert net.decode(state)["pixels"].equal(pixels[:, -1].to(torch.uint8))


@torch.no_grad()
@pytest.mark.parametrize("config", [PLAIN, REWARDED])
def test_steps_of_the_filter_are_its_sequence(config):
    net = model(config)
    pixels = torch.randint(0, 256, (2, 6, 6, 6, 2)).to(torch.uint8)
    begins = torch.tensor([[1, 0, 0, 1, 0, 0], [0] * 6], dtype=torch.bool).unsqueeze(-1)
    led = actions(0, 1, 2, 0, 1, 2).expand(2, -1, -1)
    whole = net.observe_sequence(net.initial_state((2,)), led, {"pixels": pixels}, begins, None)
    state = net.initial_state((2,))
    for t in range(6):
        state = net.observe(state, led[:, t], {"pixels": pixels[:, t]}, begins[:, t], None)
        for key, value in state.items():
            torch.testing.assert_close(whole[key][:, t], value)


# -- the dream -----------------------------------------------------------------------------------------------------


def whole_film(net, frames, led, noise, count):
    """The paper's sampling of one more frame: the whole film goes through the network in every step."""
    process, context = net.process, net.sampler.context
    levels = levels_from_clean(process.levels, net.sampling.steps)[::-1]
    x = noise.clamp(-6.0, 6.0)
    shown = context.shown(frames[:, :count], process.at(torch.full((len(x), count), context.level)))
    for now, after in zip(levels[:-1], levels[1:], strict=True):
        told = torch.full((len(x), count + 1), context.level)
        told[:, -1] = now
        said = net.network(torch.cat([shown, x], 1), told, led)[:, -1:]
        at = process.at(torch.full((len(x), 1), now))
        x = ddim_step(denoised(net.target, said, x, at), at, process.at(torch.full((len(x), 1), after)))
    return x


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_dream_is_the_papers_loop_although_the_past_is_gone_through_once(count):
    net = model()
    state, _ = seen(net, count)
    noise = drawn(net.noise_spec["imagine"], 2)
    after = net.imagine(state, actions(2, 1), noise).state
    past = min(count, 3)
    frames, led = (state[key][:, count - past : count] for key in ("window", "led"))
    path = torch.cat([led, actions(2, 1).float().unsqueeze(1)], 1)
    expected = whole_film(net, frames, path, noise["frame"], past)
    torch.testing.assert_close(after["window"][:, past : past + 1], expected, rtol=1e-3, atol=1e-4)
    assert after["led"][:, past].argmax(-1).tolist() == [2, 1]


@torch.no_grad()
def test_rows_that_have_come_less_far_dream_as_they_would_alone():
    net = model()
    (short, _), (long, _) = seen(net, 1), seen(net, 4)
    both = {key: torch.stack([short[key][0], long[key][1]]) for key in short}
    noise = drawn(net.noise_spec["imagine"], 2)
    after = net.imagine(both, actions(2, 1), noise).state
    for row, state in enumerate((short, long)):
        alone = net.imagine(
            {key: value[row : row + 1] for key, value in state.items()},
            actions(2, 1)[row : row + 1],
            {key: value[row : row + 1] for key, value in noise.items()},
        ).state
        newest = int(alone["filled"]) - 1
        torch.testing.assert_close(after["window"][row, newest], alone["window"][0, newest], rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("config", [PLAIN, REWARDED])
def test_frames_one_after_the_other_drawn_at_once_are_steps_of_a_dream(config):
    net = model(config)
    state, _ = seen(net, 1)
    path = actions(2, 1, 0).expand(2, -1, -1)
    noise = drawn(net.film_noise_spec(3), 2)
    whole = net.imagine_film(state, path, noise)
    for t in range(3):
        step = net.imagine(state, path[:, t], {key: value[:, t : t + 1] for key, value in noise.items()})
        for key, value in step.state.items():
            torch.testing.assert_close(whole.state[key][:, t], value, rtol=1e-3, atol=1e-4)
        if config is REWARDED:
            torch.testing.assert_close(whole.reward[:, t], step.reward)
            torch.testing.assert_close(whole.cont[:, t], step.cont, rtol=1e-3, atol=1e-4)
        state = step.state


@torch.no_grad()
@pytest.mark.parametrize("schedule", ["pyramid", "trapezoid", "full_sequence"])
@pytest.mark.parametrize("context", ["scaled", "noised", "untouched"])
def test_frames_are_drawn_together_on_every_schedule_and_context(schedule, context):
    net = model()
    net.sampling = replace(net.sampling, schedule=schedule, context=context, eta=0.5)
    state, _ = seen(net, 4)
    noise = drawn(net.film_noise_spec(3), 2)
    after = net.imagine_film(state, actions(2, 1, 0).expand(2, -1, -1), noise)
    assert after.state["window"].shape == (2, 3, 4, 2, 6, 6) and bool(after.state["window"].isfinite().all())
    assert after.state["led"][:, -1, 1:].argmax(-1).tolist() == [[2, 1, 0]] * 2
    for count in (0, 4):
        with pytest.raises(ValueError, match="at least 1 and at most 3 are drawn at once"):
            net.film_noise_spec(count)


@torch.no_grad()
def test_the_past_counts_and_so_does_how_it_is_shown():
    net = model()
    state, _ = seen(net, 3)
    noise = drawn(net.noise_spec["imagine"], 2)

    def newest(of):
        return net.imagine(of, actions(2, 1), noise).state["window"][:, 3]

    plain = newest(state)
    other = {**state, "window": state["window"].roll(1, 0)}
    assert not torch.allclose(newest(other), plain, atol=1e-3)
    net.sampling = replace(net.sampling, context="untouched", stabilization=40)
    assert not torch.allclose(newest(state), plain, atol=1e-3)


def test_what_noise_a_step_takes_follows_from_how_frames_are_drawn_and_is_saved(tmp_path):
    net = model()
    assert set(net.noise_spec["imagine"].keys()) == {"frame"}
    net.sampling = ForcingSamplingConfig(steps=5, eta=1.0, context="noised", stabilization=2)
    spec = net.noise_spec["imagine"]
    assert spec["fresh"].shape == (5, 1, 2, 6, 6) and spec["context"].shape == (4, 2, 6, 6)
    assert set(model(REWARDED).noise_spec["imagine"].keys()) == {"frame", "reward"}
    net.save_pretrained(tmp_path / "model")
    assert load(tmp_path / "model").sampling == net.sampling


# -- the loss ------------------------------------------------------------------------------------------------------


def sequences(rows=2, steps=7, ends=(), begins=()):
    """Frames whose every pixel is thirty times the frame's number; action t mod 3; ends and begins in row 0."""
    number = torch.arange(steps).repeat(rows, 1)

    def shown(n):
        return (30 * n[..., None, None, None]).expand(*n.shape, 6, 6, 2).to(torch.uint8)

    is_init, ended = torch.zeros(rows, steps, 1, dtype=torch.bool), torch.zeros(rows, steps, 1, dtype=torch.bool)
    is_init[:, 0] = True
    is_init[0, list(begins)] = True
    ended[0, list(ends)] = True
    reward = (number % 3 - 1).float().unsqueeze(-1)
    after = {"pixels": shown(number + 1), "reward": reward, "terminated": ended, "done": ended.clone()}
    content = {"pixels": shown(number), "action": actions(0, 1, 2)[number % 3], "is_init": is_init}
    return TensorDict({**content, "next": TensorDict(after, [rows, steps])}, [rows, steps])


def test_the_loss_is_the_papers_on_films_of_the_windows_length():
    net = model()
    loss = net.objective()
    found, again = loss(sequences()), net.objective()
    generator = again.generator
    level = torch.randint(50, (4, 4), generator=generator)
    noise = torch.randn(4, 4, 2, 6, 6, generator=generator).clamp(-6, 6)
    number = torch.arange(8).view(2, 4).repeat(2, 1)
    clean = from_bytes(30 * number)[..., None, None, None].expand(-1, -1, 2, 6, 6)
    led = torch.nn.functional.one_hot((number - 1) % 3, 3).float()
    led[[0, 2], 0] = 0.0  # nothing led to an episode's first frame
    said = net.network(net.process.diffuse(clean, noise, level), level, led)
    error = (said - net.target.of(clean, noise, net.process.at(level))).square().mean((2, 3, 4))
    weight = snr_weight(net.target, fused_snr(net.process.snr(level), 5.0, 0.96))
    torch.testing.assert_close(found["loss_denoising"], (weight * error).mean())
    torch.testing.assert_close(found["squared_error"], error.mean().detach())
    found["loss_denoising"].backward()
    assert all(p.grad is not None for name, p in loss.named_parameters() if "action.none" not in name.replace("_", "."))


def test_a_film_counts_up_to_its_end_and_no_further():
    net = model(REWARDED)
    plain = ForcingLoss(net, net.config.loss, reduction="none")
    cut = plain(sequences(ends=(1,), begins=(2,)))
    # Row 0: arrivals 0 1 2 | 2' 3 .. : the film's frame 3 belongs to another episode.
    assert cut["loss_denoising"].shape == (4, 4) and not cut["loss_denoising"][0, 3:].any()
    assert bool((cut["loss_denoising"][1:, :] > 0).all())
    assert cut["loss_termination"].shape == (4, 3) and not cut["loss_termination"][0, 2:].any()
    data = sequences()
    data["collector"] = TensorDict({"mask": torch.arange(7).repeat(2, 1) < 3}, [2, 7])
    data["pixels"][:, 3:] = 255
    masked = plain(data)
    assert not masked["loss_denoising"][[1, 3]].any() and bool((masked["loss_denoising"][[0, 2]] > 0).all())


def test_a_decay_of_none_weights_each_frame_by_itself():
    net = model()
    level = torch.tensor([[49, 5, 20]])
    alone = ForcingLoss(net, ForcingLossConfig(decay=0.0)).level_weight(level)
    apart = torch.cat([ForcingLoss(net).level_weight(level[:, t : t + 1]) for t in range(3)], 1)
    torch.testing.assert_close(alone, apart)
    assert not torch.allclose(ForcingLoss(net).level_weight(level)[:, 1:], alone[:, 1:])


def test_each_network_is_clipped_by_itself_and_learns_at_the_papers_rate():
    groups = model(REWARDED.vary(lr=8e-5)).objective().make_optimizer().param_groups
    assert {group["clip"] for group in groups} == {"network", "reward_end"}
    assert {(g["lr"], g["weight_decay"], g["betas"]) for g in groups} == {(8e-5, 2e-3, (0.9, 0.99))}


def test_a_few_updates_teach_a_still_film():
    torch.manual_seed(0)
    net = model(PLAIN.vary(lr=3e-3, warmup=1))
    loss, data = net.objective(), sequences(steps=3)
    optimizer, found = loss.make_optimizer(), []
    for _ in range(30):
        value = loss(data)["loss_denoising"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    assert sum(found[-5:]) < 0.7 * sum(found[:5])


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change,words",
    [
        ({"frames": 1}, "at least 2 frames"),
        ({"steps": 51}, "between 1 and 50"),
        ({"stabilization": 0}, "stabilization level"),
        ({"stabilization": 51}, "stabilization level"),
        ({"eta": -1.0}, "eta is at least 0"),
        ({"clip_noise": 0.0}, "clip_noise"),
        ({"context": "clean"}, "'untouched', 'scaled', 'noised'"),
        ({"schedule": "spiral"}, "'autoregressive', 'pyramid'"),
        ({"uncertainty": -1.0}, "uncertainty at least 0"),
        ({"noise_schedule": "straight"}, "'linear', 'cosine', 'sigmoid'"),
        ({"target": "score"}, "'noise', 'clean', 'v'"),
        ({"target": "velocity"}, "'noise', 'clean', 'v'"),
        ({"multiples": ()}, "at least one level"),
    ],
)
def test_sizes_that_cannot_be_are_refused_in_words(change, words):
    names = {"clip_noise": "sampling.clip_noise"}
    with pytest.raises(ValueError, match=words):
        model(PLAIN.vary(**{names.get(key, key): value for key, value in change.items()}))


def test_losses_refuse_numbers_and_models_that_do_not_fit():
    with pytest.raises(ValueError, match=r"decay is in \[0, 1\]"):
        ForcingLoss(model(), ForcingLossConfig(decay=2.0))
    with pytest.raises(TypeError, match="ForcingLoss"):
        ForcingLoss(Diamond(DiamondConfig.tiny(), IMAGE, OneHot(3)))
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        model().objective()(sequences()[0])


def test_a_vector_is_no_film():
    with pytest.raises(ValueError, match="DiffusionForcing"):
        DiffusionForcing(PLAIN, Composite(observation=Bounded(-1.0, 1.0, (3,))), OneHot(3))


def test_patches_of_pixels_become_channels_and_pixels_again():
    net = model(REWARDED.vary(**{"network.patch": 3, "target": "clean"}))
    assert net.frame_shape == (18, 2, 2)
    state, pixels = seen(net, 3)
    assert net.decode(state)["pixels"].equal(pixels[:, -1].to(torch.uint8))
    corner = from_bytes(pixels[0, -1, :3, :3]).permute(2, 0, 1).flatten()
    torch.testing.assert_close(state["window"][0, 2, :, 0, 0], corner)  # one place holds one square
    noise = drawn(net.noise_spec["imagine"], 2)
    after = net.imagine(state, actions(1, 2), noise)
    assert net.decode(after.state)["pixels"].shape == (2, 6, 6, 2) and after.reward.isfinite().all()


@pytest.mark.parametrize("patch", [0, 4])
def test_a_patch_that_does_not_divide_the_sides_is_refused(patch):
    with pytest.raises(ValueError, match=f"patch divides the sides of the image; got {patch} for 6 x 6 pixels"):
        model(PLAIN.vary(**{"network.patch": patch}))


def test_noise_of_more_channels_than_the_network_has_room_for_is_refused():
    with pytest.raises(ValueError, match="a network of dim 4 has no room for the noise of 8 channels"):
        model(PLAIN.vary(**{"network.patch": 2, "target": "v"}))
    wide = FilmUNetConfig(dim=8, multiples=(1, 2), heads=1, head_dim=4)
    assert model(PLAIN.vary(**{"network.patch": 2, "unet": wide})).frame_shape == (8, 3, 3)


def test_the_networks_for_video_are_built_without_memory():
    pixels = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
    with torch.device("meta"):
        net = DiffusionForcing(DiffusionForcingConfig.video(), pixels, OneHot(4))
    assert net.sampling == ForcingSamplingConfig() and net.process.levels == 1000
    assert sum(p.numel() for p in net.parameters()) == 36_804_547
