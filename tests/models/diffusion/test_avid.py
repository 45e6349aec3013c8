"""The assembled AVID: the authors' numbers, a frozen base, how frames are drawn, input that cannot be."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torch.nn.functional import one_hot
from torchrl.data import Bounded, Composite, LazyTensorStorage, OneHot, ReplayBuffer

from tests.support.golden_features import close
from tests.support.golden_vectors import load as load_golden
from tests.support.models import AVID_SIZES, DIAMOND_LEVELS
from wmcomponents.functional import AncestralSampler, Denoised, levels_from_clean, spaced_levels
from wmcomponents.models import AVID, AVIDConfig, AVIDLossConfig, FilmUNetConfig, ForcingProcessConfig, RewardEndConfig
from wmcomponents.models.diffusion.official_avid import ADAPTER_RULES, FILM_UNET_RULES
from wmcomponents.models.loading import load
from wmcomponents.pretrained import BadModelError, load_mapped
from wmcomponents.training import Trainer

IMAGE = Composite(pixels=Bounded(0, 255, (6, 6, 2), dtype=torch.uint8))
UNET = FilmUNetConfig(dim=4, multiples=(1, 2), heads=1, head_dim=4)
SIZES = {"context": 2, "frames": 3, "base": UNET, "adapter": UNET, "steps": 3, "reward_end": None}
PLAIN = AVIDConfig.tiny(**SIZES, levels=50, target="v")


class Halved(torch.nn.Module):
    """A video model of somebody else's: half of what is noisy, and a little of the past; it counts who asks it."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.5))
        self.dropout, self.asked = torch.nn.Dropout(0.9), 0

    def forward(self, noisy, level, context):
        self.asked += 1
        return self.dropout(self.factor * noisy + 0.1 * context.mean(1, keepdim=True))


def model(config=PLAIN, **parts):
    torch.manual_seed(0)
    net = AVID(config, IMAGE, OneHot(3), **parts).eval()
    torch.nn.init.normal_(net.adapter.mixture.weight)
    return net


def sequences(rows=2, steps=4):
    generator = torch.Generator().manual_seed(0)
    seen = torch.randint(0, 256, (rows, steps + 1, 6, 6, 2), generator=generator, dtype=torch.uint8)
    flag = torch.zeros(rows, steps, 1, dtype=torch.bool)
    chosen = one_hot(torch.randint(3, (rows, steps), generator=generator), 3)
    after = {"pixels": seen[:, 1:].clone(), "reward": torch.ones(rows, steps, 1), "terminated": flag, "done": flag}
    now = {"pixels": seen[:, :-1].clone(), "action": chosen, "is_init": flag.clone()}
    return TensorDict({**now, "next": TensorDict(after, [rows, steps])}, [rows, steps])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def films(x):
    """``[B, C, T, H, W]``, as the authors' code has films, as ours."""
    return x.transpose(1, 2)


# -- the authors' numbers ------------------------------------------------------------------------------------------


def official():
    info, tensors = load_golden("avid_pixel")
    sizes = FilmUNetConfig(dim=8, multiples=(1, 2), heads=2, head_dim=8)
    config = AVIDConfig.procgen22m(frames=3, base=sizes, adapter=sizes)
    net = AVID(config, Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8)), OneHot(5)).eval()
    weights = {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}
    # The base was built for actions, which it is never told: the vector for none is added to its levels' condition.
    of_base = {key.removeprefix("model."): value for key, value in weights.items() if key.startswith("model.")}
    load_mapped(net.adapter, {k: v for k, v in weights.items() if not k.startswith("model.")}, ADAPTER_RULES)
    base = type(net.base.network)(
        (9, 8, 8), 5, 8, (1, 2), 2, 8, frames=3, is_causal=False, relative=True, out_channels=3
    )
    load_mapped(base, of_base, FILM_UNET_RULES)
    net.base.network = base
    return info, tensors, net


@torch.no_grad()
def test_base_and_adapter_say_together_what_the_authors_say():
    info, tensors, net = official()
    noisy, past = films(tensors["out/x_t"]), films(tensors["in/cond_frames"])
    level, led = tensors["in/t"].unsqueeze(1).expand(-1, 3), one_hot(tensors["in/act"], 5).float()
    output, mask = net.predict(noisy, level, past, led)
    close(info, films(output), tensors["out/model_output"])
    close(info, films(mask), tensors["out/mask"])
    clean = net.target.clean(output, noisy, net.process.at(level))
    close(info, films(clean), tensors["out/pred_x_start"])


@torch.no_grad()
def test_the_loss_is_the_authors():
    info, tensors, net = official()
    objective = net.objective()
    objective.stage = "adapter"
    clean, noise = films(tensors["in/x_start"]), films(tensors["rec/noise"])
    level, led = tensors["in/t"].unsqueeze(1).expand(-1, 3), one_hot(tensors["in/act"], 5).float()
    close(info, films(net.process.diffuse(clean, noise, level)), tensors["out/x_t"])
    error, _ = objective.denoising(films(tensors["in/cond_frames"]), clean, led, level, noise)
    close(info, (objective.level_weight(level) * error).mean(), tensors["out/loss"])


def test_the_published_sizes():
    seen = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
    for preset, millions in (("procgen22m", 22), ("procgen71m", 71)):  # rounded, and heads are not published
        with torch.device("meta"):
            net = AVID(getattr(AVIDConfig, preset)(), seen, OneHot(15))
        assert sum(p.numel() for p in net.adapter.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


# -- the dream -----------------------------------------------------------------------------------------------------


def seen(net, frames, rows=2):
    """A state that has seen so many random frames, all under action 0."""
    pixels = torch.randint(0, 256, (rows, frames, 6, 6, 2), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    begins = torch.zeros(rows, frames, 1, dtype=torch.bool)
    begins[:, 0] = True
    led = one_hot(torch.zeros(rows, frames, dtype=torch.long), 3)
    return net.observe_last(net.initial_state((rows,)), led, {"pixels": pixels}, begins, None)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2, 5])
def test_frames_are_drawn_behind_the_newest_ones_and_the_first_stands_for_those_before_it(count):
    net = model(PLAIN.vary(sampler="ancestral"))
    state = seen(net, count)
    frames = state["window"][:, :count]
    past = torch.cat([frames[:, :1]] * 2 + [frames[:, 1:]], 1)[:, -2:]
    led = one_hot(torch.tensor([[1, 2], [0, 1]]), 3)
    noise = {"frame": normal(2, 2, 2, 6, 6), "fresh": normal(2, 3, 2, 2, 6, 6, seed=1)}
    after = net.imagine_film(state, led, noise).state

    def guess(x, step):
        said = net.predict(x, torch.full((2, 2), step.level), past, led.float())[0]
        clean = (step.now.alpha * x - step.now.sigma * said).clamp(-1, 1)
        return Denoised(clean, torch.zeros_like(x))

    expected = AncestralSampler(net.process.betas, levels_from_clean(50, 3)).sample(
        guess, noise["frame"], noise["fresh"].transpose(0, 1)
    )
    place = after["filled"][0, -1, 0]
    torch.testing.assert_close(after["window"][:, -1, place - 2 : place], expected)


def test_all_levels_are_visited_in_as_many_steps():
    assert levels_from_clean(200, 200)[1:] == spaced_levels(200, 200)
    net = model(PLAIN.vary(steps=50, sampler="ancestral"))
    assert [step.level for step in net.sampler.steps] == list(range(49, -1, -1))
    assert net.noise_spec["imagine", "fresh"].shape == (50, 1, 2, 6, 6)
    net.sampling = replace(net.sampling, sampler="ddim", steps=4)
    assert "fresh" not in net.noise_spec["imagine"].keys() and net.config.network.sampling.steps == 4


def test_no_frame_of_a_causal_world_sees_a_later_one():
    net = model()
    past, led = normal(1, 2, 2, 6, 6), one_hot(torch.tensor([[0, 1, 2]]), 3).float().requires_grad_()
    noisy = normal(1, 3, 2, 6, 6, seed=1).requires_grad_()
    output, _ = net.predict(noisy, torch.full((1, 3), 7), past, led)
    of_noisy, of_led = torch.autograd.grad(output[:, 1].sum(), [noisy, led])
    assert of_noisy[:, 2].eq(0).all() and of_led[:, 2].eq(0).all()
    assert all(one.ne(0).any() for one in (of_noisy[:, 0], of_noisy[:, 1], of_led[:, 1]))


# -- what learns ---------------------------------------------------------------------------------------------------


def test_the_base_learns_first_and_stays_as_it_is_beside_the_adapter():
    torch.manual_seed(0)
    net = AVID(AVID_SIZES.vary(base_steps=2, context=2), IMAGE, OneHot(3))
    objective, batch = net.objective(), sequences()
    assert [objective.stage_at(step) for step in range(3)] == ["base", "base", "adapter"]
    reached = {}
    for step in (0, 2):
        objective.before_update(step)
        objective.zero_grad()
        losses = objective(batch)
        assert set(losses.keys()) == set(objective.out_keys)
        sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
        named = objective.world_model_params.flatten_keys(".").items()
        reached[step] = {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}
    assert reached == {0: {"base"}, 2: {"adapter", "reward_end"}}
    assert losses["mask"] == 0.5  # an untrained mask


def replay_of(batch):
    """A buffer of whole sequences."""
    buffer = ReplayBuffer(storage=LazyTensorStorage(len(batch)), batch_size=len(batch))
    buffer.extend(batch)
    return buffer


def test_both_stages_are_one_resumable_call(tmp_path):
    def trained(out, *totals):
        for total in totals:
            torch.manual_seed(0)
            net = AVID(AVID_SIZES.vary(base_steps=2, lr=1e-2, warmup=0), IMAGE, OneHot(3))
            Trainer(net, replay_of(sequences(2, 8)), out=out, progress=False).train(total)
        return net

    torch.manual_seed(0)
    fresh = AVID(AVID_SIZES, IMAGE, OneHot(3))
    base_only = trained(None, {"base": 2, "adapter": 0})
    whole, in_parts = trained(None, 4), trained(tmp_path, 3, 4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, in_parts.state_dict()[name]), name
        same_as_base = torch.equal(value, base_only.state_dict()[name])
        assert same_as_base if name.startswith("base") else True, name
    assert not torch.equal(whole.base.network.conv_out.weight, fresh.base.network.conv_out.weight)
    assert not torch.equal(whole.adapter.network.conv_out.weight, fresh.adapter.network.conv_out.weight)


def test_only_some_of_the_past_is_shown_where_the_config_says_so():
    net = model(PLAIN.vary(context=3))
    objective = net.objective()
    objective.config = replace(objective.config, short_context=1.0)
    past = torch.arange(3.0).expand(64, 3)[..., None]
    shown = objective.shown(past).squeeze(-1)
    assert {tuple(row) for row in shown.tolist()} == {(1.0, 1.0, 2.0), (2.0, 2.0, 2.0)}
    objective.config = replace(objective.config, short_context=0.0)
    assert objective.shown(past).equal(past)


# -- a base of the user's ------------------------------------------------------------------------------------------


def test_a_video_model_of_the_users_is_asked_and_left_alone(tmp_path):
    base = Halved().train()
    before = base.factor.clone()
    net = model(PLAIN, base=base)
    assert net.config.network.base is None and not any(key.startswith("base") for key in net.state_dict())
    objective = net.objective()
    assert objective.stage_at(0) == "adapter" and objective.plan({"base": 0, "adapter": 3}) == 3
    with pytest.raises(ValueError, match="plan 0 updates of the stage 'base'"):
        objective.plan({"base": 2, "adapter": 3})
    net = model(PLAIN, base=base)
    Trainer(net, replay_of(sequences(2, 8)), progress=False, lr=1e-2, warmup=0).train(2)
    assert base.asked and torch.equal(base.factor, before) and base.factor.grad is None and base.training
    state, asked = seen(net, 3), base.asked
    dreamt = net.imagine(state, one_hot(torch.tensor([0, 1]), 3), None).state["window"]
    assert base.asked == asked + 3  # once for each step of sampling
    net.save_pretrained(tmp_path / "model")
    with pytest.raises(BadModelError, match="give it again"):
        load(tmp_path / "model")
    back = load(tmp_path / "model", base=base)
    again = back.imagine(state, one_hot(torch.tensor([0, 1]), 3), None).state["window"]
    torch.testing.assert_close(again, dreamt)


def test_a_mask_of_one_is_the_base_alone():
    net = model(PLAIN, base=Halved())
    with torch.no_grad():
        net.adapter.mixture.weight.zero_()
        net.adapter.mixture.bias.fill_(100.0)
    noisy, past = normal(1, 3, 2, 6, 6), normal(1, 2, 2, 6, 6)
    output, mask = net.predict(noisy, torch.full((1, 3), 7), past, torch.zeros(1, 3, 3))
    torch.testing.assert_close(output, 0.5 * noisy + 0.1 * past.mean(1, keepdim=True))
    assert mask.eq(1).all()


# -- input that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"context": 0}, "at least 1 past frame"),
        ({"frames": 0}, "films of at least 1 frame"),
        ({"mixture": "product"}, "mixture must be one of"),
        ({"noise_schedule": "even"}, "noise_schedule must be one of"),
        ({"target": "score"}, "target must be one of"),
        ({"steps": 51}, "between 1 and 50 steps"),
        ({"sampler": "euler"}, "sampler must be one of"),
        ({"adapter": replace(UNET, multiples=())}, "at least one level"),
        ({"clip": 0.0}, "clip is above 0"),
        ({"base": None}, "give it again"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AVID(PLAIN.vary(**changes), IMAGE, OneHot(3))


def test_a_base_that_is_none_is_refused():
    with pytest.raises(TypeError, match="called with"):
        AVID(PLAIN, IMAGE, OneHot(3), base=lambda noisy, level, context: noisy)
    net = model(PLAIN, base=torch.nn.Identity())
    net.base.module.forward = lambda noisy, level, context: noisy[:, :1]
    with pytest.raises(ValueError, match="says something of every number"):
        net.imagine_film(seen(net, 2), one_hot(torch.tensor([[0, 1]] * 2), 3), None)


def test_losses_and_films_that_cannot_be_are_refused():
    net = model()
    for config in (
        AVIDLossConfig(base_steps=-1),
        AVIDLossConfig(snr_clip=0.0),
        AVIDLossConfig(short_context=1.5),
    ):
        with pytest.raises(ValueError, match="base_steps is at least 0"):
            type(net.objective())(net, config)
    with pytest.raises(ValueError, match="at least 2 transitions; got 1"):
        net.objective()(sequences(steps=1))
    with pytest.raises(ValueError, match="'ancestral' or 'ddim'"):
        net.sampling = replace(net.sampling, sampler="euler")
    with pytest.raises(ValueError, match="at most 3 are drawn at once; got 4 actions"):
        net.imagine_film(seen(net, 2), one_hot(torch.zeros(2, 4, dtype=torch.long), 3), None)
    with pytest.raises(ValueError, match="one uint8 image"):
        AVID(PLAIN, Composite(a=IMAGE["pixels"], b=IMAGE["pixels"]), OneHot(3))


def test_the_form_without_a_mask_begins_as_the_base():
    config = PLAIN.vary(mixture="added", process=ForcingProcessConfig(50, "linear", "noise"))
    net = model_of_added(config)
    noisy, past, level = normal(1, 3, 2, 6, 6), normal(1, 2, 2, 6, 6), torch.full((1, 3), 7)
    output, mask = net.predict(noisy, level, past, torch.zeros(1, 3, 3))
    torch.testing.assert_close(output, net.base(noisy, level, past))
    assert mask.eq(1).all()


def model_of_added(config):
    torch.manual_seed(0)
    return AVID(config.vary(reward_end=RewardEndConfig(hidden=8, **DIAMOND_LEVELS)), IMAGE, OneHot(3)).eval()
