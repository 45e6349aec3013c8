"""Laws of returns, estimators and normalisers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.agents.actor_critic import (
    ArrivalReturn,
    BoundedNormalActions,
    CategoricalActions,
    DynamicsGradient,
    FutureReturn,
    MixedGradient,
    NoNormalizer,
    NormalizedDynamicsGradient,
    PercentileNormalizer,
    Reinforce,
    StdNormalizer,
    TanhNormalActions,
    TruncatedNormalActions,
    actor_term,
    replay_targets,
)
from wmcomponents.functional import lambda_return

SEEDS = st.integers(0, 2**31 - 1)
DISTRIBUTIONS = {
    "one choice": CategoricalActions([3]),
    "two choices, mixed": CategoricalActions([2, 4], unimix=0.01),
    "bounded normal": BoundedNormalActions(2),
    "tanh normal": TanhNormalActions(2, init_std=1.0),
    "truncated normal": TruncatedNormalActions(2),
}


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(SEEDS, st.integers(1, 8))
def test_lambda_0_is_one_step_and_lambda_1_all_of_them(seed, steps):
    reward, value = drawn(seed, 2, steps), drawn(seed + 1, 2, steps)
    cont = torch.sigmoid(drawn(seed + 2, 2, steps))
    torch.testing.assert_close(lambda_return(reward, cont, value, 0.0), reward + cont * value)
    following, expected = value[:, -1], []
    for t in reversed(range(steps)):
        following = reward[:, t] + cont[:, t] * following
        expected.append(following)
    torch.testing.assert_close(lambda_return(reward, cont, value, 1.0), torch.stack(expected[::-1], -1))


@given(SEEDS, st.floats(0, 1), st.integers(0, 5))
def test_nothing_behind_an_end_reaches_a_return(seed, lam, end):
    reward, value, cont = drawn(seed, 6), drawn(seed + 1, 6), torch.full((6,), 0.9, dtype=torch.float64)
    cont[end] = 0.0
    before = lambda_return(reward, cont, value, lam)[: end + 1]
    reward[end + 1 :], value[end:] = 1e9, -1e9
    torch.testing.assert_close(lambda_return(reward, cont, value, lam)[: end + 1], before)


@given(SEEDS, st.floats(0, 1))
def test_the_true_values_of_a_world_are_the_returns_whatever_lambda(seed, lam):
    reward, cont = drawn(seed, 5), torch.sigmoid(drawn(seed + 1, 5))
    values = [drawn(seed + 2, ())]
    for t in reversed(range(5)):
        values.append(reward[t] + cont[t] * values[-1])
    values = torch.stack(values[::-1])
    torch.testing.assert_close(lambda_return(reward, cont, values[1:], lam), values[:-1])


@pytest.mark.parametrize("lam", [-0.1, 1.5])
def test_a_lambda_that_is_no_share_is_refused(lam):
    with pytest.raises(ValueError, match="lam is a share"):
        lambda_return(torch.ones(2), torch.ones(2), torch.ones(2), lam)
    with pytest.raises(ValueError, match="lam is a share"):
        FutureReturn(lam)


@given(SEEDS)
def test_both_conventions_agree_where_a_value_is_shifted_by_the_reward_of_arriving(seed):
    reward, value = drawn(seed, 7), drawn(seed + 1, 7)
    cont = torch.sigmoid(drawn(seed + 2, 7))
    # v holds r_t: v_t = r_t + c_t u_t, where u is what DreamerV3 calls a value of s_t, divided by what it discounts by.
    future = FutureReturn(1.0)(reward, cont, value).action_value
    arrival = ArrivalReturn(1.0)(reward, cont, reward + cont * value).action_value
    # a_t earned R_{t+1}, which holds r_{t+1} and all that follows.
    longest = FutureReturn(1.0)(reward, cont, value)
    assert arrival.shape[-1] == future.shape[-1] - 1
    torch.testing.assert_close(arrival, longest.action_value[:-1])


def test_a_start_that_ended_its_episode_teaches_nothing():
    ones, cont = torch.ones(1, 5), torch.ones(1, 5)
    cont[0, 0] = 0.0
    assert not FutureReturn()(ones, cont, ones).action_weight.any()
    weights = ArrivalReturn()(ones, cont, ones).state_weight
    assert weights[0, 0] == 1 and not weights[0, 1:].any()  # its own value is learned, nothing behind it
    assert ArrivalReturn(from_start=False)(ones, cont, ones).action_weight.all()


def test_an_episode_that_was_cut_is_bootstrapped_and_one_that_terminated_is_not():
    reward, imagined = torch.zeros(1, 4), torch.full((1, 4), 10.0)
    ended = torch.tensor([[False, False, True, False]])
    cut = replay_targets(reward, torch.zeros_like(ended), ended, imagined, discount=0.5, lam=1.0)
    over = replay_targets(reward, ended, ended, imagined, discount=0.5, lam=1.0)
    assert cut.state_value.tolist() == [[2.5, 5.0, 5.0]] and over.state_value.tolist() == [[0.0, 0.0, 5.0]]
    assert cut.state_weight.tolist() == [[1.0, 1.0, 0.0]] and cut.action_value.numel() == 0


@given(SEEDS, st.floats(0.1, 50), st.floats(-100, 100))
def test_the_range_of_returns_scales_with_them_and_ignores_where_they_lie(seed, factor, shift):
    returns = 100 * drawn(seed, 64)
    for build in (
        lambda: PercentileNormalizer(rate=1.0, limit=1e-6),
        lambda: StdNormalizer(rate=1.0, limit=1e-6),
    ):
        plain, moved = build().double(), build().double()
        plain.update(returns)
        moved.update(factor * returns + shift)
        torch.testing.assert_close(moved.scale, factor * plain.scale, rtol=1e-3, atol=0)


def test_small_returns_are_not_blown_up_and_statistics_are_saved():
    normalizer = PercentileNormalizer(rate=0.5)
    normalizer.update(torch.linspace(-0.01, 0.01, 10))
    assert normalizer.scale == 1.0
    normalizer.update(torch.linspace(0, 1000, 100))
    other = PercentileNormalizer(rate=0.5)
    other.load_state_dict(normalizer.state_dict())
    assert other.scale == normalizer.scale > 100
    assert torch.equal(NoNormalizer()(torch.tensor([3.0])), torch.tensor([3.0]))


@pytest.mark.parametrize(
    "build", [lambda: PercentileNormalizer(rate=0.0), lambda: PercentileNormalizer(low=0.9, high=0.1)]
)
def test_numbers_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match="rate is a share|quantiles rise"):
        build()


@given(SEEDS)
def test_the_score_functions_gradient_is_that_of_the_expected_return(seed):
    """A bandit of three arms, its expectation written out: every action weighted with its probability."""
    logits, returns = drawn(seed, 3).requires_grad_(), drawn(seed + 1, 3)
    (logits.softmax(-1) * returns).sum().backward()
    expected, logits.grad = logits.grad.clone(), None
    actions, arms = CategoricalActions([3]), torch.eye(3, dtype=torch.float64)
    log_prob = actions.log_prob(logits.expand(3, 3), arms)
    baseline = drawn(seed + 2, ())  # any number leaves the expectation as it is
    scores = Reinforce()(log_prob, returns, returns - baseline)
    (logits.detach().softmax(-1) * scores).sum().backward()
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-7)


@given(SEEDS)
def test_a_gradient_through_the_dream_is_that_of_its_return_and_mixtures_are_sums(seed):
    action = drawn(seed, 4).requires_grad_()
    log_prob, value = drawn(seed + 1, 4), (3 * action).sin()
    advantage = value / 2
    for estimator, weight in (
        (DynamicsGradient(), 1.0),
        (NormalizedDynamicsGradient(), 0.5),
        (MixedGradient(0.25), 0.25),
    ):
        (found,) = torch.autograd.grad(estimator(log_prob, value, advantage).sum(), action, retain_graph=True)
        torch.testing.assert_close(found, weight * 3 * (3 * action).cos())
    assert not Reinforce()(log_prob, value, advantage).requires_grad
    assert Reinforce.needs_dynamics is False and MixedGradient().needs_dynamics
    with pytest.raises(ValueError, match="a share in"):
        MixedGradient(2.0)


@given(SEEDS)
def test_entropy_raises_the_objective_and_the_weight_scales_it(seed):
    reward, cont, value = drawn(seed, 2, 5), torch.sigmoid(drawn(seed + 1, 2, 5)), drawn(seed + 2, 2, 5)
    targets = FutureReturn()(reward, cont, value)
    zeros, ones = torch.zeros(2, 4, dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64)
    found = actor_term(targets, value, zeros, ones, Reinforce(), NoNormalizer(), 0.5)
    torch.testing.assert_close(found, -0.5 * targets.action_weight)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@given(seed=SEEDS)
def test_samples_are_functions_of_noise_and_of_finite_density(name, seed):
    actions = DISTRIBUTIONS[name]
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(5, actions.params, generator=generator).requires_grad_()
    noise = actions.draw((5,), generator)
    action = actions.sample(raw, noise)
    assert torch.equal(action, actions.sample(raw, noise)) and action.requires_grad
    assert action.shape == actions.mode(raw).shape and noise.shape == (5, actions.noise_size)
    log_prob, entropy = actions.log_prob(raw, action.detach()), actions.entropy(raw)
    assert log_prob.shape == entropy.shape == (5,) and log_prob.isfinite().all() and entropy.isfinite().all()
    (log_prob.sum() + entropy.sum() + action.sum()).backward()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize(
    "name", ["one choice", "two choices, mixed", "bounded normal", "truncated normal", "tanh normal"]
)
def test_entropy_is_the_mean_of_the_negative_log_probability(name):
    actions = DISTRIBUTIONS[name]
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(actions.params, generator=generator).double().expand(40_000, -1)
    action = actions.sample(raw, actions.draw((40_000,), generator).double())
    surprise = -actions.log_prob(raw, action)
    spread = float(surprise.std()) / 200 + 1e-4
    assert abs(float(surprise.mean() - actions.entropy(raw)[0])) < 4 * spread


def test_a_squashed_normal_gains_no_entropy_from_a_spread_that_drives_it_to_both_ends():
    actions = DISTRIBUTIONS["tanh normal"]
    raw = torch.zeros(actions.params)
    raw[actions.size :] = torch.linspace(5.0, 20.0, actions.params - actions.size)
    raw.requires_grad_()
    entropy = actions.entropy(raw)
    (slope,) = torch.autograd.grad(entropy, raw)
    assert entropy < actions.size * torch.tensor(2.0).log() and (slope[actions.size :] < 0).all()
    spreads = -4.85 + torch.linspace(0.0, 1.5, 60)  # the widest entropy lies among these: nearly uniform
    near = torch.stack([torch.zeros(60), spreads], -1)
    assert type(actions)(1).entropy(near).max().item() == pytest.approx(0.6931, abs=0.02)
