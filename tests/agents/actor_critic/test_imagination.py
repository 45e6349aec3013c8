"""Actor-critics that learn in dreams of small worlds."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, OneHot
from torchrl.envs.utils import ExplorationType, set_exploration_type

from tests.support.line_world import Walk
from wmcomponents import CapabilityError
from wmcomponents.agents.actor_critic import (
    Actor,
    CategoricalActions,
    DynamicsGradient,
    ImaginationLoss,
    TanhNormalActions,
    dreamer_v1_loss,
    dreamer_v2_loss,
    dreamer_v3_loss,
    dreamer_v3_preprint_loss,
    storm_loss,
)
from wmcomponents.heads import TwoHotHead

NUMBER, CHOICE = Bounded(-2.0, 2.0, (1,)), OneHot(3)
PAPERS = {
    "dreamer-v1": dreamer_v1_loss,
    "dreamer-v2": dreamer_v2_loss,
    "dreamer-v3-preprint": dreamer_v3_preprint_loss,
    "dreamer-v3": dreamer_v3_loss,
    "storm": storm_loss,
}


def starts(rows=16):
    return TensorDict({"place": torch.randn(rows, 1, generator=torch.Generator().manual_seed(0))}, [rows])


def train(loss, updates, lr=3e-3):
    optimizer = loss.make_optimizer(lr=lr, warmup=1)
    for step in range(updates):
        found = loss(starts())
        optimizer.zero_grad()
        (found["loss_actor"] + found["loss_critic"]).backward()
        optimizer.step()
        loss.after_update(step)
    return found


@pytest.mark.parametrize("action", [NUMBER, CHOICE], ids=["numbers", "choices"])
@pytest.mark.parametrize("paper", PAPERS)
def test_every_papers_actor_critic_learns_what_pays(paper, action):
    torch.manual_seed(0)
    model = Walk(action)
    loss = PAPERS[paper](model, units=32, horizon=6)
    before = float(loss(starts())["return"])
    # STORM's critic learns from returns that lean on what it says itself.
    found = train(loss, 160 if paper == "storm" and action is NUMBER else 80, lr=3e-3)
    assert all(value.isfinite().all() for value in found.values())
    with set_exploration_type(ExplorationType.MODE):
        acted = loss.actor(TensorDict({"latent": model.features({"place": torch.zeros(1, 1)})}, [1]))["action"]
    if action is CHOICE:
        assert acted.int().argmax(-1) == 0
    else:
        assert abs(float(acted.detach()) - 1.0) < 0.4
    assert float(found["return"]) > before
    assert model.gain.grad is None  # the world is dreamt in, not taught


@pytest.mark.parametrize("paper", PAPERS)
def test_a_dream_is_repeated_by_its_generator_and_leaves_its_input(paper):
    loss = PAPERS[paper](Walk(NUMBER), units=8, horizon=3)
    given = starts()
    kept = given.clone()
    first = loss(given)
    assert (given == kept).all() and set(given.keys()) == set(kept.keys())
    loss.generator.manual_seed(0)
    fresh = PAPERS[paper](Walk(NUMBER), units=8, horizon=3)
    fresh.load_state_dict(loss.state_dict())
    loss.generator.manual_seed(3), fresh.generator.manual_seed(3)
    for key, value in loss(given).items():
        torch.testing.assert_close(value, fresh(given)[key]) if key == "loss_actor" else None
    assert first["imagined_return"].shape == (16, 1)


def test_starts_of_any_batch_and_what_is_known_of_them_is_read():
    loss = dreamer_v3_loss(Walk(CHOICE), units=8, horizon=4)
    flat = starts(12)
    flat["terminated"] = torch.ones(12, 1, dtype=torch.bool)
    found = loss(flat)
    assert found["loss_actor"] == 0 and found["loss_critic"] == 0 and found["dream_length"] == 0
    squares = starts(12).reshape(3, 4)
    assert loss(squares)["imagined_return"].shape == (3, 4, 1)


def test_the_gradient_of_the_score_function_is_that_through_the_dream_on_average():
    """One step, a linear policy with a known spread: both estimate the same derivative of the expected return."""
    torch.manual_seed(0)
    model, rows = Walk(NUMBER), 10_000
    same = TensorDict({"place": torch.full((rows, 1), 0.3)}, [rows])
    found = {}
    for build in (dreamer_v1_loss, dreamer_v2_loss):
        loss = build(model, units=4, horizon=2)
        torch.manual_seed(1)
        distribution = TanhNormalActions(1, init_std=0.5)
        actor = Actor(2, NUMBER, distribution=distribution, units=4, layers=1, outscale=1.0, norm="none", act="elu")
        for name, estimator in (("score", None), ("dream", DynamicsGradient())):
            critic = TwoHotHead(2, 8, in_keys=("latent",))  # begins at zero everywhere
            options = {"targets": loss.targets, "normalizer": loss.normalizer, "entropy_scale": 0.0, "horizon": 2}
            whole = ImaginationLoss(model, actor, critic, estimator=estimator, seed=5, **options)
            grads = torch.autograd.grad(whole(same)["loss_actor"], list(actor.out.parameters()))
            found[name] = torch.cat([grad.flatten() for grad in grads])
        assert torch.nn.functional.cosine_similarity(found["score"], found["dream"], dim=0) > 0.95
        torch.testing.assert_close(found["score"], found["dream"], rtol=0.35, atol=0.03)


def test_the_slow_critic_follows_and_is_saved_with_the_rest():
    loss = dreamer_v3_loss(Walk(CHOICE), units=8, horizon=3)
    train(loss, 3)
    own, slow = loss.critic.out.weight, loss.slow_critic.out.weight
    assert not torch.equal(own, slow) and slow.any() and not slow.requires_grad
    loss.reset_slow_critic()
    assert torch.equal(own, slow)
    names = set(loss.state_dict())
    assert {"normalizer.first", "slow_critic.out.weight", "actor.out.weight"} <= names
    assert not any("gain" in name for name in names)  # the world model is no part of it


@pytest.mark.parametrize("lacking", ["features", "reward"])
def test_a_model_without_what_it_takes_is_refused_with_what_is_missing(lacking):
    model = Walk(CHOICE, **{lacking: False})
    with pytest.raises(CapabilityError, match=lacking):
        dreamer_v3_loss(model, units=8)


def test_no_gradient_is_promised_through_an_index():
    with pytest.raises(ValueError, match="no gradient passes through the index"):
        dreamer_v1_loss(Walk(Categorical(3, shape=())), units=8)
    assert dreamer_v3_loss(Walk(Categorical(3, shape=())), units=8, horizon=2)(starts())["loss_actor"].isfinite()


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a vector of 1 numbers, and the distribution is over 3"):
        Actor(2, NUMBER, distribution=CategoricalActions([3]))
    with pytest.raises(ValueError, match="a slow critic follows by follow"):
        dreamer_v3_loss(Walk(CHOICE), units=8, follow=None)
    with pytest.raises(ValueError, match="horizon"):
        dreamer_v3_loss(Walk(CHOICE), units=8, horizon=1)
    with pytest.raises(KeyError, match="dreams begin in states of the model"):
        dreamer_v3_loss(Walk(CHOICE), units=8)(TensorDict({"other": torch.zeros(3, 1)}, [3]))


def test_an_actor_follows_torchrls_exploration_and_given_noise():
    torch.manual_seed(0)
    actor = Actor(2, NUMBER, units=8)
    latent = torch.zeros(4, 2)
    with set_exploration_type(ExplorationType.MODE):
        assert torch.equal(actor(latent=latent)[0], actor(latent=latent)[0])
    with set_exploration_type(ExplorationType.RANDOM):
        assert not torch.equal(actor(latent=latent)[0], actor(latent=latent)[0])
    td = TensorDict({"latent": latent, "noise": {"action": torch.full((4, 1), 9.0)}}, [4])
    assert torch.equal(actor(td)["action"], torch.full((4, 1), 2.0))  # clipped where the environment clips
