"""DIAMOND's objective on TorchRL-layout sequences: windows, padding, masks, gradients, the optimiser."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Composite, OneHot

from tests.support.small_diamond import SMALL, UPSAMPLED, image
from wmcomponents.models import Diamond, DiamondLoss, DiamondLossConfig, DreamerV3, DreamerV3Config
from wmcomponents.models.diffusion.diamond.segments import target_weight
from wmcomponents.objectives.arrivals import arrivals_from


def model(config=SMALL, size=16, action_spec=None):
    torch.manual_seed(0)
    return Diamond(config, image(size), OneHot(4) if action_spec is None else action_spec)


ONCE = DiamondLossConfig(segments=1, reward_windows=1)
"""One window of each sequence."""


def objective(net, **changes):
    """The losses on one window of each sequence, unless told otherwise."""
    return DiamondLoss(net, replace(ONCE, **changes))


def sequences(rows=2, steps=12, size=16, ends=(), begins=(), first=True):
    """Frames whose every pixel is the frame's number; action t mod 4; ``ends`` and ``begins`` in row 0."""
    number = torch.arange(steps).repeat(rows, 1)

    def shown(n):
        return n[..., None, None, None].expand(*n.shape, size, size, 3).to(torch.uint8)

    is_init, terminated = torch.zeros(rows, steps, 1, dtype=torch.bool), torch.zeros(rows, steps, 1, dtype=torch.bool)
    is_init[:, 0] = first
    for t in begins:
        is_init[0, t] = True
    for t in ends:
        terminated[0, t] = True
    reward = (number % 3 - 1).float().unsqueeze(-1) * 5
    after = {"pixels": shown(number + 1), "reward": reward, "terminated": terminated, "done": terminated.clone()}
    action = torch.nn.functional.one_hot(number % 4, 4)
    content = {"pixels": shown(number), "action": action, "is_init": is_init, "next": TensorDict(after, [rows, steps])}
    return TensorDict(content, [rows, steps])


def drawn(loss, data, length=6):
    return loss.draw_segments(arrivals_from(data, ["pixels"]), length)


def numbers(segments):
    """The number that each frame shows; -1 where it is grey."""
    shown = segments.frames[:, :, 0, 0, 0]
    return torch.where(shown == 0, -1.0, ((shown + 1) * 127.5).round()).long()


def test_a_window_holds_consecutive_frames_and_the_actions_taken_at_them():
    loss = objective(model(), segments=40)
    segments = drawn(loss, sequences(first=False))
    shown = numbers(segments)
    assert shown.shape == (80, 6) and bool((shown[:, 1:] == shown[:, :-1] + 1).all())
    assert set(shown[:, -1].tolist()) == set(range(5, 13))  # the last is under `next`
    assert torch.equal(segments.actions.argmax(-1), shown[:, :-1] % 4)
    assert segments.weight.eq(1).all()


def test_before_an_episode_there_is_padding_and_before_a_cut_nothing_is_drawn():
    loss = objective(model(), segments=60)
    segments = drawn(loss, sequences(ends=(6,), begins=(7,)))
    shown = numbers(segments)
    row0 = shown[:60]
    # The end inside gives a frame of its own (7), which pushes the last one (12) out.
    assert set(row0[:, -1].tolist()) == set(range(12))
    for window, weight, actions in zip(row0, segments.weight, segments.actions, strict=False):
        real = window >= 0
        assert torch.equal(weight > 0, real)
        assert bool((window[real][1:] == window[real][:-1] + 1).all())
        # No window crosses the border: frames 0..7 are of one episode, 7..12 (shown anew from 7) of the next.
        assert window.max() - window[real].min() <= 5
        taken = actions.argmax(-1)
        assert torch.equal(taken[real[:-1]], window[:-1][real[:-1]] % 4) and taken[~real[:-1]].eq(0).all()
    cut = drawn(loss, sequences(first=False))
    assert int(numbers(cut).min()) >= 0


def test_padding_of_the_data_is_never_a_target():
    data = sequences()
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 8:] = False
    data["collector", "mask"] = mask
    loss = objective(model(), segments=60)
    segments = drawn(loss, data)
    assert int(numbers(segments)[:60].max()) <= 8
    noisy = data.clone()
    noisy["pixels"][0, 9:] = 255
    noisy["next", "reward"][0, 8:] = float("nan")
    for name, value in objective(model(), segments=4)(noisy).items():
        torch.testing.assert_close(value, objective(model(), segments=4)(data)[name])


def test_a_frame_of_no_priority_stands_in_the_windows_of_others():
    data = sequences()
    data["priority_weight"] = torch.ones(2, 12)
    data["priority_weight"][0, 5] = 0.0
    segments = drawn(objective(model(), segments=60), data)
    shown = numbers(segments)[:60]
    assert 5 not in shown[:, -1] and bool((shown == 5).any())
    assert bool(segments.real[:60][shown == 5].all()) and segments.weight[:60][shown == 5].eq(0).all()


def test_targets_count_each_step_alike_whatever_is_masked():
    weight = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    torch.testing.assert_close(target_weight(weight, 1), torch.tensor([[1.0, 0.5], [0.0, 0.5]]))
    assert target_weight(torch.zeros(2, 3), 1).eq(0).all()


def test_sequences_too_short_for_a_window_are_refused():
    with pytest.raises(ValueError, match="at least 5 steps"):
        objective(model())(sequences(steps=4))


def test_what_the_model_makes_enters_the_next_context_without_gradient():
    net = model()
    loss = objective(net, segments=2)
    contexts = []
    raw = net.denoiser.raw

    def spy(noisy, coefficients, context, *rest):
        contexts.append(context)
        return raw(noisy, coefficients, context, *rest)

    net.denoiser.raw = spy
    segments = drawn(loss, sequences())
    with loss.world_model_params.to_module(net):
        loss.denoising(segments)
    first, second = (context.unflatten(1, (4, 3)) for context in contexts)
    torch.testing.assert_close(second[:, :3], first[:, 1:])
    assert not torch.allclose(second[:, 3], segments.frames[:, 4].permute(0, 3, 1, 2), atol=0.01)
    assert not second.requires_grad
    levels = (second[:, 3] + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)


def test_the_parts_share_nothing():
    loss = model().objective()
    out = loss(sequences())
    assert set(out.keys()) == {"loss_denoising", "loss_reward", "loss_termination"}
    for key, part in (("loss_denoising", "denoiser"), ("loss_reward", "reward_end")):
        loss.zero_grad(set_to_none=True)
        loss(sequences())[key].backward()
        reached = {
            name.split(".")[0]
            for name, p in loss.world_model_params.flatten_keys(".").items()
            if p.grad is not None and bool(p.grad.abs().sum() > 0)
        }
        assert reached == {part}


def test_rewards_count_by_their_sign_and_windows_forget_between_episodes():
    net = model()
    loss = objective(net, reward_steps=12, reward_windows=1)
    data = sequences(ends=(5,), begins=(6,))
    louder = data.clone()
    louder["next", "reward"] *= 7.0
    torch.testing.assert_close(loss(data)["loss_reward"], objective(net, reward_steps=12)(louder)["loss_reward"])
    with loss.world_model_params.to_module(net), torch.no_grad():
        whole, ends, weight = loss._reward_end(data)
        tail, _, _ = loss._reward_end(data[:, 6:])
    assert whole.shape == ends.shape == weight.shape == (2, 12)
    torch.testing.assert_close(whole[0, 6:], tail[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole[1, 6:], tail[1], rtol=1e-4, atol=1e-5)


def test_the_final_frame_is_the_one_under_next():
    net = model()
    loss = objective(net, reward_steps=12)
    data = sequences(ends=(5,), begins=(6,))
    other = data.clone()
    other["next", "pixels"][0, 5] = 200
    with loss.world_model_params.to_module(net), torch.no_grad():
        before, after = loss._reward_end(data)[1], loss._reward_end(other)[1]
    assert before[0, 5] != after[0, 5]
    torch.testing.assert_close(before[0, :5], after[0, :5])


def test_reductions_agree():
    data = sequences(ends=(5,), begins=(6,))
    mean, parts = objective(model())(data), DiamondLoss(model(), ONCE, reduction="none")(data)
    for key in mean.keys():
        torch.testing.assert_close(parts[key].sum() / (2 if key == "loss_denoising" else parts[key].numel()), mean[key])


def test_the_same_seed_gives_the_same_loss():
    data = sequences()
    one, other = DiamondLoss(model(), ONCE, seed=3)(data), DiamondLoss(model(), ONCE, seed=3)(data)
    assert all(torch.equal(one[key], other[key]) for key in one.keys())
    assert not torch.equal(DiamondLoss(model(), ONCE, seed=4)(data)["loss_denoising"], one["loss_denoising"])


def test_an_upsampler_is_trained_beside_on_large_frames():
    config = UPSAMPLED.vary(segments=1)
    net = Diamond(config, image(32), Binary(6))
    data = sequences(size=32)
    data["action"] = torch.ones(2, 12, 6, dtype=torch.bool)
    loss = net.objective()
    out = loss(data)
    assert set(out.keys()) == {"loss_denoising", "loss_upsampling"} == set(loss.out_keys)
    sum(out.values()).backward()
    for part in ("denoiser", "upsampler"):
        bias = loss.world_model_params.get((part, "network", "conv_out", "bias"))
        assert bool(bias.grad.abs().sum() > 0)


def test_the_optimiser_is_the_papers():
    loss = model().objective()
    optimizer = loss.make_optimizer()
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(p): name for name, p in loss.world_model_params.flatten_keys(".").items()}
    for group in optimizer.param_groups:
        assert group["lr"] == 1e-4 and group["warmup"] == 100
        assert group["max_norm"] == {"denoiser": 1.0, "reward_end": 100.0}[group["clip"]]
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name.startswith(group["clip"])
            is_weight = ".weight" in name and not any(part in name for part in ("norm_out", "attention.norm"))
            assert group["weight_decay"] == (1e-2 if is_weight else 0.0), name
    buffers = {"no_action", "denoiser.network.noise_features.weight"}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(set(names.values()) - buffers)


def test_other_models_are_refused():
    other = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Bounded(-1, 1, (3,))), OneHot(2))
    with pytest.raises(
        TypeError,
        match="trains a FrameDiffusionModel; DreamerV3 has no code, denoiser, .*its own objective",
    ):
        DiamondLoss(other)
