"""The assembled CausVid: blocks that see no later one, few steps, three stages of learning, input that cannot be."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torch.nn.functional import one_hot
from torchrl.data import Bounded, Composite, LazyTensorStorage, OneHot, ReplayBuffer

from tests.support.models import DIAMOND_LEVELS
from wmcomponents.functional import AlphaSigma, shifted_time
from wmcomponents.models import CausVid, CausVidConfig, CausVidLossConfig, FilmUNetConfig, RewardEndConfig
from wmcomponents.training import Trainer

IMAGE = Composite(pixels=Bounded(0, 255, (6, 6, 2), dtype=torch.uint8))
UNET = FilmUNetConfig(dim=4, multiples=(1,), heads=1, head_dim=4)
SIZES = {"frames": 4, "unet": UNET, "reward_end": None, "solver_steps": 8, "teacher_steps": 2, "ode_steps": 1}
PLAIN = CausVidConfig.tiny(**SIZES)
REWARDED = PLAIN.vary(reward_end=RewardEndConfig(hidden=8, **DIAMOND_LEVELS))


def model(config=PLAIN):
    torch.manual_seed(0)
    return CausVid(config, IMAGE, OneHot(3)).eval()


def sequences(rows=2, steps=8):
    generator = torch.Generator().manual_seed(0)
    seen = torch.randint(0, 256, (rows, steps + 1, 6, 6, 2), generator=generator, dtype=torch.uint8)
    flag = torch.zeros(rows, steps, 1, dtype=torch.bool)
    chosen = one_hot(torch.randint(3, (rows, steps), generator=generator), 3)
    after = {"pixels": seen[:, 1:].clone(), "reward": torch.ones(rows, steps, 1), "terminated": flag, "done": flag}
    now = {"pixels": seen[:, :-1].clone(), "action": chosen, "is_init": flag.clone()}
    return TensorDict({**now, "next": TensorDict(after, [rows, steps])}, [rows, steps])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(net, frames, rows=2):
    """A state that has seen so many random frames, all under action 0."""
    pixels = torch.randint(0, 256, (rows, frames, 6, 6, 2), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    begins = torch.zeros(rows, frames, 1, dtype=torch.bool)
    begins[:, 0] = True
    led = one_hot(torch.zeros(rows, frames, dtype=torch.long), 3)
    return net.observe_last(net.initial_state((rows,)), led, {"pixels": pixels}, begins, None)


# -- what sees what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2])
def test_the_student_sees_its_own_block_and_none_that_is_later(block):
    net = model(PLAIN.vary(block=block))
    noisy, led = normal(1, 4, 2, 6, 6).requires_grad_(), torch.eye(3)[[0, 1, 2, 0]][None].requires_grad_()
    guess = net.student_guess(noisy, torch.full((1, 4), 0.5), led)
    of_noisy, of_led = torch.autograd.grad(guess[:, 0].sum(), [noisy, led])
    for gradient in (of_noisy, of_led):
        reached = gradient[0].flatten(1).ne(0).any(1).tolist()
        assert reached == [frame < block for frame in range(4)]


def test_the_teacher_sees_all_frames():
    net, noisy = model(), normal(1, 4, 2, 6, 6).requires_grad_()
    (gradient,) = torch.autograd.grad(
        net.teacher_velocity(noisy, torch.full((1, 1), 0.5), torch.zeros(1, 4, 3))[:, 0].sum(), noisy
    )
    assert gradient[0].flatten(1).ne(0).any(1).all()


@torch.no_grad()
def test_a_student_that_begins_with_the_teachers_weights_says_the_same_where_it_sees_the_same():
    net = model(PLAIN.vary(block=4))
    noisy, led, time = normal(2, 4, 2, 6, 6), normal(2, 4, 3, seed=1), torch.full((2, 1), 0.5)
    taught = noisy - 0.5 * net.teacher_velocity(noisy, time, led)
    assert not torch.allclose(net.student_guess(noisy, time.expand(2, 4), led), taught)
    net.objective().begin_student()
    torch.testing.assert_close(net.student_guess(noisy, time.expand(2, 4), led), taught)
    assert not torch.equal(net.critic.conv_in.weight, net.teacher.conv_in.weight)
    net.objective().begin_critic()
    torch.testing.assert_close(net.critic_velocity(noisy, time, led), net.teacher_velocity(noisy, time, led))


@torch.no_grad()
def test_guidance_leads_away_from_where_no_action_is_known():
    net = model()
    noisy, led, time = normal(1, 4, 2, 6, 6), torch.eye(3)[[0, 1, 2, 0]][None], torch.full((1, 1), 0.5)
    plain = net.teacher_velocity(noisy, time, led)
    blind = net.teacher_velocity(noisy, time, torch.zeros_like(led))
    torch.testing.assert_close(net.teacher_velocity(noisy, time, led, 4.5), blind + 4.5 * (plain - blind))
    assert torch.equal(net.teacher_velocity(noisy, time, led, 1.0), plain)


@torch.no_grad()
def test_networks_may_predict_the_frame_from_which_the_velocity_is_told():
    net = model(PLAIN.vary(target="clean"))
    noisy, led = normal(1, 4, 2, 6, 6), torch.eye(3)[[0, 1, 2, 0]][None]
    for time, divisor in ((0.5, 0.5), (0.01, 0.05)):
        at = torch.full((1, 1), time)
        frame = net.teacher.compute(noisy, 1000 * at.expand(1, 4), led)
        torch.testing.assert_close(net.teacher_velocity(noisy, at, led), (noisy - frame) / divisor)
    net.objective().begin_student()
    net.objective().begin_critic()
    half = torch.full((1, 1), 0.5)
    velocity = net.teacher_velocity(noisy, half, led)
    torch.testing.assert_close(net.critic_velocity(noisy, half, led), velocity)
    alone = net.student_guess(noisy, torch.full((1, 4), 0.5), led)[:, -1]  # of the last frame, which sees all
    assert alone.isfinite().all() and not torch.equal(alone, noisy[:, -1])


# -- the dream -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def drawn_by_hand(net, frames, led, noise, fresh):
    """New frames as the paper draws them, the clean past before them in every step."""
    x, past = noise, frames.shape[1]
    for i, now in enumerate(net.sampler.times):
        film = torch.cat([frames, x], 1)
        time = torch.zeros(film.shape[:2])
        time[:, past:] = now
        clean = net.student_guess(film, time, led)[:, past:]
        x = clean
        if i < len(fresh):
            after = net.sampler.times[i + 1]
            x = (1 - after) * clean + after * fresh[i]
    return x


@torch.no_grad()
@pytest.mark.parametrize(("block", "count", "new"), [(1, 1, 1), (1, 6, 1), (1, 2, 2), (2, 2, 2)])
def test_frames_are_drawn_in_a_few_steps_behind_a_past_that_is_gone_through_once(block, count, new):
    net = model(PLAIN.vary(block=block))
    state = seen(net, count)
    kept = min(count, 4 - new)
    frames = state["window"][:, int(state["filled"][0]) - kept :][:, :kept]
    led = one_hot(torch.tensor([[1, 2], [0, 1]]), 3)[:, :new]
    told = torch.cat([state["led"][:, int(state["filled"][0]) - kept :][:, :kept], led.float()], 1)
    noise = {"frame": normal(2, new, 2, 6, 6), "fresh": normal(2, 3, new, 2, 6, 6, seed=1)}
    after = net.imagine_film(state, led, noise).state
    place = int(after["filled"][0, -1])
    expected = drawn_by_hand(net, frames, told, noise["frame"], noise["fresh"].transpose(0, 1))
    torch.testing.assert_close(after["window"][:, -1, place - new : place], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_stands_behind_the_past_is_not_seen_by_its_last_block():
    net = model(PLAIN.vary(block=2))
    state = seen(net, 1)
    noise = {"frame": normal(2, 1, 2, 6, 6)}
    action = one_hot(torch.tensor([1, 2]), 3)
    once = net.imagine(state, action, noise).state["window"]
    other = {**state, "window": state["window"].clone()}
    other["window"][:, 1:] = 7.0
    torch.testing.assert_close(net.imagine(other, action, noise).state["window"][:, :2], once[:, :2])


def test_fewer_steps_are_some_of_those_of_the_training():
    net = model()
    assert net.times == net.sampler.times == (1.0, 0.75, 0.5, 0.25)
    for steps, times in ((1, (1.0,)), (2, (1.0, 0.5)), (3, (1.0, 0.75, 0.5))):
        net.sampling = replace(net.sampling, steps=steps)
        assert net.sampler.times == times and net.config.network.sampling.steps == steps
        assert ("fresh" in net.noise_spec["imagine"].keys()) == (steps > 1)
    with pytest.raises(ValueError, match="between 1 and 4 steps"):
        net.sampling = replace(net.sampling, steps=5)


# -- what learns ---------------------------------------------------------------------------------------------------


def moved(objective, losses):
    """Parts that a loss gives a gradient."""
    objective.zero_grad()
    sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
    named = objective.world_model_params.flatten_keys(".").items()
    return {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}


def test_each_stage_and_phase_teaches_its_own_part():
    objective, batch = model(REWARDED).objective(), sequences()
    assert [objective.stage_at(step) for step in range(5)] == ["teacher", "teacher", "ode", *["distribution"] * 2]
    assert objective.phases == 1 and moved(objective, objective(batch)) == {"teacher", "reward_end"}
    objective.stage = "ode"
    assert objective.phases == 1 and moved(objective, objective.phase(batch, 0)) == {"network"}
    objective.stage = "distribution"
    assert objective.phases == 6
    assert moved(objective, objective.phase(batch, 0)) == {"network"}
    assert moved(objective, objective.phase(batch, 3)) == {"critic"}
    losses = objective(batch)
    assert set(losses.keys()) == set(objective.out_keys) and moved(objective, losses) == {"network", "critic"}


def drawn_again(objective, state):
    """The objective's films, and its generator as it was."""
    objective.generator.set_state(state)
    return objective.clips(sequences())


def test_the_student_begins_on_the_teachers_way_from_noise_to_a_film():
    net = model(PLAIN.vary(block=2))
    objective = net.objective()
    objective.stage = "ode"
    state = objective.generator.get_state()
    loss = objective(sequences())["loss_regression"]
    clip = drawn_again(objective, state)
    x = torch.randn(clip.clean.shape, generator=objective.generator)
    step, time = objective.student_times(clip.clean)
    assert (step[:, ::2] == step[:, 1::2]).all() and step.min() >= 0 and step.max() <= 4
    assert time.tolist() == [[(1.0, 0.75, 0.5, 0.25, 0.0)[i] for i in row] for row in step.tolist()]
    way = {1.0: x}
    with torch.no_grad():
        for i in range(8):
            x = x - net.teacher_velocity(x, torch.full((len(x), 1), 1 - i / 8), clip.led) / 8
            way[1 - (i + 1) / 8] = x
        noisy = torch.stack(
            [torch.stack([way[t][p, f] for f, t in enumerate(row)]) for p, row in enumerate(time.tolist())]
        )
        error = (net.student_guess(noisy, time, clip.led) - x).square().flatten(2).mean(2)
    assert 0 < (time > 0).sum() < time.numel()
    torch.testing.assert_close(loss.detach(), error[time > 0].mean())


def test_the_student_follows_the_difference_of_both_guesses():
    net = model()
    objective = net.objective()
    objective.stage = "distribution"
    state = objective.generator.get_state()
    objective.phase(sequences(), 0)["loss_matching"].backward()
    gradient = objective.world_model_params["network", "conv_out", "bias"].grad
    clip = drawn_again(objective, state)
    _, time = objective.student_times(clip.clean)
    share = time[..., None, None, None]
    noise = torch.randn(clip.clean.shape, generator=objective.generator)
    generated = net.student_guess((1 - share) * clip.clean + share * noise, time, clip.led)
    with torch.no_grad():
        time = objective.score_times(len(generated))
        share = time[..., None, None, None]
        noisy = (1 - share) * generated + share * torch.randn(generated.shape, generator=objective.generator)
        real = noisy - share * net.teacher_velocity(noisy, time, clip.led)
        fake = noisy - share * net.critic_velocity(noisy, time, clip.led)
        direction = (fake - real) / (generated - real).abs().mean((1, 2, 3, 4), keepdim=True)
    (expected,) = torch.autograd.grad((direction * generated).mean(), net.network.conv_out.bias)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_times_of_the_scores_are_moved_towards_noise_and_cut():
    objective = model().objective()
    time = objective.score_times(4000)
    expected = shifted_time(torch.rand(100_000, generator=torch.Generator().manual_seed(1)), 8.0).clamp(0.02, 0.98)
    assert time.min() >= 0.02 and time.max() <= 0.98 and (time - 0.98).abs().lt(1e-6).float().mean() > 0.1
    assert time.mean().item() == pytest.approx(expected.mean().item(), abs=0.01)


def test_all_stages_are_one_resumable_call(tmp_path):
    def trained(out, *totals):
        for total in totals:
            torch.manual_seed(0)
            net = CausVid(PLAIN.vary(lr=1e-2, teacher_lr=1e-2, warmup=0, critic_updates=2), IMAGE, OneHot(3))
            data = ReplayBuffer(storage=LazyTensorStorage(2), batch_size=2)
            data.extend(sequences())
            Trainer(net, data, out=out, progress=False).train(total)
        return net

    taught = trained(None, {"teacher": 2, "ode": 0, "distribution": 0})
    for name, value in taught.teacher.state_dict().items():
        assert torch.equal(value, taught.network.state_dict()[name]), name
        assert torch.equal(value, taught.critic.state_dict()[name]), name
    whole, in_parts = trained(None, 4), trained(tmp_path, {"teacher": 2, "ode": 1, "distribution": 0}, 4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, in_parts.state_dict()[name]), name
        if name.startswith("teacher"):
            assert torch.equal(value, taught.state_dict()[name]), name
    for part in ("network", "critic"):
        weights = [getattr(net, part).conv_out.weight for net in (whole, taught)]
        assert not torch.equal(*weights), part


# -- input that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frames": 1}, "at least 2 frames"),
        ({"target": "noise"}, "one of 'velocity', 'clean'; got 'noise'"),
        ({"block": 0}, "a block has at least one frame"),
        ({"trained_steps": 0}, "between 1 and 0 steps"),
        ({"trained_steps": 2}, "between 1 and 2 steps"),
        ({"steps": 0}, "between 1 and 4 steps"),
        ({"unet": replace(UNET, multiples=())}, "at least one level"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CausVid(PLAIN.vary(**changes), IMAGE, OneHot(3))


@pytest.mark.parametrize(
    "config, message",
    [
        (CausVidLossConfig(teacher_steps=-1), "at least 0"),
        (CausVidLossConfig(critic_updates=0), "critic_updates at least 1"),
        (CausVidLossConfig(solver_steps=6), "a multiple of 4"),
        (CausVidLossConfig(score_range=(0.5, 0.2)), "rises"),
        (CausVidLossConfig(score_range=(0.0, 0.9)), "within"),
        (CausVidLossConfig(score_shift=0.0), "above 0"),
        (CausVidLossConfig(action_dropout=2.0), "in \\[0, 1\\]"),
    ],
)
def test_losses_that_cannot_be_are_refused(config, message):
    net = model()
    with pytest.raises(ValueError, match=message):
        type(net.objective())(net, config)


def test_a_level_of_a_clean_frame_is_a_guess_of_itself():
    net, film = model(), normal(1, 4, 2, 6, 6)
    assert torch.equal(net.student_guess(film, torch.zeros(1, 4), torch.zeros(1, 4, 3)), film)
    assert net.target.clean(film, film, AlphaSigma.flow(0.0)).equal(film)
