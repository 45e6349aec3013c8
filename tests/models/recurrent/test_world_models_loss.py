"""The losses of World Models on transitions: which stage trains what, and what counts."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Composite, OneHot, Unbounded

from tests.support import corridor
from wmcomponents.models import (
    DreamerV3,
    DreamerV3Config,
    WorldModels,
    WorldModelsConfig,
    WorldModelsLoss,
    WorldModelsLossConfig,
)
from wmcomponents.objectives.arrivals import arrivals_from

SIZES = {"latent": 4, "hidden": 8, "units": 8, "components": 2}


def build(**changes):
    spec = Composite(observation=Unbounded(corridor.CELLS))
    return WorldModels(WorldModelsConfig.tiny(**{**SIZES, "standardize": False, **changes}), spec, OneHot(2))


def batch(rows=3, steps=10):
    return torch.stack([corridor.transitions(steps, seed) for seed in range(rows)])


def in_stage(stage, model=None, reduction="mean", **changes):
    model = build() if model is None else model
    config = WorldModelsLossConfig(**{"vision_steps": 5, **changes})
    loss = WorldModelsLoss(model, config, reduction=reduction)
    loss.stage = stage
    return loss


@pytest.mark.parametrize(
    ("stage", "parts"), [("vision", {"encoder", "decoder"}), ("memory", {"memory", "reward_head", "termination_head"})]
)
def test_a_stage_gives_gradients_to_its_own_parts_and_to_all_of_them(stage, parts):
    model = build()
    loss = in_stage(stage, model)
    out = loss(batch())
    sum(value for key, value in out.items() if key.startswith("loss_")).backward()
    reached = {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == parts
    assert all(p.grad is None for name, p in model.named_parameters() if name.split(".")[0] not in parts)
    assert set(out.keys()) == set(loss.out_keys)


def test_the_stage_follows_from_the_step_alone():
    loss = WorldModelsLoss(build(), WorldModelsLossConfig(vision_steps=5))
    assert loss.stage == "vision" and loss.out_keys[0] == "loss_reconstruction"
    loss.before_update(4)
    assert loss.stage == "vision"
    loss.before_update(5)
    assert loss.stage == "memory" and loss.out_keys[0] == "loss_mixture"
    assert WorldModelsLoss(build(), WorldModelsLossConfig(vision_steps=0)).stage == "memory"


def test_in_the_iterative_procedure_v_s_turn_comes_again():
    loss = build(vision_steps=2, cycle_steps=5).objective()
    assert "".join(loss.stage_at(step)[0] for step in range(12)) == "vvmmmvvmmmvv"


@pytest.mark.parametrize("stages", [{"vision_steps": -1}, {"vision_steps": 5, "cycle_steps": 5}])
def test_stages_that_leave_no_turn_are_refused(stages):
    with pytest.raises(ValueError, match="so that M has a turn"):
        WorldModelsLoss(build(), WorldModelsLossConfig(**stages))


def test_an_unknown_stage_and_a_model_of_other_parts_are_refused():
    with pytest.raises(ValueError, match="'vision' and 'memory'"):
        in_stage("control")
    other = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
    with pytest.raises(TypeError, match="trains a VisionMemoryModel; DreamerV3 has no inputs, memory, .*own objective"):
        WorldModelsLoss(other)


def test_the_kl_is_free_up_to_its_tolerance_for_the_whole_vector():
    model = build()
    for layer in (model.encoder.mu, model.encoder.logvar):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    loss = in_stage("vision", model, kl_tolerance=0.5)
    out = loss(batch())
    assert out["kl"].item() == pytest.approx(0.0) and out["loss_kl"].item() == pytest.approx(0.5 * 4)
    torch.nn.init.constant_(model.encoder.mu.bias, 2.0)
    out = loss(batch())
    assert out["kl"].item() == out["loss_kl"].item() == pytest.approx(0.5 * 4 * 2.0**2)


def test_reconstruction_is_a_summed_squared_error_of_a_drawn_z_and_its_scale_multiplies_it():
    model = build()
    data = batch()
    arrivals = arrivals_from(data, ["observation"])
    noise = torch.randn(3, 11, 4)
    losses, info = in_stage("vision", model, reconstruction_scale=7.0).vision_terms(arrivals, noise)
    mu, logvar = model.encoder.encode(arrivals.observation)
    shown = model.decoder.raw(mu + (0.5 * logvar).exp() * noise)["observation"]
    expected = (shown - arrivals.observation["observation"]).square().sum(-1)
    torch.testing.assert_close(losses["reconstruction"], 7.0 * expected)
    torch.testing.assert_close(info["error_observation"], expected)


def test_m_predicts_what_the_dream_will_show():
    # Along one episode the elements are those of the dream's own steps.
    model = build(begins=True)
    arrivals = arrivals_from(batch(), ["observation"])
    noise = torch.zeros(3, 11, 4)
    losses, _ = in_stage("memory", model, termination_weight=3.0).memory_terms(arrivals, noise)
    z = model.encoder.encode(arrivals.observation)[0]
    state = {**model.initial_state((3,)), "z": z[:, 0], "first": arrivals.is_init[:, 0].float()}
    for t in range(10):
        step = model.imagine(state, arrivals.action[:, t + 1], None)
        h, begins = step.state["h"], arrivals.is_init[:, t + 1]
        inside = ~begins.squeeze(-1)
        nll = -model.memory.mixture.log_prob(model.memory.raw(h), z[:, t + 1]) / 4
        pay = (step.reward - arrivals.reward[:, t + 1]).square().squeeze(-1)
        end = arrivals.terminated[:, t + 1].float()
        surprise = -(end * 3.0 * (1 - step.cont).log() + (1 - end) * step.cont.log()).squeeze(-1)
        for name, expected in (("mixture", nll), ("reward", pay), ("termination", surprise)):
            torch.testing.assert_close(losses[name][inside, t], expected[inside], rtol=1e-4, atol=1e-6)
        state = model.observe(
            state,
            arrivals.action[:, t + 1],
            {"observation": arrivals.observation["observation"][:, t + 1]},
            begins,
            None,
        )


def test_beginnings_of_episodes_are_predicted_from_nothing_and_do_not_count():
    data = batch(rows=8, steps=30)
    loss = in_stage("memory", reduction="none")
    arrivals = arrivals_from(data, ["observation"])
    begun = arrivals.is_init[:, 1:].squeeze(-1)
    assert begun.any()
    out = loss(data)
    for key in ("loss_mixture", "loss_reward", "loss_termination"):
        assert torch.equal(out[key][begun], torch.zeros_like(out[key][begun])) and (out[key][~begun] != 0).all()


def test_the_mean_is_over_predictions():
    data = batch(rows=8, steps=30)
    loss = in_stage("memory")
    loss.generator.manual_seed(3)
    mean = loss(data)["loss_mixture"]
    loss.reduction = "none"
    loss.generator.manual_seed(3)
    each = loss(data)["loss_mixture"]
    torch.testing.assert_close(mean, each.sum() / (each != 0).sum())


def test_z_is_drawn_anew_in_every_batch_and_repeats_with_the_generator():
    loss, data = in_stage("memory"), batch()
    one, other = loss(data)["loss_mixture"], loss(data)["loss_mixture"]
    assert not torch.equal(one, other)
    loss.generator.manual_seed(5)
    one = loss(data)["loss_mixture"]
    loss.generator.manual_seed(5)
    assert torch.equal(one, loss(data)["loss_mixture"])


@pytest.mark.parametrize("stage", ["vision", "memory"])
def test_what_stands_in_padding_reaches_no_loss(stage):
    data = batch()
    mask = torch.ones(3, 10, dtype=torch.bool)
    mask[1, 6:] = False
    data["collector", "mask"] = mask
    spoilt = data.clone()
    spoilt["observation"][~mask] = float("nan")
    spoilt["next", "observation"][~mask] = float("inf")
    spoilt["next", "reward"][~mask] = float("nan")
    loss, results = in_stage(stage), []
    for each in (data, spoilt):
        loss.generator.manual_seed(1)
        results.append(loss(each))
    for key, value in results[0].items():
        assert value.isfinite().all()
        torch.testing.assert_close(value, results[1][key], msg=key)


def test_the_optimiser_has_a_rate_for_each_stage_and_clips_the_memory_s_gradients_alone():
    model = build(vision_rate=0.1)
    optimizer = model.objective().make_optimizer()
    vision, memory = optimizer.param_groups
    assert (vision["lr"], memory["lr"], memory["max_value"]) == (pytest.approx(1e-4), 1e-3, 1.0)
    assert "max_value" not in vision
    own = {id(p) for name, p in model.named_parameters() if name.startswith(("encoder", "decoder"))}
    assert {id(p) for p in vision["params"]} == own
    assert len(vision["params"]) + len(memory["params"]) == len(list(model.parameters()))
    assert [group["lr"] for group in model.objective().make_optimizer(lr=1e-2).param_groups] == [1e-3, 1e-2]


def test_the_losses_of_a_variant_are_scaled_as_in_its_own_code():
    original, port = build().objective(), build(mixture="vector").objective()
    assert original.mixture_scale.item() == 0.25 and original.termination_scale.item() == 1.0
    for scale in (port.mixture_scale, port.reward_scale, port.termination_scale):
        assert scale.item() == pytest.approx(1 / 6)


def test_sequences_without_a_time_dimension_are_refused():
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        in_stage("vision")(TensorDict(batch_size=[3]))
