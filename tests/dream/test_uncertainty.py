"""What a dream does where its model does not know, by the same argument in every adapter and in ``imagine``."""

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded
from torchrl.envs.utils import check_env_specs

from tests.support.drive import actions, some_states
from wmcomponents.dream import (
    Bonus,
    Disagreement,
    Exploration,
    FixedStarts,
    Halt,
    Penalty,
    PredictedSpread,
    Simulator,
    Uncertainty,
    draw_noise,
    imagine,
)
from wmcomponents.functional import max_pairwise_distance
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.torchrl import TorchRLDreamEnv, TorchRLStatelessDreamEnv
from wmcomponents.models import Ensemble
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError

SPECS = Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,))
ROWS, STEPS = 4, 3
EVERYWHERE = [DreamEnv, DreamVectorEnv, DreamVecEnv, TorchRLDreamEnv, TorchRLStatelessDreamEnv, Simulator]


def ensemble(**options):
    members = [ToyWorldModel(*SPECS, noise="normal", seed=k, **options) for k in range(3)]
    return Ensemble(members, "TSinf").requires_grad_(False)


def known(uncertainty, steps=STEPS):
    """A dream of fixed starts, noise and actions, and what every adapter is to tell of it."""
    model = ensemble()
    starts, acts = some_states(model, ROWS), [actions(model, ROWS, seed=step) for step in range(steps)]
    options = {
        "starts": FixedStarts(starts),
        "noise": draw_noise(model, steps, ROWS, torch.Generator().manual_seed(0)),
        "termination": "off",
        "uncertainty": uncertainty,
    }
    return model, acts, options


def by_hand(model, acts, options):
    """Uncertainty and reward of every step, ``[T, N]``."""
    state, told, paid = options["starts"].sample(ROWS, torch.Generator()), [], []
    for t, action in enumerate(acts):
        mean = model.predict_members(state, action).mean
        state, reward, _ = model.imagine(state, action, {key: value[t] for key, value in options["noise"].z.items()})
        told.append(mean.var(1, correction=0).mean(-1)), paid.append(reward[:, 0])
    return torch.stack(told), torch.stack(paid)


def gymnasium_vector(model, acts, options):
    env = DreamVectorEnv(model, ROWS, **options)
    env.reset(seed=0)
    steps = [env.step(action.numpy()) for action in acts]
    assert all(infos["_uncertainty"].all() and infos["uncertainty"].dtype == np.float32 for *_, infos in steps)
    return [infos["uncertainty"] for *_, infos in steps], [step[1] for step in steps]


def gymnasium_single(model, acts, options):
    told, paid = [], []
    for row in range(ROWS):
        z = {key: value[:, row : row + 1] for key, value in options["noise"].z.items()}
        starts = {key: value[row : row + 1] for key, value in options["starts"].sample(ROWS, torch.Generator()).items()}
        env = DreamEnv(
            model, **{**options, "noise": options["noise"]._replace(z=z, end=None), "starts": FixedStarts(starts)}
        )
        env.reset(seed=0)
        steps = [env.step(action[row].numpy()) for action in acts]
        told.append([step[4]["uncertainty"] for step in steps]), paid.append([step[1] for step in steps])
    return np.array(told).T, np.array(paid).T


def stable_baselines(model, acts, options):
    env = VecMonitor(DreamVecEnv(model, ROWS, horizon=100, **options))
    env.reset()
    steps = [env.step(action.numpy()) for action in acts]
    return [[info["uncertainty"] for info in infos] for *_, infos in steps], [step[1] for step in steps]


def torchrl(form):
    def played(model, acts, options):
        env = (
            TorchRLDreamEnv(model, [ROWS], **options)
            if form == "stateful"
            else TorchRLStatelessDreamEnv(model, **options)
        )
        shown = env.reset(TensorDict({}, [ROWS])) if form == "stateless" else env.reset()
        assert not shown["uncertainty"].any()
        told, paid = [], []
        for action in acts:
            shown = env.step(shown.set("action", action))["next"]
            told.append(shown["uncertainty"][:, 0]), paid.append(shown["reward"][:, 0])
        return torch.stack(told), torch.stack(paid)

    return played


def imagined(model, acts, options):
    pending = iter(acts)
    start = options["starts"].sample(ROWS, torch.Generator())
    out = imagine(
        model, lambda s: next(pending), start, len(acts), noise=options["noise"].z, uncertainty=options["uncertainty"]
    )
    return out["next", "uncertainty"][..., 0].T, out["next", "reward"][..., 0].T


DRIVERS = {
    "gymnasium": gymnasium_single,
    "gymnasium-vector": gymnasium_vector,
    "sb3": stable_baselines,
    "torchrl-stateful": torchrl("stateful"),
    "torchrl-stateless": torchrl("stateless"),
    "imagine": imagined,
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, lambda r, u: r),
        (Penalty(2.0), lambda r, u: r - 2 * u),
        (Bonus(0.5), lambda r, u: r + 0.5 * u),
        (Exploration(3.0), lambda r, u: 3 * u),
    ],
    ids=["told", "penalty", "bonus", "exploration"],
)
def test_every_driver_tells_the_disagreement_and_pays_by_it(driver, rule, expected):
    uncertainty = Uncertainty(reward=rule)
    model, acts, options = known(uncertainty)
    told, paid = (
        torch.as_tensor(np.asarray(found), dtype=torch.float32) for found in DRIVERS[driver](model, acts, options)
    )
    unknown, reward = by_hand(model, acts, options)
    torch.testing.assert_close(told, unknown, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(paid, expected(reward, unknown), rtol=1e-4, atol=1e-5)


def halting(fraction=0.5):
    """A threshold that some of the first steps are above, and some below."""
    model, acts, options = known(Uncertainty(), 1)
    unknown, reward = by_hand(model, acts, options)
    threshold = float(unknown.quantile(fraction))
    return model, acts, options, Halt(threshold, -50.0), unknown[0] > threshold, reward[0]


def test_a_dream_ends_with_its_penalty_where_the_model_does_not_know():
    model, acts, options, halt, above, reward = halting()
    uncertainty = Uncertainty(reward=Penalty(100.0), halt=halt)
    expected = by_hand(model, acts, options)
    simulator = Simulator(model, batch_size=ROWS, **{**options, "uncertainty": uncertainty})
    simulator.reset()
    step = simulator.step(acts[0])
    assert 0 < above.sum() < ROWS
    assert torch.equal(step.terminated[:, 0], above) and not step.truncated.any()
    assert torch.equal(simulator.done, step.terminated) and not simulator.all_running
    paid = torch.where(above, torch.tensor(-50.0), reward - 100 * expected[0][0])
    torch.testing.assert_close(step.reward[:, 0], paid)


def test_every_adapter_ends_there():
    model, acts, options, halt, above, _ = halting()
    options["uncertainty"] = Uncertainty(halt=halt)
    env = DreamVectorEnv(model, ROWS, autoreset_mode="SAME_STEP", **options)
    env.reset(seed=0)
    _, paid, ended, cut, infos = env.step(acts[0].numpy())
    assert np.array_equal(ended, above.numpy()) and not cut.any() and (paid[ended] == -50).all()
    assert np.array_equal(infos["_uncertainty"], ~ended)  # of rows that go on; the others' lies with what ended
    assert np.array_equal(infos["final_info"]["_uncertainty"], ended)
    assert (infos["final_info"]["uncertainty"][ended] > halt.threshold).all() and not infos["uncertainty"][ended].any()
    stable = DreamVecEnv(model, ROWS, horizon=9, **options)
    stable.reset()
    _, paid, dones, infos = stable.step(acts[0].numpy())
    assert np.array_equal(dones, above.numpy()) and not any(info.get("TimeLimit.truncated") for info in infos)
    torch_env = TorchRLDreamEnv(model, [ROWS], **options)
    after = torch_env.step(torch_env.reset().set("action", acts[0]))["next"]
    assert torch.equal(after["terminated"][:, 0], above) and torch.equal(after["done"], after["terminated"])
    start = options["starts"].sample(ROWS, torch.Generator())
    out = imagine(model, lambda s: acts[0], start, 1, noise=options["noise"].z, uncertainty=options["uncertainty"])
    assert torch.equal(out["next", "continue"][:, 0, 0] == 0, above)
    assert (out["next", "reward"][above] == -50).all()


def test_a_halt_comes_besides_the_models_own_ends():
    model = ensemble()
    always = Simulator(model, batch_size=64, seed=0, uncertainty=Uncertainty(halt=Halt(-1.0, 0.0)))
    never = Simulator(model, batch_size=64, seed=0, uncertainty=Uncertainty(halt=Halt(1e9, 0.0)))
    plain = Simulator(model, batch_size=64, seed=0)
    ends = []
    for simulator in (always, never, plain):
        simulator.reset()
        ends.append(simulator.step(actions(model, 64)).terminated)
    assert ends[0].all() and torch.equal(ends[1], ends[2]) and ends[1].any() and not ends[1].all()


def test_what_is_not_a_number_is_not_known():
    halted = Uncertainty(halt=Halt(1.0, -1.0)).judged(torch.zeros(2, 1), torch.tensor([[float("nan")], [0.5]])).halted
    assert halted.flatten().tolist() == [True, False]


def test_rows_that_begin_or_wait_tell_nothing():
    model, acts, options = known(Uncertainty())
    env = DreamVectorEnv(model, ROWS, horizon=1, **{**options, "noise": "sample"})
    env.reset(seed=0)
    env.step(acts[0].numpy())
    assert env.step(acts[1].numpy())[4] == {}  # all begin anew
    env = DreamVectorEnv(model, ROWS, **{**options, "noise": "sample", "uncertainty": Uncertainty(halt=halting()[3])})
    env.reset(seed=0)
    *_, ended, _, _ = env.step(acts[0].numpy())
    infos = env.step(acts[1].numpy())[4]
    assert ended.any() and np.array_equal(infos["_uncertainty"], ~ended) and not infos["uncertainty"][ended].any()


def test_torchrl_finds_its_specs_kept():
    for env in (
        TorchRLDreamEnv(ensemble(), [2], horizon=5, uncertainty=Uncertainty(reward=Penalty())),
        TorchRLStatelessDreamEnv(ensemble(), horizon=5, uncertainty=Uncertainty()),
    ):
        check_env_specs(env)
        assert env.rollout(3)["next", "uncertainty"].shape[-1] == 1


def test_gymnasium_finds_its_clauses_kept():
    env = DreamEnv(ensemble(), horizon=5, uncertainty=Uncertainty())
    check_env(env, skip_render_check=True)


def test_a_measure_of_ones_own_needs_no_ensemble():
    def distance(model, state, action):
        return model.features(state).norm(dim=-1)

    model = ToyWorldModel(*SPECS)
    simulator = Simulator(model, batch_size=3, uncertainty=Uncertainty(distance))
    simulator.reset()
    before = simulator.state
    simulator.step(actions(model, 3))
    torch.testing.assert_close(simulator.uncertainty[:, 0], model.features(before).norm(dim=-1))


def test_gradients_pass_through_what_is_imagined():
    model = ensemble()
    start = some_states(model, ROWS)
    push = torch.zeros(ROWS, 2, requires_grad=True)
    out = imagine(model, lambda s: push, start, 2, uncertainty=Uncertainty(reward=Exploration()))
    out["next", "reward"].sum().backward()
    assert push.grad.abs().sum() > 0


def test_exploration_needs_no_reward_and_everything_else_does():
    blind = ensemble(parts=("decode", "features", "continue"))
    simulator = Simulator(blind, batch_size=2, uncertainty=Uncertainty(reward=Exploration(2.0)))
    simulator.reset()
    reward = simulator.step(actions(blind, 2)).reward
    torch.testing.assert_close(reward, 2 * simulator.uncertainty)
    with pytest.raises(CapabilityError, match="needs reward"):
        Simulator(blind, uncertainty=Uncertainty(reward=Penalty()))
    out = imagine(blind, lambda s: actions(blind, 2), some_states(blind, 2), 2, uncertainty=Uncertainty())
    assert "uncertainty" in out["next"].keys() and "reward" not in out["next"].keys()
    with pytest.raises(CapabilityError, match="this uncertainty needs reward.*Exploration"):
        imagine(blind, lambda s: actions(blind, 2), some_states(blind, 2), 2, uncertainty=Uncertainty(reward=Bonus()))


@pytest.mark.parametrize("make", EVERYWHERE)
def test_a_model_that_cannot_disagree_is_refused_at_construction_with_the_remedy(make):
    model = ToyWorldModel(*SPECS)
    with pytest.raises(CapabilityError, match=r"Disagreement needs members.*ToyWorldModel.*Ensemble\.of\(factory"):
        make(model, uncertainty=Uncertainty())
    with pytest.raises(CapabilityError, match="predict no spread.*Disagreement"):
        make(ensemble(), uncertainty=Uncertainty(PredictedSpread()))
    with pytest.raises(TypeError, match="uncertainty= is an Uncertainty"):
        make(ensemble(), uncertainty=1.0)


def test_what_is_no_uncertainty_is_refused():
    model = ensemble()
    start = some_states(model, 2)
    with pytest.raises(CapabilityError, match="Disagreement needs members"):
        imagine(ToyWorldModel(*SPECS), lambda s: None, start, 2, uncertainty=Uncertainty())
    with pytest.raises(TypeError, match="measure of an Uncertainty is a function"):
        Simulator(model, uncertainty=Uncertainty("variance"))
    with pytest.raises(TypeError, match=r"halt of an Uncertainty is a Halt\(threshold, reward\)"):
        Simulator(model, uncertainty=Uncertainty(halt=0.5))
    with pytest.raises(ValueError, match=r"one number a row, \[1, 1\]; got \[1, 3\]"):
        Simulator(model, uncertainty=Uncertainty(lambda model, state, action: torch.zeros(1, 3)))
    named = ToyWorldModel(Composite(uncertainty=Unbounded(3)), OneHot(2))
    with pytest.raises(ValueError, match="an entry of that name"):
        Simulator(named, uncertainty=Uncertainty(lambda model, state, action: torch.zeros(1)))
    blind = Ensemble([ToyWorldModel(*SPECS, parts=("features", "reward", "continue"), seed=k) for k in range(2)])
    with pytest.raises(CapabilityError, match="of='observation' needs decode"):
        Simulator(blind, view="latent", uncertainty=Uncertainty())
    Simulator(blind, view="latent", uncertainty=Uncertainty(Disagreement(max_pairwise_distance, "reward")))


def test_a_dream_that_measures_nothing_is_as_before():
    model = ensemble()
    one, other = (Simulator(model, batch_size=3, seed=0, **o) for o in ({}, {"uncertainty": Uncertainty()}))
    one.reset(), other.reset()
    for step in range(3):
        assert torch.equal(
            one.step(actions(model, 3, seed=step)).reward, other.step(actions(model, 3, seed=step)).reward
        )
    assert one.uncertainty is None
