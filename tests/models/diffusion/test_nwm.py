"""The assembled NWM: frames drawn as its authors draw them, jumps in time, losses at other times, published files."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from tests.support.models import NWM_OUTCOMES, NWM_SIZES, SMALL, nwm
from wmcomponents.agents.planners import GoalDistance, nwm_cem
from wmcomponents.dream import GoalReward, GoalWorldModel, last_states
from wmcomponents.functional import alphas_cumprod, linear_betas, spaced_levels
from wmcomponents.models import (
    NWM,
    CDiTConfig,
    ConvAutoencoderConfig,
    NWMConfig,
    NWMLossConfig,
    NWMSamplingConfig,
    nwm_action_spec,
)
from wmcomponents.models.official import load_official
from wmcomponents.nn import ConvAutoencoder
from wmcomponents.pretrained import BadModelError
from wmcomponents.tokenizers import LatentTokenizer

MOVES = Bounded(-2.0, 2.0, (2,))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = nwm(NWMConfig.tiny(**NWM_SIZES, target="noise"), SMALL, MOVES).eval()
    net.sampling = NWMSamplingConfig("ancestral", 3)
    return net


def sequences(rows=2, steps=4, spec=MOVES, begins=()):
    torch.manual_seed(1)
    seen = torch.randint(0, 256, (rows, steps + 1, 16, 16, 3), dtype=torch.uint8)
    flag = torch.zeros(rows, steps, 1, dtype=torch.bool)
    first = flag.clone()
    first[:, [0, *begins]] = True
    after = {"pixels": seen[:, 1:].clone(), "reward": torch.ones(rows, steps, 1), "terminated": flag, "done": flag}
    now = {"pixels": seen[:, :-1].clone(), "action": spec.rand((rows, steps)), "is_init": first}
    return TensorDict({**now, "next": TensorDict(after, [rows, steps])}, [rows, steps])


@torch.no_grad()
def drawn_by_hand(net, context, told, time, noise, fresh, steps):
    """A new frame as the authors' loop draws it: DDPM through some levels, with the variance that the network says."""
    levels = spaced_levels(1000, steps)
    shares = alphas_cumprod(linear_betas(1000))[levels]
    before = torch.cat([torch.ones(1), shares[:-1]])
    betas = 1 - shares / before
    x = noise
    for k in reversed(range(steps)):
        out = net.network(x, torch.full((len(x),), levels[k]), context, told, torch.full((len(x),), time))
        eps, v = out.chunk(2, 1)
        clean = (x - (1 - shares[k]).sqrt() * eps) / shares[k].sqrt()
        mean = betas[k] * before[k].sqrt() / (1 - shares[k]) * clean
        mean = mean + (1 - before[k]) * (1 - betas[k]).sqrt() / (1 - shares[k]) * x
        small = (betas * (1 - before) / (1 - shares))[max(k, 1)].log()
        log = (v + 1) / 2 * betas[k].log() + (1 - v) / 2 * small
        x = mean + (k > 0) * (0.5 * log).exp() * fresh[steps - 1 - k]
        x = x.float()
    return x


@torch.no_grad()
def test_frames_are_drawn_as_the_authors_draw_them_and_the_window_slides(model):
    torch.manual_seed(2)
    state = last_states(model, sequences(steps=1))
    frames = state["window"][:, :1].expand(-1, 2, -1, -1, -1)  # the first stands for those before it
    for _ in range(3):
        action, shape = MOVES.rand((2,)), model.frame_shape
        noise = {"frame": torch.randn(2, 1, *shape), "fresh": torch.randn(2, 3, 1, *shape)}
        fresh = noise["fresh"][:, :, 0].transpose(0, 1)
        expected = drawn_by_hand(model, frames, action / 2, 1 / 128, noise["frame"][:, 0], fresh, 3)
        after = model.imagine(state, action, noise)
        assert after.reward is None and after.cont is None
        state = after.state
        newest = model.features(state).view_as(expected)
        torch.testing.assert_close(newest, expected, rtol=1e-3, atol=1e-3)
        frames = torch.cat([frames[:, 1:], newest.unsqueeze(1)], 1)
    assert state["filled"].tolist() == [[3], [3]]


class Told(torch.nn.Module):
    """In the place of the network: keeps what it is told, and says noise of 0."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, noisy, level, context, action, time):
        self.seen.append((context, action, time))
        return torch.cat([torch.zeros_like(noisy)] * 2, 1)


def told_of(model, monkeypatch):
    net = Told()
    monkeypatch.setitem(model._modules, "network", net)
    return net.seen


@torch.no_grad()
def test_a_jump_is_told_the_whole_way_and_the_time_and_a_stride_takes_one_action_again(monkeypatch):
    net = nwm(NWMConfig.tiny(**NWM_SIZES, motion="pose"), SMALL, nwm_action_spec()).eval()
    state = last_states(net, sequences(spec=nwm_action_spec()))
    seen = told_of(net, monkeypatch)
    far = torch.tensor([[9.0, -8.0, 2.0], [0.0, 0.0, 0.0]])
    after = net.jump(state, far, -5)
    context, action, time = seen[-1]
    torch.testing.assert_close(action, torch.tensor([[23 / 7.5 - 1, -2.0, 2.0], [-1 / 3, 0.0, 0.0]]))
    assert time.tolist() == [-5 / 128] * 2 and after["filled"].tolist() == [[3], [3]]
    assert torch.equal(context, state["window"][:, -2:]) and torch.equal(after["window"][:, :2], state["window"][:, 1:])
    net.sampling = NWMSamplingConfig("ddim", 1, stride=4)
    quarter = torch.tensor([[1.0, 0.0, torch.pi / 2], [1.0, 0.5, 0.0]])
    net.imagine(state, quarter, None)
    _, action, time = seen[-1]
    square, line = torch.tensor([-1 / 3, 0.0, 0.0]), torch.tensor([(4 + 2.5) / 3.75 - 1, 0.5, 0.0])
    torch.testing.assert_close(action, torch.stack([square, line]), atol=1e-5, rtol=0)
    assert time.tolist() == [4 / 128] * 2


@torch.no_grad()
def test_a_network_may_predict_the_frame_itself(monkeypatch):
    net = nwm(NWMConfig.tiny(**NWM_SIZES, target="clean"), SMALL, MOVES).eval()
    net.sampling = NWMSamplingConfig("ddim", 1)
    state, wanted = last_states(net, sequences()), torch.randn(2, *net.frame_shape)

    class Frame(torch.nn.Module):
        def forward(self, noisy, level, context, action, time):
            return torch.cat([wanted, torch.zeros_like(wanted)], 1)

    monkeypatch.setitem(net._modules, "network", Frame())
    drawn = net.imagine(state, MOVES.rand((2,)), {"frame": torch.randn(2, 1, *net.frame_shape)})
    torch.testing.assert_close(net.newest_frame(drawn.state), wanted, rtol=0, atol=1e-5)
    loss, level = net.objective(), torch.tensor([0, 999])
    told = (wanted, torch.zeros(2, 2, *net.frame_shape), torch.zeros(2, 2), torch.zeros(2))
    error = loss.denoising(*told, level, torch.randn_like(wanted)).squared_error
    assert bool((error == 0).all()) and net.config.network.target == "clean"


@torch.no_grad()
def test_several_frames_are_drawn_one_after_the_other():
    torch.manual_seed(0)
    net = nwm(NWMConfig.tiny(**{**NWM_SIZES, "context": 3, "steps": 2}), SMALL, MOVES).eval()
    state = last_states(net, sequences(steps=1))
    actions = MOVES.rand((2, 2))
    noise = {key: value for key, value in net.film_noise_spec(2).expand(2).rand().items()}
    whole = net.imagine_film(state, actions, noise).state
    for k in range(2):
        state = net.imagine(state, actions[:, k], {"frame": noise["frame"][:, k : k + 1]}).state
    assert whole["filled"].squeeze(-1).tolist() == [[2, 3]] * 2
    torch.testing.assert_close(whole["window"][:, -1, :3], state["window"][:, :3])


@torch.no_grad()
def test_what_is_seen_is_drawn_from_the_autoencoders_distribution(model):
    batch = sequences(steps=1)[:, 0]
    pixels, first = {"pixels": batch["pixels"]}, batch["is_init"]
    noise = torch.randn(2, *model.frame_shape)

    def newest(noise):
        state = model.initial_state((2,))
        return model.newest_frame(model.observe(state, batch["action"], pixels, first, noise))

    mean, log_variance = model.tokenizer.moments(batch["pixels"].permute(0, 3, 1, 2) / 127.5 - 1.0)
    torch.testing.assert_close(newest(None), mean, rtol=1e-4, atol=1e-5)
    drawn = mean + (0.5 * log_variance).exp() * noise
    torch.testing.assert_close(newest({"latent": noise}), drawn, rtol=1e-4, atol=1e-5)
    assert set(model.noise_spec["observe"].keys()) == {"latent"}


def test_the_networks_loss_is_nwms():
    info, tensors = load("cdit_training_loss")
    weights = {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}
    net = NWM.from_official({"ema": weights}, tokenizer=autoencoder(), **golden_details())
    inputs = (tensors[f"in/{key}"] for key in ("x_start", "x_cond", "y_action", "rel_t", "t"))
    loss = net.objective().denoising(*inputs, tensors["rec/noise"])
    close(info, loss.squared_error, tensors["out/mse"])
    close(info, loss.bits, tensors["out/vb"])


def test_frames_that_are_asked_for_lie_in_the_episode_and_within_reach_and_evenly():
    torch.manual_seed(0)
    net = NWM(NWMConfig.tiny(**{**NWM_SIZES, "goals": 64, "reach": 3}), SMALL, MOVES)
    objective = net.objective()
    begins = torch.tensor([[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]], dtype=torch.bool).expand(200, -1)
    real = torch.ones_like(begins)
    real[:, 9:] = False
    found = objective.jumps(begins, real)
    assert set(found.now.flatten().tolist()) == set(range(9))
    first, last = torch.where(found.now < 6, 0, 6), torch.where(found.now < 6, 5, 8)
    low, high = torch.maximum(first, found.now - 3), torch.minimum(last, found.now + 3)
    assert bool(((found.goal >= low) & (found.goal <= high)).all())
    assert torch.equal(found.past, torch.stack([torch.maximum(found.now - 1, first), found.now], -1).squeeze(1))
    of_two = found.goal[(found.now == 2).squeeze(1)].flatten()
    share = torch.bincount(of_two, minlength=6) / len(of_two)
    assert bool(((share > 0.1) & (share < 0.24)).all())  # six of them, a sixth each


def test_the_network_is_told_where_frames_of_an_episode_lie(monkeypatch):
    net = NWM(NWMConfig.tiny(**{**NWM_SIZES, "goals": 8, "reach": 64, "autoencoder_steps": 0}), SMALL, MOVES)
    seen = told_of(net, monkeypatch)
    objective, batch, kept = net.objective(), sequences(rows=3, steps=6, begins=(3,)), []
    jumps = objective.jumps
    monkeypatch.setattr(objective, "jumps", lambda *flags: (kept.append(jumps(*flags)), kept[-1])[1])
    objective(batch)
    (now, past, goal), (context, action, time) = kept[0], seen[0]
    # Arrivals: x_0 ... x_3 of the first episode, whose last is under ``next``, then x_3' ... x_6' of the second.
    path = torch.nn.functional.pad((batch["action"] / 2).cumsum(1), (0, 0, 1, 0))
    places = torch.stack([path[:, k if k < 4 else k - 1] for k in range(8)], 1)
    moved = places.take_along_dim(goal[..., None], 1) - places.take_along_dim(now[..., None], 1)
    torch.testing.assert_close(action.view(3, 8, 2), moved)
    assert torch.equal(time.view(3, 8), (goal - now) / 128)
    pixels = torch.cat([batch["pixels"][:, :3], batch["next", "pixels"][:, 2:3], batch["pixels"][:, 3:]], 1)
    pixels = torch.cat([pixels, batch["next", "pixels"][:, -1:]], 1)
    means = net.tokenizer.latents(pixels)[torch.arange(3)[:, None], past]
    assert context.view(3, 8, *means.shape[1:]).std(1).max() == 0  # the same for all that is asked for
    assert (context[::8] - means).square().mean() < (context[::8].roll(1, 0) - means).square().mean()


def test_the_autoencoder_learns_first_and_then_the_network_over_its_latents():
    torch.manual_seed(0)
    net = nwm(NWMConfig.tiny(**NWM_SIZES, autoencoder_steps=2), SMALL, MOVES)
    objective, batch, reached = net.objective(), sequences(), {}
    assert [objective.stage_at(step) for step in range(3)] == ["autoencoder", "autoencoder", "network"]
    for step in (0, 2):
        objective.before_update(step)
        objective.zero_grad()
        losses = objective(batch)
        assert set(losses.keys()) == set(objective.out_keys)
        sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
        named = objective.world_model_params.flatten_keys(".").items()
        reached[step] = {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}
    assert reached == {0: {"tokenizer"}, 2: {"network"}}
    group = objective.make_optimizer().param_groups[0]
    assert (group["lr"], group["max_norm"], group["weight_decay"]) == (1e-3, 10.0, 0.0)


def autoencoder():
    return LatentTokenizer(ConvAutoencoder(latent=4, width=32, mults=(1, 1)), scale=0.18215)


def golden_details():
    config = NWMConfig.cdit_xl(context=2, transformer=CDiTConfig(2, 32, 2, 4))
    return {"config": config, "observation_spec": SMALL}


def test_the_autoencoders_worst_error_counts_as_often_as_it_is_told():
    found = []
    for worst in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        net = nwm(NWMConfig.tiny(**NWM_SIZES, autoencoder_steps=1, worst=worst), SMALL, MOVES)
        objective = net.objective()
        objective.before_update(0)
        found.append(objective(sequences())["loss_reconstruction"].item())
    none, once, thrice = found
    assert once - none > 0.05 and thrice - none == pytest.approx(3 * (once - none), rel=1e-4)
    with pytest.raises(ValueError, match=r"worst are at least 0; got 0, 0.001 and -1.0"):
        nwm(NWMConfig.tiny(**NWM_SIZES, autoencoder_steps=0, worst=-1.0), SMALL, MOVES).objective()


def foretelling(**changes):
    torch.manual_seed(0)
    return nwm(NWMConfig.tiny(**{**NWM_SIZES, **NWM_OUTCOMES, **changes}), SMALL, MOVES)


def test_reward_and_end_are_learned_and_foretold_where_the_config_has_them():
    net = foretelling(autoencoder_steps=0)
    assert {"reward", "continue", "features"} <= net.capabilities
    objective, batch = net.objective(), sequences(begins=(3,))
    losses = objective(batch)
    assert set(losses.keys()) == set(objective.out_keys) >= {"loss_reward", "loss_termination"}
    (losses["loss_reward"] + losses["loss_termination"]).backward()
    named = objective.world_model_params.flatten_keys(".").items()
    assert {name.split(".")[0] for name, p in named if p.grad is not None and p.grad.any()} == {"reward_end"}
    norms = {group["clip"]: group["max_norm"] for group in objective.make_optimizer().param_groups}
    assert norms == {"tokenizer": 10.0, "network": 10.0, "reward_end": 100.0}
    optimizer = objective.make_optimizer(lr=1e-2, warmup=0)
    for _ in range(30):
        optimizer.zero_grad()
        losses = objective(batch)
        (losses["loss_reward"] + losses["loss_termination"]).backward()
        optimizer.step()
    after = net.eval().imagine(last_states(net, batch), batch["action"][:, 0], None)
    assert bool((after.reward > 0.5).all()) and bool((after.cont > 0.9).all())  # every step pays 1, and none ends


@torch.no_grad()
def test_a_jump_leaves_what_reward_and_end_remember():
    net = foretelling().eval()
    state = last_states(net, sequences())
    after = net.jump(state, torch.ones(2, 2), 3)
    assert set(after) == set(state) and state["h"].any()
    assert torch.equal(after["h"], state["h"]) and torch.equal(after["c"], state["c"])
    assert not torch.equal(net.imagine(state, torch.ones(2, 2), None).state["h"], state["h"])
    with pytest.raises(ValueError, match="single steps; got stride 2"):
        net.sampling = NWMSamplingConfig("ddim", 1, stride=2)


def test_a_published_file_is_read_beside_an_autoencoder_that_is_not_trained_on(tmp_path):
    info, tensors = load("cdit_tiny")
    weights = {f"_orig_mod.{key[2:]}": value for key, value in tensors.items() if key.startswith("w/")}
    torch.save({"ema": weights, "model": {}, "opt": {}}, tmp_path / "net.pt")
    part = autoencoder()
    net = load_official("nwm", tmp_path / "net.pt", tokenizer=part, **golden_details())
    assert net.tokenizer is part and net.frame_shape == (4, 8, 8) and net.config.network.autoencoder is None
    inputs = (tensors[f"in/{key}"] for key in ("x", "t", "x_cond", "y_action", "rel_t"))
    close(info, net.network(*inputs), tensors["out/y"])
    assert net.objective().stage_at(0) == "network"
    net.save_pretrained(tmp_path / "saved")
    again = NWM.from_pretrained(tmp_path / "saved", tokenizer=autoencoder())
    state = last_states(net, sequences(spec=nwm_action_spec()))
    torch.testing.assert_close(
        again.features(last_states(again, sequences(spec=nwm_action_spec()))), net.features(state)
    )
    assert torch.equal(again.decode(state)["pixels"], net.decode(state)["pixels"])
    with pytest.raises(BadModelError, match="no autoencoder of its own"):
        NWM.from_pretrained(tmp_path / "saved")
    with pytest.raises(BadModelError):
        load_official("nwm", tmp_path / "net.pt", tokenizer=part, observation_spec=SMALL)


SIZES = {"cdit_s": 12, "cdit_b": 12, "cdit_l": 24, "cdit_xl": 28}


def test_the_papers_sizes_see_four_frames_of_224_pixels():
    seen = Composite(pixels=Bounded(0, 255, (224, 224, 3), dtype=torch.uint8))
    counts, spec = {}, nwm_action_spec()
    for name, depth in SIZES.items():
        with torch.device("meta"):
            net = NWM(getattr(NWMConfig, name)(), seen, spec)
        assert net.frame_shape == (4, 28, 28) and net.window == 5 and len(net.network.blocks) == depth
        counts[name] = sum(parameter.numel() for parameter in net.network.parameters())
    info, _ = load("nwm_cdit_xl_checkpoint_keys")
    assert counts["cdit_xl"] == 1_011_959_456 and sorted(counts.values()) == list(counts.values())


@torch.no_grad()
def test_a_plan_goes_to_a_picture_by_latents_or_by_a_distance_of_pictures_of_the_users(model):
    batch = sequences()
    goal = {"pixels": batch["pixels"][:, 2]}
    small = {"horizon": 2, "candidates": 4, "elites": 2, "repeats": 2, "mean": (0.0, 0.0), "std": (0.5, 0.5)}
    world = GoalWorldModel(model)
    state = {**last_states(model, batch), **world.goal_state(goal)}
    found = nwm_cem(world, **small).plan(state, generator=torch.Generator().manual_seed(0))
    assert found.actions.shape == (2, 2, 2) and bool(found.plan.best_value.isfinite().all())
    calls = []

    def perceptual(shown, wanted):
        calls.append(shown.shape)
        return (shown - wanted).abs().mean(-1, keepdim=True)

    objective = GoalDistance.observation(model, "pixels", goal["pixels"].flatten(1).float(), distance=perceptual)
    nwm_cem(model, objective, **small).plan(last_states(model, batch), generator=torch.Generator())
    assert calls == [torch.Size([2, 4, 2, 768])]
    reward = GoalReward(model, {"pixels": batch["pixels"][0, 2]})
    assert reward.goal.shape == (32,) and bool((reward.distance(reward.goal, reward.goal) == 0).all())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"context": 0}, "at least 1; got 0"),
        (
            {"network.autoencoder": ConvAutoencoderConfig(mults=(1,) * 6, width=32)},
            "halve 5 times; got 16 x 16",
        ),
        ({"network.transformer.patch": 3}, "do not fill"),
        ({"network.autoencoder": None}, "hand one over"),
        ({"motion": "pose"}, "three numbers"),
        ({"sampling": NWMSamplingConfig("euler")}, "one of 'ancestral', 'ddim'; got 'euler'"),
        ({"sampling": NWMSamplingConfig("ancestral", 1)}, "at least 2 steps"),
        ({"sampling": NWMSamplingConfig("ancestral", 5, 0.5)}, "no eta"),
        ({"steps": 1001}, "between 1 and 1000 steps"),
        ({"target": "velocity"}, "'noise', 'clean', 'v'; got 'velocity'"),
        ({"sampling": NWMSamplingConfig("ddim", 2, stride=0)}, "stride is a number of steps"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NWM(NWMConfig.tiny(**{**NWM_SIZES, **changes}), SMALL, MOVES)


def test_other_parts_and_losses_that_cannot_be_are_refused(model):
    for config in (NWMLossConfig(autoencoder_steps=-1), NWMLossConfig(kl_scale=-1.0)):
        with pytest.raises(ValueError, match="at least 0"):
            type(model.objective())(model, config)
    for config in (NWMLossConfig(goals=0), NWMLossConfig(reach=-1)):
        with pytest.raises(ValueError, match="goals is at least 1, reach at least 0"):
            type(model.objective())(model, config)
    with pytest.raises(ValueError, match="'ancestral' or 'ddim'; got 'euler'"):
        model.sampling = NWMSamplingConfig("euler")
    with pytest.raises(TypeError, match="LatentTokenizer"):
        NWM(NWMConfig.tiny(), SMALL, MOVES, ConvAutoencoder())
    with pytest.raises(ValueError, match="uint8 image"):
        NWM(NWMConfig.tiny(), Composite(observation=Bounded(-1, 1, (3,))), OneHot(3))
