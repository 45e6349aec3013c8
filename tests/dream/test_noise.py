"""The luck of a dream, given by its caller; through all adapters it is in tests/contract/test_noise.py."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.models import PointMass
from wmcomponents.dream import (
    MODE,
    FixedStarts,
    MixtureStarts,
    NoiseUsedUpError,
    OrderedStarts,
    Simulator,
    StepNoise,
    draw_noise,
    imagine,
)
from wmcomponents.testing.toy import ToyWorldModel

VECTOR = Composite(observation=Unbounded(3))
ACTION = torch.eye(2)[[0, 1, 1]]


@pytest.fixture
def model():
    return ToyWorldModel(VECTOR, OneHot(2), noise="normal")


def luck(model, steps=6, rows=3, seed=0):
    return draw_noise(model, steps, rows, torch.Generator().manual_seed(seed))


def at(noise, step):
    return StepNoise({key: value[step] for key, value in noise.z.items()}, noise.end[step])


def simulator_of(model, rows=3, **options):
    starts = FixedStarts({key: value + 0.5 for key, value in model.initial_state((3,)).items()})
    simulator = Simulator(model, starts, batch_size=rows, **options)
    simulator.reset()
    return simulator


def dreamt(simulator, steps=6, noise=None):
    taken = [simulator.step(ACTION, noise=None if noise is None else at(noise, t)) for t in range(steps)]
    return torch.cat([torch.cat([s.observation["observation"], s.reward, s.terminated.float()], -1) for s in taken])


def test_given_noise_is_the_dream_whatever_the_seed_and_however_it_is_given(model):
    noise = luck(model)
    by_step = [dreamt(simulator_of(model, seed=seed), noise=noise) for seed in (1, 2)]
    whole = [dreamt(simulator_of(model, seed=seed, noise=noise)) for seed in (3, 4)]
    assert all(torch.equal(by_step[0], other) for other in (by_step[1], *whole))
    assert not torch.equal(by_step[0], dreamt(simulator_of(model, seed=1), noise=luck(model, seed=1)))
    later = simulator_of(model, seed=5)
    later.noise = noise
    assert torch.equal(dreamt(later), by_step[0])
    assert torch.equal(later.generator.get_state(), simulator_of(model, seed=5).generator.get_state())


def test_what_a_dream_draws_is_what_can_be_given(model):
    noise = luck(model, steps=6, seed=9)
    source, generator = model.noise_source("imagine"), torch.Generator().manual_seed(9)
    by_turns = [(source((3,), generator), torch.rand(3, 1, generator=generator)) for _ in range(6)]
    given = StepNoise(
        {"base": torch.stack([z["base"] for z, _ in by_turns])}, torch.stack([end for _, end in by_turns])
    )
    assert torch.equal(dreamt(simulator_of(model, seed=9)), dreamt(simulator_of(model), noise=given))
    assert noise.z["base"].shape == (6, 3, 8) and noise.end.shape == (6, 3, 1)


def test_the_modes_are_those_of_the_model(model):
    simulator = simulator_of(model, noise="mode")
    state = {key: value.clone() for key, value in simulator.state.items()}
    generator = simulator.generator.get_state()
    for _ in range(4):
        with torch.no_grad():
            state, reward, cont = model.imagine(state, ACTION, None)
        step = simulator.step(ACTION)
        assert all(torch.equal(simulator.state[key], value) for key, value in state.items())
        assert torch.equal(step.reward, reward) and torch.equal(step.terminated, cont < 0.5)
    assert torch.equal(simulator.generator.get_state(), generator)
    asked = simulator_of(model)
    torch.testing.assert_close(
        asked.step(ACTION, noise=MODE).reward, simulator_of(model, noise="mode").step(ACTION).reward
    )


def test_the_draw_of_the_end_decides_it(model):
    end = torch.tensor([[0.0], [0.999], [0.5]])
    for termination, ends in (("sample", None), ("threshold", None), ("off", [False] * 3)):
        simulator = simulator_of(model, termination=termination)
        cont = model.imagine(simulator.state, ACTION, None).cont
        step = simulator.step(ACTION, noise=StepNoise(None, end))
        wanted = {"sample": (end >= cont), "threshold": cont < 0.5}.get(termination)
        assert step.terminated.flatten().tolist() == (ends or wanted.flatten().tolist())


def test_predict_takes_the_noise_too(model):
    simulator, noise = simulator_of(model), luck(model)
    state = {key: value.clone() for key, value in simulator.state.items()}
    after, reward, terminated = simulator.predict(state, ACTION, (3,), noise=at(noise, 0))
    step = simulator.step(ACTION, noise=at(noise, 0))
    assert torch.equal(reward, step.reward) and torch.equal(terminated, step.terminated)
    assert all(torch.equal(after[key], value) for key, value in simulator.state.items())
    apart = {key: value.unflatten(0, (3, 1)) for key, value in state.items()}
    given = simulator_of(model, noise=noise)
    shaped = given.predict(apart, ACTION.unflatten(0, (3, 1)), (3, 1))
    torch.testing.assert_close(shaped[1].squeeze(1), reward)


def test_imagination_and_a_dream_share_their_luck(model):
    noise = luck(model)
    simulator = simulator_of(model, noise=noise, termination="off")
    start = {key: value.clone() for key, value in simulator.state.items()}
    trajectory = imagine(model, lambda state: ACTION, start, 6, noise=noise.z)
    rewards = torch.stack([simulator.step(ACTION).reward for _ in range(6)], 1)
    torch.testing.assert_close(trajectory["next", "reward"], rewards)


def test_a_seed_begins_given_noise_again_and_a_saved_dream_goes_on_where_it_was(model):
    simulator = simulator_of(model, noise=luck(model))
    first = dreamt(simulator)
    with pytest.raises(NoiseUsedUpError, match="for 6 steps, and they were taken"):
        simulator.step(ACTION)
    simulator.seed(0)
    simulator.reset()
    head = dreamt(simulator, 2)
    saved, twin, wide = simulator.get_state(), simulator.fork(), simulator.fork(2)
    assert torch.equal(torch.cat([head, dreamt(simulator, 4)]), first)
    simulator.set_state(saved)
    assert torch.equal(torch.cat([head, dreamt(simulator, 4)]), first)
    assert torch.equal(torch.cat([head, dreamt(twin, 4)]), first)
    rewards = [wide.step(ACTION.repeat_interleave(2, 0)).reward for _ in range(4)]
    torch.testing.assert_close(rewards[-1][::2], first[-3:, 3:4])


def test_a_deterministic_dream_takes_noise_of_its_ends_alone():
    model = PointMass()
    noise = luck(model, rows=2)
    assert noise.z == {}
    simulator = Simulator(model, batch_size=2, noise=noise)
    simulator.reset()
    simulator.step(torch.zeros(2, 1))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda n: n._replace(z={"other": n.z["base"]}), r"takes the noise 'base' \[6, 3, 8\] float32; got 'other'"),
        (lambda n: n._replace(z={"base": n.z["base"].double()}), "float64"),
        (lambda n: n._replace(z={"base": n.z["base"][..., :4]}), r"\[6, 3, 4\]"),
        (lambda n: n._replace(z={"base": n.z["base"] * float("nan")}), "noise 'base' are finite numbers; got nan"),
        (lambda n: n._replace(end=n.end[..., 0]), r"draws of the end are floats \[6, 3, 1\]"),
        (lambda n: n._replace(end=n.end + 1), r"draws of the end are uniform numbers in \[0, 1\)"),
        (lambda n: "modes", "noise is 'sample', 'mode' or a StepNoise"),
    ],
)
def test_noise_that_is_not_the_models_is_refused_in_words(model, spoil, words):
    with pytest.raises(ValueError, match=words):
        simulator_of(model, noise=spoil(luck(model)))


def test_noise_of_one_step_is_looked_at_too(model):
    uniform = ToyWorldModel(VECTOR, OneHot(2), noise="uniform")
    with pytest.raises(ValueError, match=r"uniform numbers in \[0, 1\)"):
        simulator_of(uniform).step(ACTION, noise=StepNoise({"base": torch.full((3, 8), 1.5)}, None))
    with pytest.raises(ValueError, match=r"'base' \[3, 8\]"):
        simulator_of(uniform).step(ACTION, noise=StepNoise({"base": torch.zeros(4, 8)}, None))
    with pytest.raises(TypeError, match="StepNoise"):
        simulator_of(uniform).step(ACTION, noise={"z": torch.zeros(3, 8)})
    with pytest.raises(ValueError, match="given for 4 rows, and this step has 3"):
        simulator_of(model, noise=luck(model, rows=4)).step(ACTION)


def numbered(count):
    return {"point": torch.arange(count).float()[:, None].repeat(1, 2)}


def begun(simulator):
    return simulator.state["point"][:, 0].tolist()


def test_ordered_starts_are_told_which_rows_begin():
    model = PointMass()
    simulator = Simulator(model, OrderedStarts(numbered(5)), batch_size=3)
    simulator.reset()
    assert begun(simulator) == [0, 1, 2]
    simulator.reset(torch.tensor([False, True, False]))
    assert begun(simulator) == [0, 3, 2]
    simulator.reset(torch.tensor([True, False, True]))
    assert begun(simulator) == [4, 3, 0]  # the sixth episode begins at the first state again
    saved = simulator.get_state()
    simulator.reset()
    assert begun(simulator) == [1, 2, 3]
    simulator.set_state(saved)
    simulator.reset()
    assert begun(simulator) == [1, 2, 3]
    simulator.seed(0)
    simulator.reset()
    assert begun(simulator) == [0, 1, 2]


def test_rows_that_restart_in_a_step_take_the_next_ones():
    simulator = Simulator(PointMass(), OrderedStarts(numbered(9)), batch_size=2)
    simulator.reset()
    simulator.step(torch.zeros(2, 1), restart=torch.tensor([[False], [True]]))
    assert begun(simulator)[1] == 2


def test_a_mixture_hands_on_which_rows_begin():
    mixture = MixtureStarts([OrderedStarts(numbered(9)), FixedStarts(numbered(1))], [1.0, 0.0])
    simulator = Simulator(PointMass(), mixture, batch_size=2)
    for expected in ([0, 1], [2, 3]):
        simulator.reset()
        assert begun(simulator) == expected
    assert not MixtureStarts([FixedStarts(numbered(1))]).ordered


def test_ordered_starts_alone_give_the_first():
    starts = OrderedStarts(numbered(2))
    assert starts.sample(3, torch.Generator())["point"][:, 0].tolist() == [0, 1, 0] and len(starts) == 2
    rows = torch.tensor([-1, 7, 2])
    assert starts.sample(3, torch.Generator(), rows)["point"][1:, 0].tolist() == [1, 0]


def test_bounded_actions_take_given_noise_too():
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)), noise="uniform")
    simulator = Simulator(model, batch_size=3, noise=luck(model))
    simulator.reset()
    assert simulator.step(torch.ones(3, 2)).reward.shape == (3, 1)
