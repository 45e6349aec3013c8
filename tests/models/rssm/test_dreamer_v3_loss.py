"""DreamerV3ModelLoss as a TorchRL LossModule."""

import copy
import math

import pytest
import torch
from torch import nn
from torchrl.data import Bounded, Composite, OneHot, Unbounded
from torchrl.envs.utils import ExplorationType, exploration_type, set_exploration_type
from torchrl.objectives import SoftUpdate

from tests.support.small_batch import batch
from wmcomponents.models import DreamerV3, DreamerV3Config, DreamerV3LossConfig, DreamerV3ModelLoss
from wmcomponents.objectives.arrivals import arrivals_from

B, T = 3, 6
SIZES = {"deter": 32, "hidden": 16, "groups": 4, "classes": 4, "units": 16, "blocks": 4, "layers": 1, "bins": 41}
TERMS = ("dyn", "rep", "reconstruction", "reward", "continue")


def model(**changes):
    torch.manual_seed(0)
    spec = Composite(observation=Unbounded(4), board=Bounded(0, 1, (4, 4, 2), dtype=torch.uint8))
    made = DreamerV3(DreamerV3Config.tiny(**{**SIZES, "free_nats": 0.0, **changes}), spec, OneHot(2))
    with torch.no_grad():  # heads start at zero, where gradients to their features are zero too
        for head in (made.reward_head, made.continue_head):
            head.out.weight.normal_(std=0.1)
    return made


def unclipped(made, reduction):
    return DreamerV3ModelLoss(made, DreamerV3LossConfig(free_nats=0.0), reduction=reduction)


def losses(objective, data, seed=0):
    objective.generator.manual_seed(seed)
    return objective(data)


def assert_close(one, other):
    assert set(one.keys()) == set(other.keys())
    for key in one.keys():
        torch.testing.assert_close(one[key], other[key], msg=lambda text, key=key: f"{key}: {text}")


def test_the_result_has_no_batch_and_only_the_losses_carry_gradients():
    objective = model().objective()
    out = objective(batch())
    assert out.batch_size == torch.Size([])
    assert set(out.keys()) == set(objective.out_keys)
    for key, value in out.items():
        assert value.shape == () and value.requires_grad == key.startswith("loss_")


def test_the_sum_of_the_losses_reaches_every_parameter():
    objective = model().objective()
    out = objective(batch())
    sum(value for key, value in out.items() if key.startswith("loss_")).backward()
    without = [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_the_input_is_left_as_it_is():
    data = batch()
    data["collector", "mask"] = torch.rand(B, T) < 0.8
    before = data.clone()
    model().objective()(data)
    assert (before == data).all() and set(before.keys(True, True)) == set(data.keys(True, True))


def test_a_call_with_keywords_equals_a_call_with_a_tensordict():
    objective, data = model().objective(), batch()
    expected = losses(objective, data)
    keywords = {"_".join(key) if isinstance(key, tuple) else key: data[key] for key in objective.in_keys}
    objective.generator.manual_seed(0)
    values = objective(**keywords)
    assert_close(dict(zip(objective.out_keys, values, strict=True)), dict(expected.items()))


def test_out_keys_can_be_selected():
    objective, data = model().objective(), batch()
    keywords = {"_".join(key) if isinstance(key, tuple) else key: data[key] for key in objective.in_keys}
    everything = objective.out_keys
    selected = objective.select_out_keys("loss_dyn", "kl")
    assert len(selected(**keywords)) == 2 and set(selected(data).keys()) == {"loss_dyn", "kl"}
    assert objective.reset_out_keys().out_keys == everything


def test_two_calls_differ_and_seeded_calls_agree():
    objective, data = model().objective(), batch()
    first, second = objective(data), objective(data)
    assert first["loss_reconstruction"] != second["loss_reconstruction"]
    assert_close(dict(losses(objective, data, 5).items()), dict(losses(objective, data, 5).items()))
    twins = [model().objective()(data)["loss_reconstruction"] for _ in range(2)]
    assert twins[0] == twins[1]


def test_the_noise_is_not_that_of_the_global_generator():
    objective, data = model().objective(), batch()
    state = torch.get_rng_state()
    objective(data)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("mode", [ExplorationType.DETERMINISTIC, ExplorationType.MODE, ExplorationType.MEAN])
def test_the_exploration_mode_around_the_call_does_not_silence_the_noise(mode, monkeypatch):
    objective, data = model().objective(), batch()
    seen = []
    terms = DreamerV3ModelLoss.terms
    monkeypatch.setattr(DreamerV3ModelLoss, "terms", lambda *args: seen.append(exploration_type()) or terms(*args))
    with set_exploration_type(mode):
        first, second = objective(data), objective(data)
    assert first["loss_reconstruction"] != second["loss_reconstruction"]
    assert seen == [ExplorationType.RANDOM] * 2


def test_no_public_name_of_the_class_but_forward_is_wrapped_as_a_loss():
    assert not [name for name in vars(DreamerV3ModelLoss) if name.endswith("loss") and not name.startswith("_")]


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("action", ()),
        ("is_init", ()),
        ("reward", ("next",)),
        ("terminated", ("next",)),
        ("done", ("next",)),
        ("mask", None),
        ("priority_weight", ()),
    ],
)
def test_every_key_can_be_renamed_and_put_back(name, at):
    objective, data = model().objective(), batch()
    data["collector", "mask"] = torch.rand(B, T) < 0.7
    data["priority_weight"] = torch.rand(B, T)
    expected = losses(objective, data)
    old = ("collector", "mask") if at is None else (*at, name)
    new = "elsewhere" if at is None else (*at, "elsewhere")
    renamed = data.clone()
    renamed.rename_key_(old, new)
    objective.set_keys(**{name: "elsewhere"})
    assert_close(dict(losses(objective, renamed).items()), dict(expected.items()))
    if name not in ("mask", "priority_weight"):
        assert (new if len(new) > 1 and isinstance(new, tuple) and at else "elsewhere") in objective.in_keys
        with pytest.raises(KeyError, match="Rename with set_keys"):
            objective(data)
    objective.set_keys(**{name: None})
    assert_close(dict(losses(objective, data).items()), dict(expected.items()))


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="colour is not an accepted tensordict key"):
        model().objective().set_keys(colour="red")


def test_in_keys_follow_from_the_model_and_the_key_names():
    objective = model().objective()
    with pytest.raises(AttributeError, match="in_keys follow from"):
        objective.in_keys = []
    follow = {("next", key) for key in ("observation", "board", "reward", "terminated", "done")}
    assert isinstance(objective.in_keys, list)
    assert set(objective.in_keys) == {"observation", "board", "action", "is_init"} | follow


PARTS = ("encoder", "cell", "prior", "posterior", "decoder", "reward_head", "continue_head")
MAP = {
    "dyn": {"prior", "encoder", "cell", "posterior"},
    "rep": {"encoder", "cell", "posterior"},
    "reconstruction": {"encoder", "cell", "posterior", "decoder"},
    "reward": {"encoder", "cell", "posterior", "reward_head"},
    "continue": {"encoder", "cell", "posterior", "continue_head"},
}


@pytest.mark.parametrize("term", TERMS)
def test_each_loss_trains_exactly_its_parts(term):
    made = model()
    made.objective()(batch())[f"loss_{term}"].backward()
    parts = {name: getattr(made, name, None) or getattr(made.dynamics, name) for name in PARTS}
    reached = {
        name for name, part in parts.items() if any(p.grad is not None and p.grad.any() for p in part.parameters())
    }
    assert reached == MAP[term]
    assert sum(len(list(part.parameters())) for part in parts.values()) == len(list(made.parameters()))


def test_the_dynamics_loss_does_not_train_the_posterior_s_own_output():
    # At a single arrival from the zero state, nothing but the prior's path is left: the posterior is detached.
    made = model()
    made.objective()(batch(time=1)[:, :1].clone())["loss_dyn"].backward()
    assert made.dynamics.prior.out.weight.grad.any()


def test_below_the_free_nats_the_divergence_has_no_gradient():
    made = model(free_nats=1e6)
    out = made.objective()(batch())
    assert out["loss_dyn"].item() == 1e6 and out["loss_rep"].item() == pytest.approx(1e5) and out["kl"] < 100
    (out["loss_dyn"] + out["loss_rep"]).backward()
    assert not any(p.grad.any() for p in made.parameters() if p.grad is not None)


def test_a_model_without_a_decoder_has_no_such_loss():
    objective = model(decoder=False).objective()
    out = objective(batch())
    assert set(out.keys()) == set(objective.out_keys)
    assert "loss_reconstruction" not in out.keys() and not [key for key in out.keys() if key.startswith("error_")]


def test_gaussian_latents_train_too():
    out = model(latent="gaussian").objective()(batch())
    assert all(value.isfinite() for value in out.values())


def test_reductions_agree_with_each_other():
    made, data = model(), batch()
    results = {kind: losses(unclipped(made, kind), data) for kind in ("none", "sum", "mean")}
    for term in TERMS:
        each = results["none"][f"loss_{term}"]
        assert each.shape == (B, T + 1)
        torch.testing.assert_close(results["sum"][f"loss_{term}"], each.sum())
        torch.testing.assert_close(results["mean"][f"loss_{term}"], each.mean())
    assert results["none"]["kl"].shape == () and results["none"]["kl"] == results["sum"]["kl"]
    with pytest.raises(ValueError, match="reduction is 'mean', 'sum' or 'none'; got 'median'"):
        DreamerV3ModelLoss(made, reduction="median")


def test_padding_changes_nothing_whatever_it_holds():
    made, data = model(), batch()
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[1, 3:], valid[2, 5:] = False, False
    data["collector", "mask"] = valid.unsqueeze(-1)
    grads = []
    for value in (0.0, math.nan, math.inf):
        spoiled = data.clone()
        for key in ("observation", ("next", "observation"), ("next", "reward")):
            spoiled[key][~valid] = value
        spoiled["action"][~valid] = 7
        spoiled["next", "terminated"][~valid] = value == 0.0
        made.zero_grad()
        out = losses(made.objective(), spoiled)
        sum(out[f"loss_{term}"] for term in TERMS).backward()
        grads.append([p.grad.clone() for p in made.parameters()])
        assert all(value.isfinite() for value in out.values())
    for other in grads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(grads[0], other, strict=True))


def test_a_masked_row_equals_the_row_cut_off():
    made, data = model(), batch(rows=1)
    data["next", "done"][:], data["next", "terminated"][:], data["is_init"][:, 1:] = False, False, False
    valid = torch.arange(T) < 4
    data["collector", "mask"] = valid[None]
    masked = losses(unclipped(made, "sum"), data)
    cut = losses(unclipped(made, "none"), data)
    whole = losses(unclipped(made, "none"), data.exclude("collector"))
    for term in TERMS:
        assert not cut[f"loss_{term}"][0, 5:].any()
        torch.testing.assert_close(masked[f"loss_{term}"], cut[f"loss_{term}"].sum())
        # Arrival 4 shows the observation under `next` of transition 3 when masked, that of transition 4 otherwise.
        torch.testing.assert_close(cut[f"loss_{term}"][0, :4], whole[f"loss_{term}"][0, :4])


def test_priorities_weigh_the_mean():
    made, data = model(), batch()
    data["next", "done"][:], data["next", "terminated"][:], data["is_init"][:, 1:] = False, False, False
    data["priority_weight"] = torch.tensor([0.0, 1.0, 3.0])[:, None].expand(B, T)
    weighted = losses(made.objective(), data)
    each = losses(unclipped(made, "none"), data.exclude("priority_weight"))
    for term in TERMS:
        rows = each[f"loss_{term}"].mean(1)
        torch.testing.assert_close(weighted[f"loss_{term}"], (rows[1] + 3 * rows[2]) / 4)


def test_a_nan_anywhere_in_what_is_learned_from_is_not_hidden():
    for key in ("observation", ("next", "reward")):
        data = batch()
        data["next", "done"][:], data["is_init"][:, 1:] = False, False
        data[key][0, 2] = math.nan
        out = model().objective()(data)
        assert any(value.isnan() for value in out.values()), key


def test_parameters_are_the_model_s_own_and_listed_once():
    made = model()
    objective = made.objective()
    ours, theirs = list(objective.parameters()), list(made.parameters())
    assert {id(p) for p in ours} == {id(p) for p in theirs} and len(ours) == len(theirs)


def test_an_optimizer_step_on_the_loss_moves_the_model():
    made = model()
    objective, before = made.objective(), [p.clone() for p in made.parameters()]
    optimizer = torch.optim.SGD(objective.parameters(), 0.1)
    sum(objective(batch())[f"loss_{term}"] for term in TERMS).backward()
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))


def test_hyper_parameters_are_buffers():
    config = DreamerV3LossConfig(free_nats=0.5, dyn_scale=0.25, rep_scale=0.125)
    buffers = dict(DreamerV3ModelLoss(model(horizon=4), config).named_buffers())
    values = {name: buffers[name].item() for name in ("free_nats", "dyn_scale", "rep_scale", "discount")}
    assert values == {"free_nats": 0.5, "dyn_scale": 0.25, "rep_scale": 0.125, "discount": 0.75}


def test_the_state_dict_goes_round():
    one, other = model().objective(), DreamerV3ModelLoss(model(horizon=2), DreamerV3LossConfig(free_nats=9.0))
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)
    other.load_state_dict(one.state_dict())
    assert_close(dict(losses(one, batch()).items()), dict(losses(other, batch()).items()))


def test_a_copy_is_independent_and_goes_on_alike():
    one, data = model().objective(), batch()
    one(data)
    other = copy.deepcopy(one)
    assert_close(dict(one(data).items()), dict(other(data).items()))
    assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}


def test_moving_the_loss_moves_the_model():
    made = model()
    objective = made.objective()
    objective.to(torch.float64)
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    objective.to(torch.float32)
    assert all(value.isfinite() for value in objective(batch()).values())


@pytest.mark.gpu
def test_the_loss_follows_its_model_to_the_gpu():
    objective, data = model().objective(), batch()
    on_cpu = objective(data)
    objective.to("cuda")
    out = objective(data.to("cuda"))
    assert objective.generator.device.type == "cuda"
    assert all(value.device.type == "cuda" and value.isfinite() for value in out.values())
    assert set(out.keys()) == set(on_cpu.keys())


def test_there_is_no_target_network_to_update():
    objective = model().objective()
    assert not [name for name in objective.state_dict() if name.startswith("target")]
    with pytest.raises(RuntimeError, match="Did not find any target parameters"):
        SoftUpdate(objective, tau=0.1)


def test_it_refuses_a_model_that_is_not_around_an_rssm():
    with pytest.raises(TypeError, match="DreamerV3ModelLoss trains a RSSMWorldModel; Linear is no RSSMWorldModel"):
        DreamerV3ModelLoss(nn.Linear(2, 2))


def test_terms_of_arrivals_are_those_of_the_call():
    made, data = model(), batch()
    objective = unclipped(made, "none")
    out = losses(objective, data)
    arrivals = arrivals_from(data, ["observation", "board"])
    noise = made.noise_source("observe")((B, T + 1), torch.Generator().manual_seed(0))
    terms, info = objective.terms(arrivals, made.initial_state((B,)), noise)
    for term in TERMS:
        torch.testing.assert_close(out[f"loss_{term}"], terms[term])
    torch.testing.assert_close(out["kl"], info["kl"].mean())


def test_the_continue_head_learns_discount_times_not_terminated():
    made = model(horizon=10)
    data = batch(rows=1, time=2)
    data["next", "done"][0] = torch.tensor([[False], [True]])
    data["is_init"][:, 1] = False
    values = []
    for terminated in (False, True):
        data["next", "terminated"][0, 1] = terminated
        out = losses(DreamerV3ModelLoss(made, reduction="none"), data)
        values.append(out["loss_continue"][0])
    assert torch.equal(values[0][:2], values[1][:2]) and values[0][2] != values[1][2]
    logit = torch.linspace(-3, 3, 601)[:, None]
    best = logit[made.continue_head.loss(logit, torch.full((601, 1), 0.9)).argmin()].sigmoid()
    assert best.item() == pytest.approx(0.9, abs=0.01)


def test_compiling_is_refused_with_the_reason():
    with pytest.raises(NotImplementedError, match="Leave out compile=True"):
        model().objective().compile()


def test_the_optimiser_takes_its_numbers_from_the_config_unless_they_are_given():
    objective = model(lr=1e-2, warmup=5, agc=0.1).objective()
    for given, expected in (({}, (1e-2, 5, 0.1)), ({"lr": 0.5, "warmup": 0}, (0.5, 0, 0.1))):
        group = objective.make_optimizer(**given).param_groups[0]
        assert (group["lr"], group["warmup"], group["agc"]) == expected
    group = DreamerV3ModelLoss(model()).make_optimizer().param_groups[0]
    assert (group["lr"], group["warmup"], group["agc"], group["eps"]) == (4e-5, 1000, 0.3, 1e-20)
