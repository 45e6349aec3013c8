"""PlaNet's and Dreamer V1's losses: values worked out one element at a time, gradients, padding, optimisers."""

import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.models import (
    DreamerV1,
    DreamerV1Config,
    DreamerV1LossConfig,
    DreamerV1ModelLoss,
    Filtered,
    PlaNet,
    PlaNetConfig,
    PlaNetLossConfig,
    PlaNetModelLoss,
)
from wmcomponents.objectives.arrivals import arrivals_from
from wmcomponents.optim import ClippedAdam

B, T = 3, 6
SPEC = Composite(
    observation=Unbounded(4),
    board=Bounded(0, 1, (4, 4, 2), dtype=torch.bool),
    camera=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8),
)
SIZES = {"deter": 16, "hidden": 8, "stoch": 4, "units": 8, "depth": 2, "mults": (1, 2), "layers": 1}


def dreamer_v1(**changes):
    torch.manual_seed(0)
    return DreamerV1(DreamerV1Config.tiny(**{**SIZES, "free_nats": 0.0, **changes}), SPEC, OneHot(2))


def planet(**changes):
    torch.manual_seed(0)
    return PlaNet(PlaNetConfig.tiny(**{**SIZES, "free_nats": 0.0, **changes}), SPEC, OneHot(2))


MODELS = {"dreamer-v1": dreamer_v1, "planet": planet, "overshooting": lambda: planet(overshooting=4)}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def observed(rows=B, time=T, generator=None):
    return {
        "observation": torch.randn(rows, time, 4, generator=generator),
        "board": torch.randint(2, (rows, time, 4, 4, 2), generator=generator).bool(),
        "camera": torch.randint(256, (rows, time, 16, 16, 3), generator=generator, dtype=torch.uint8),
    }


def batch(seed=0, rows=B, time=T):
    generator = torch.Generator().manual_seed(seed)
    done = torch.rand(rows, time, 1, generator=generator) < 0.2
    is_init = torch.cat([torch.rand(rows, 1, 1, generator=generator) < 0.5, done[:, :-1]], 1)
    terminated = done & (torch.rand(rows, time, 1, generator=generator) < 0.5)
    following = {"reward": torch.randn(rows, time, 1, generator=generator), "terminated": terminated, "done": done}
    action = torch.eye(2, dtype=torch.int64)[torch.randint(2, (rows, time), generator=generator)]
    now = {**observed(rows, time, generator), "action": action, "is_init": is_init}
    return TensorDict({**now, "next": {**observed(rows, time, generator), **following}}, [rows, time])


def losses(objective, data, seed=0):
    objective.generator.manual_seed(seed)
    return objective(data)


@every_model
def test_what_is_written_is_what_is_declared_and_only_losses_carry_gradients(build):
    objective = build().objective()
    out = objective(batch())
    assert set(out.keys()) == set(objective.out_keys)
    assert all(value.requires_grad == key.startswith("loss_") for key, value in out.items())


@every_model
def test_the_sum_of_the_losses_reaches_every_parameter(build):
    model = build()
    objective = model.objective()
    out = objective(batch(rows=8))
    sum(value for key, value in out.items() if key.startswith("loss_")).backward()
    unreached = [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unreached


@every_model
def test_seeded_calls_agree_and_others_differ(build):
    objective, data = build().objective(), batch()
    one, same, other = losses(objective, data), losses(objective, data), losses(objective, data, seed=1)
    assert all(torch.equal(one[key], same[key]) for key in one.keys())
    assert not torch.equal(one["loss_reconstruction"], other["loss_reconstruction"])


@every_model
def test_a_masked_tail_equals_the_sequence_cut_off_whatever_it_holds(build):
    # Without noise, which would be drawn in another order for a shorter sequence.
    objective = build().objective()
    data = batch(time=8)
    data["is_init"][:, 1:], data["next", "done"][:], data["next", "terminated"][:] = False, False, False
    short = data[:, :5].clone()
    mask = torch.ones(B, 8, dtype=torch.bool)
    mask[:, 5:] = False
    data["collector", "mask"] = mask
    data["observation"][:, 5:] = torch.nan
    data["next", "reward"][:, 5:] = torch.nan
    whole, cut = (quiet(objective, td) for td in (data, short))
    for key in cut:
        torch.testing.assert_close(whole[key], cut[key], msg=lambda text, key=key: f"{key}: {text}")


def quiet(objective, data):
    """The weighted means of all losses without noise."""
    arrivals = arrivals_from(data, objective.observation_keys)
    state = objective.world_model.initial_state(data.shape[:1])
    with objective.world_model_params.to_module(objective.world_model):
        found, _ = objective.terms(arrivals, state, None)
    total = arrivals.weight.sum()
    return {
        key: torch.where(arrivals.weight > 0, value, torch.zeros_like(value)).sum() / total
        for key, value in found.items()
    }


@every_model
def test_reconstruction_and_reward_are_negative_log_densities(build):
    model = build()
    objective, data = model.objective(), batch()
    arrivals = arrivals_from(data, objective.observation_keys)
    state = model.initial_state((B,))
    found, info = objective.terms(arrivals, state, None)
    seen = model.preprocessed(arrivals.observation)
    states = model.observe_sequence(state, arrivals.action, arrivals.observation, arrivals.is_init, None)
    raw = model.decoder.raw(states["deter"], states["stoch"])

    def density(mean, value, dims):
        log = torch.distributions.Normal(mean, 1.0).log_prob(value)
        return -log.flatten(-dims).sum(-1)

    torch.testing.assert_close(
        info["error_observation"], density(raw["observation"], arrivals.observation["observation"], 1)
    )
    torch.testing.assert_close(
        info["error_camera"], density(raw["camera"], seen["camera"] / 255.0 - 0.5, 3), rtol=1e-5, atol=1e-2
    )
    reward = model.reward_head.mean(model.reward_head.raw(model.features(states)))
    expected = density(reward, arrivals.reward, 1) * arrivals.reward_known.squeeze(-1)
    torch.testing.assert_close(found["reward"], objective.reward_scale * expected)


def test_v1_clips_the_mean_of_the_divergence_not_each_element():
    model, data = dreamer_v1(), batch()
    free = quiet(DreamerV1ModelLoss(model, DreamerV1LossConfig(free_nats=0.0)), data)["divergence"].item()
    low, high = 0.5 * free, 2.0 * free
    scaled = DreamerV1ModelLoss(model, DreamerV1LossConfig(free_nats=low, kl_scale=3.0))
    assert quiet(scaled, data)["divergence"].item() == pytest.approx(3.0 * free, rel=1e-5)
    clipped = quiet(DreamerV1ModelLoss(model, DreamerV1LossConfig(free_nats=high)), data)["divergence"]
    assert clipped.item() == pytest.approx(high, rel=1e-5)
    clipped.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_planet_subtracts_free_nats_from_each_element():
    model, data = planet(), batch()
    arrivals = arrivals_from(data, ["observation", "board", "camera"])
    state = model.initial_state((B,))

    def divergence(**config):
        return PlaNetModelLoss(model, PlaNetLossConfig(**config)).terms(arrivals, state, None)[0]["divergence"]

    free = divergence(free_nats=0.0)
    nats = free.median().item()
    found = divergence(free_nats=nats, kl_scale=2.0)
    torch.testing.assert_close(found, 2.0 * (free - nats).clamp(min=0.0))
    assert found.eq(0).any() and found.gt(0).any()


def made_up(model, length=7, rows=2):
    """Made-up posteriors and priors, one episode beginning in the middle, one row padded at its end."""
    latent = model.dynamics.latent
    arrivals = arrivals_from(batch(rows=rows, time=length - 1), ["observation"])
    arrivals.is_init = torch.zeros(rows, length, 1, dtype=torch.bool)
    arrivals.is_init[0, 3] = True
    arrivals.weight = torch.ones(rows, length)
    arrivals.weight[1, 5:] = 0.0
    filtered = Filtered(
        torch.randn(rows, length, 16).tanh().requires_grad_(),
        torch.randn(rows, length, *latent.shape).requires_grad_(),
        torch.randn(rows, length, latent.params).requires_grad_(),
        torch.randn(rows, length, 2),
    )
    return filtered, torch.randn(rows, length, latent.params).requires_grad_(), arrivals


@pytest.mark.parametrize("distance", [2, 4, 20])
@pytest.mark.parametrize("with_noise", [True, False])
def test_overshooting_is_the_mean_over_every_start_and_distance(distance, with_noise):
    model = planet()
    objective = PlaNetModelLoss(model, PlaNetLossConfig(0.4, overshooting=distance, overshooting_scale=3.0))
    noise = {"overshooting": torch.randn(2, 7, distance, 4)} if with_noise else None
    given, prior, arrivals = made_up(model)
    term = objective.divergences(given, prior, arrivals, noise)["overshooting"]
    actual = (term * arrivals.weight).sum() / arrivals.weight.sum()
    found = []
    for row in range(2):
        for start in range(7):
            deter, stoch = given.deter[row, start], given.stoch[row, start]
            for steps in range(1, distance + 1):
                arrival = start + steps
                if arrival >= 7 or arrivals.is_init[row, arrival] or not arrivals.weight[row, arrival]:
                    break
                drawn = None if noise is None else noise["overshooting"][row, arrival, steps - 1]
                deter, stoch, ahead = model.dynamics.imagine_step(deter, stoch, given.action[row, arrival], drawn)
                if steps > 1:
                    kl = model.dynamics.latent.kl(given.posterior[row, arrival], ahead)
                    found.append((kl - 0.4).clamp(min=0.0))
    torch.testing.assert_close(actual, 3.0 * torch.stack(found).mean())


def test_overshooting_trains_the_prior_and_the_starts_but_not_what_it_is_compared_with():
    model = planet()
    objective = PlaNetModelLoss(model, PlaNetLossConfig(free_nats=0.0, overshooting=3))
    given, prior, arrivals = made_up(model)
    objective.divergences(given, prior, arrivals, None)["overshooting"].sum().backward()
    assert given.posterior.grad is None and prior.grad is None
    assert given.deter.grad.any() and given.stoch.grad.any()
    assert all(p.grad.any() for p in model.dynamics.prior.parameters())


@pytest.mark.parametrize("distance", [0, 1])
def test_a_distance_of_one_step_is_the_divergence_itself(distance):
    objective = PlaNetModelLoss(planet(), PlaNetLossConfig(overshooting=distance))
    assert set(objective.divergences(*made_up(planet()), None)) == {"divergence"}
    assert "loss_overshooting" not in objective.out_keys


def test_a_negative_distance_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        PlaNetModelLoss(planet(), PlaNetLossConfig(overshooting=-1))


def test_a_sequence_shorter_than_the_distance_is_fine():
    out = PlaNetModelLoss(planet(), PlaNetLossConfig(overshooting=50))(batch(time=2))
    assert all(value.isfinite() for value in out.values())


def test_images_are_trained_on_with_noise_between_their_levels():
    model = planet()
    objective, data = model.objective(), batch()
    arrivals = arrivals_from(data, objective.observation_keys)
    noise = objective.draw(arrivals)
    assert set(noise) == {"stoch", "camera"} and noise["camera"].shape == (B, T + 1, 16, 16, 3)
    assert 0.0 <= noise["camera"].min() and noise["camera"].max() < 1.0
    state = model.initial_state((B,))
    one, _ = objective.terms(arrivals, state, noise)
    other, _ = objective.terms(arrivals, state, {**noise, "camera": torch.zeros_like(noise["camera"])})
    assert not torch.equal(one["reconstruction"], other["reconstruction"])


@pytest.mark.parametrize(
    "build,lr,eps,norm", [(dreamer_v1, 6e-4, 1e-7, 100.0), (planet, 1e-3, 1e-4, 1000.0)], ids=["dreamer-v1", "planet"]
)
def test_the_optimiser_is_the_papers_adam(build, lr, eps, norm):
    optimizer = build().objective().make_optimizer()
    assert isinstance(optimizer, ClippedAdam)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["eps"], optimizer.max_norm) == (lr, eps, norm)
    assert build().objective().make_optimizer(lr=1e-2).param_groups[0]["lr"] == 1e-2


@every_model
def test_a_few_steps_on_one_batch_lower_its_loss(build):
    objective, data = build().objective(), batch()
    optimizer = objective.make_optimizer(lr=3e-3)
    values = []
    for _ in range(40):
        out = losses(objective, data)
        total = sum(value for key, value in out.items() if key.startswith("loss_"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        # Without what no prediction can take away: the entropies of the unit normals, which are most of it.
        values.append(total.item() - 0.5 * math.log(2.0 * math.pi) * (16 * 16 * 3 + 4))
    assert values[-1] < 0.95 * values[0] and math.isfinite(values[-1])


def test_a_model_that_is_not_around_an_rssm_is_refused():
    for kind in (DreamerV1ModelLoss, PlaNetModelLoss):
        with pytest.raises(TypeError, match="Loss trains a RSSMWorldModel; Linear is no RSSMWorldModel"):
            kind(nn.Linear(2, 2))
