"""The simulator's own rules; what holds for every model is in tests/contract/test_dream.py."""

import copy
import pickle
import warnings

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.drive import sequences
from tests.support.models import PointMass
from wmcomponents.dream import (
    FixedStarts,
    NotFiniteError,
    OrderedStarts,
    PoolStarts,
    PriorStarts,
    Simulator,
    Starts,
    filtered_states,
    imagine,
    make_simulator,
)
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError, Prediction, WorldModel

VECTOR = Composite(observation=Unbounded(3))
STILL = torch.zeros(4, 1)


class Chance(WorldModel):
    """Ends with a fixed probability; the state counts steps."""

    def __init__(self, cont=0.75, parts=("features", "reward", "continue")):
        super().__init__(
            observation_spec=VECTOR, action_spec=Bounded(-1, 1, (1,)), state_spec=Composite(count=Unbounded(1))
        )
        self.cont, self.parts = cont, frozenset(parts)

    @property
    def capabilities(self):
        return self.parts

    def observe(self, state, action, observation, is_init, noise):
        return {"count": torch.zeros_like(state["count"])}

    def imagine(self, state, action, noise):
        count = state["count"] + 1
        has = self.parts
        return Prediction(
            {"count": count},
            count * 10 if "reward" in has else None,
            torch.full_like(count, self.cont) if "continue" in has else None,
        )

    def features(self, state):
        return state["count"]


def chance(rows=4, cont=0.75, **options):
    model = options.pop("model", None) or Chance(cont)
    return Simulator(model, batch_size=rows, view="latent", **options)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"batch_size": 0}, "at least one row"),
        ({"horizon": 0}, "at least 1"),
        ({"view": "raw"}, "view is one of"),
        ({"termination": "maybe"}, "termination is one of"),
    ],
)
def test_arguments_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Simulator(PointMass(), **options)


@pytest.mark.parametrize(
    "parts, options, words",
    [
        (("features", "reward", "continue"), {"view": "decoded"}, "use view='latent'"),
        (("decode", "reward", "continue"), {"view": "latent"}, "use view='decoded'"),
        (("features", "reward"), {"view": "latent"}, "termination='off'"),
        (("features", "continue"), {"view": "latent"}, "pass reward="),
    ],
)
def test_a_model_that_lacks_what_is_asked_is_refused_with_the_remedy(parts, options, words):
    with pytest.raises(CapabilityError, match=words):
        Simulator(ToyWorldModel(VECTOR, OneHot(2), parts=parts), **options)


def test_two_entries_of_one_name_are_refused():
    model = ToyWorldModel(Composite(latent=Unbounded(2)), OneHot(2))
    with pytest.raises(ValueError, match="rename the observation"):
        Simulator(model, view="both")


def test_rows_end_with_probability_one_minus_continue():
    simulator = chance(rows=4000, cont=0.75)
    simulator.reset()
    ended = simulator.step(torch.zeros(4000, 1)).terminated.float().mean().item()
    assert abs(ended - 0.25) < 0.03


@pytest.mark.parametrize(
    "cont, termination, ends",
    [
        (1.0, "sample", False),
        (0.0, "sample", True),
        (0.51, "threshold", False),
        (0.49, "threshold", True),
        (0.0, "off", False),
    ],
)
def test_certain_ends_and_the_other_rules(cont, termination, ends):
    simulator = chance(cont=cont, termination=termination)
    simulator.reset()
    for _ in range(3):
        step = simulator.step(STILL)
        assert step.terminated.all().item() is ends and step.terminated.any().item() is ends
        assert not step.truncated.any()


def test_truncation_comes_at_the_horizon_of_each_row():
    simulator = chance(cont=1.0, horizon=3)
    simulator.reset()
    simulator.step(STILL)
    simulator.reset(torch.tensor([True, False, False, False]))
    cuts = [simulator.step(STILL).truncated.flatten().tolist() for _ in range(3)]
    assert cuts == [[False] * 4, [False, True, True, True], [True] * 4]


def test_a_row_that_is_done_goes_on_until_it_is_reset():
    simulator = chance(cont=1.0, horizon=2)
    simulator.reset()
    flags = [bool(simulator.step(STILL).truncated.all()) for _ in range(4)]
    assert flags == [False, True, True, True]


def test_all_running_is_certain_or_not_claimed():
    simulator = chance(cont=0.0, horizon=2, termination="off")
    assert not simulator.all_running and simulator.done.all()
    simulator.reset()
    assert simulator.all_running and not simulator.done.any()
    simulator.step(STILL)
    assert simulator.all_running
    simulator.step(STILL)
    assert not simulator.all_running and simulator.done.all()
    simulator.reset(simulator.done)
    assert simulator.all_running
    simulator.step(STILL, hold=torch.tensor([[True], [False], [False], [False]]))
    assert not simulator.all_running
    assert not chance(cont=0.0).all_running


@pytest.mark.parametrize("horizon", [None, 1, 2, 5])
@pytest.mark.parametrize("termination", ["sample", "off"])
def test_all_running_never_hides_a_row_that_is_done(horizon, termination):
    simulator = chance(cont=0.8, horizon=horizon, termination=termination)
    simulator.reset()
    for step in range(12):
        simulator.step(STILL)
        if simulator.all_running:
            assert not simulator.done.any()
        if step % 3 == 2:
            simulator.reset(simulator.done)


def test_restarted_rows_ignore_the_step_and_held_rows_stand_still():
    simulator = chance(cont=0.0, termination="threshold", model=Chance(0.0))
    simulator.reset()
    simulator.step(STILL)
    restart, hold = torch.zeros(4, 1, dtype=torch.bool), torch.zeros(4, 1, dtype=torch.bool)
    restart[0], hold[1] = True, True
    observation, reward, terminated, truncated = simulator.step(STILL, restart=restart, hold=hold)
    assert observation["latent"].flatten().tolist() == [1.0, 2.0, 3.0, 3.0]  # the prior's start is one step in
    assert reward.flatten().tolist() == [0.0, 0.0, 30.0, 30.0]
    assert terminated.flatten().tolist() == [False, False, True, True] and not truncated.any()
    assert simulator.elapsed.flatten().tolist() == [0, 1, 2, 2]
    assert simulator.done.flatten().tolist() == [False, True, True, True]


def test_reward_replaces_and_penalty_is_subtracted():
    simulator = chance(reward=lambda s, a, n: n["count"] - s["count"] + a, penalty=lambda s, a, n: 0.25 * n["count"])
    simulator.reset()
    assert simulator.step(torch.full((4, 1), 2.0)).reward.flatten().tolist() == [2.5] * 4


@pytest.mark.parametrize("which", ["reward", "penalty"])
def test_a_reward_without_its_last_dimension_is_refused(which):
    simulator = chance(**{which: lambda s, a, n: n["count"].squeeze(-1)})
    simulator.reset()
    with pytest.raises(ValueError, match=rf"{which}=.*\(4, 1\).*got \(4,\)"):
        simulator.step(STILL)


def test_the_first_reset_begins_every_row_and_nothing_is_seen_before_it():
    simulator = chance()
    with pytest.raises(ValueError, match="first reset"):
        simulator.reset(torch.tensor([True, True, False, True]))
    for look in (simulator.observe, simulator.get_state):
        with pytest.raises(RuntimeError, match="reset"):
            look()
    simulator.reset(torch.ones(4, 1, dtype=torch.bool))
    assert simulator.all_running and simulator.elapsed.flatten().tolist() == [0] * 4


def test_starts_of_another_model_are_refused():
    simulator = Simulator(PointMass(), FixedStarts({"other": torch.zeros(3, 2)}), batch_size=4)
    with pytest.raises(ValueError, match="PointMass has the state"):
        simulator.reset()


def test_a_lent_step_is_the_same_step_and_costs_no_copy():
    own, lent = (chance(termination="off", horizon=3) for _ in range(2))
    own.reset(), lent.reset()
    for _ in range(4):
        ours, theirs = own.step(STILL), lent.step(STILL, lend=True)
        assert torch.equal(ours.observation["latent"], theirs.observation["latent"])
        assert all(torch.equal(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True))
        assert lent.shares_view and theirs.observation["latent"] is lent.state["count"]
        for value in (*ours.observation.values(), *ours[1:]):
            value.fill_(1)  # what is not lent is the caller's


def test_a_saved_state_of_another_size_is_refused_and_changes_nothing():
    simulator, bigger = chance(rows=4), chance(rows=5)
    simulator.reset(), bigger.reset()
    before = simulator.get_state()
    with pytest.raises(ValueError, match="4 rows"):
        simulator.set_state(bigger.get_state())
    assert (simulator.get_state() == before).all()


def test_a_fork_needs_a_copy():
    simulator = chance()
    simulator.reset()
    with pytest.raises(ValueError, match="at least once"):
        simulator.fork(0)


def test_no_step_keeps_a_graph():
    simulator = Simulator(ToyWorldModel(VECTOR, OneHot(2)), batch_size=2)
    observation = simulator.reset()
    step = simulator.step(torch.eye(2))
    assert not any(value.requires_grad for value in (*observation.values(), *step.observation.values(), step.reward))


class Moody(ToyWorldModel):
    """Drops units, normalises by its batch and draws from the global generator, wherever it is in train mode."""

    def __init__(self):
        super().__init__(VECTOR, Bounded(-1, 1, (2,)), noise="none")
        self.drop, self.norm = torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(8)

    def imagine(self, state, action, noise):
        after = super().imagine(state, action, noise)
        flat = after.state["memory"].reshape(-1, 8)
        return after._replace(state=after.state | {"memory": self.drop(self.norm(flat)).reshape(state["memory"].shape)})

    def observe(self, *given):
        return {key: self.drop(value) for key, value in super().observe(*given).items()}

    def decode(self, state):
        return {key: self.drop(value) for key, value in super().decode(state).items()}


def train_all(model):
    model.train()


def train_one_part(model):
    model.eval()
    model.drop.train()


def train_a_part_of_later(model):
    model.eval()
    model.drop = torch.nn.Dropout(0.5)


@pytest.mark.parametrize("left", [train_all, train_one_part, train_a_part_of_later])
def test_a_dream_knows_no_train_mode_and_leaves_every_part_in_its_own(left):
    shown, model = [], Moody()
    simulator = Simulator(model, batch_size=3, seed=0)
    state = simulator.draw_starts(3)
    for mode in (torch.nn.Module.eval, left):
        mode(model)
        flags = [part.training for part in model.modules()]
        simulator.seed(0)
        seen = [simulator.reset()["observation"]]
        for _ in range(3):
            seen.append(simulator.step(torch.ones(3, 2)).observation["observation"])
        seen += simulator.predict(state, torch.ones(3, 2), (3,))[0].values()
        seen += [simulator.observe()["observation"], simulator.look(state)["observation"]]
        seen.append(imagine(model, lambda s: torch.ones(3, 2), state, 3)["memory"])
        seen.append(PriorStarts(model).sample(3, torch.Generator().manual_seed(0))["memory"])
        seen.append(filtered_states(model, sequences(model))["memory"])
        shown.append(seen)
        assert [part.training for part in model.modules()] == flags
    assert all(torch.equal(one, other) for one, other in zip(*shown, strict=True))


@pytest.mark.parametrize("kind", ["all", "sample"])
def test_dreams_without_a_seed_differ_and_a_seed_decides_all(kind):
    model = ToyWorldModel(VECTOR, OneHot(2), noise="normal")

    def dreamt(simulator):
        first = simulator.reset()["observation"]
        return torch.stack([first, *(simulator.step(torch.eye(2)).observation["observation"] for _ in range(3))])

    unseeded = [Simulator(model, batch_size=2) for _ in range(2)]
    copies = [copy.deepcopy(unseeded[0]), unseeded[0]]  # workers that were handed one dream, not yet begun
    assert not torch.equal(*map(dreamt, unseeded)) and not torch.equal(*map(dreamt, copies))
    assert torch.equal(*(dreamt(Simulator(model, batch_size=2, seed=3)) for _ in range(2)))
    for simulator in unseeded:
        simulator.seed(5)
    assert torch.equal(*map(dreamt, unseeded))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"horizon": 2.5}, "horizon is a number of steps, at least 1, or None for no limit; got 2.5, a float"),
        ({"horizon": True}, "horizon.*got True, a bool"),
        ({"batch_size": "4"}, "batch_size is the number of rows.*a str"),
        ({"seed": "zero"}, "seed is a number.*got 'zero'"),
        ({"starts": {"point": torch.zeros(1, 2)}}, r"takes a Starts, such as PoolStarts\(states\).*got a dict"),
        ({"reward": 1.0}, "reward= is a function of"),
        ({"penalty": "much"}, "penalty= is a function of"),
        ({"noise": {"z": torch.zeros(1)}}, "StepNoise"),
    ],
)
def test_arguments_of_another_kind_are_refused_in_words(options, words):
    with pytest.raises(TypeError, match=words):
        Simulator(PointMass(), **options)


def test_what_is_no_world_model_is_refused_in_words():
    for wrong in (torch.nn.Linear(1, 1), None, 3):
        with pytest.raises(TypeError, match="a dream is of a WorldModel"):
            make_simulator(wrong)


@pytest.mark.parametrize("termination", ["sample", "threshold"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_continuation_that_is_not_finite_is_named_and_not_taken_for_going_on(termination, value):
    simulator = chance(termination=termination)
    simulator.reset()
    simulator.model.cont = torch.tensor([[0.5], [value], [0.5], [0.5]])
    simulator.rules.imagine = lambda s, a, z: Prediction(s, torch.zeros(4, 1), simulator.model.cont)
    with pytest.raises(NotFiniteError, match=r"Chance predicts is not finite in rows \[1\].*weights.*are finite"):
        simulator.step(STILL)
    simulator.rules.imagine_pure = simulator.rules.imagine
    with pytest.raises(NotFiniteError):
        simulator.predict({"count": torch.zeros(4, 1)}, STILL, (4,))


def test_observations_that_are_not_finite_are_found_at_a_reset_and_within_64_steps():
    simulator = chance(cont=1.0)
    broken = {"latent": torch.tensor([[0.0], [float("nan")], [0.0], [0.0]])}
    with pytest.raises(NotFiniteError, match=r"dreamt 'latent' is not finite in rows \[1\]"):
        simulator.check_shown(broken)
    simulator.reset()
    with pytest.raises(NotFiniteError, match="'latent'"):
        for _ in range(64):
            step = simulator.step(STILL)
            simulator.check_shown(broken, step.reward)
    with pytest.raises(NotFiniteError, match="'reward'"):
        simulator.check_shown(step.observation, step.reward * float("nan"))


def test_weights_that_are_not_finite_are_named():
    model = ToyWorldModel(VECTOR, OneHot(2))
    simulator = Simulator(model, batch_size=2)
    simulator.reset()
    with torch.no_grad():
        model.heads.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="weights of ToyWorldModel are not finite, 'heads' among 1"):
        simulator.step(torch.eye(2))


@pytest.mark.parametrize("broken", ["float64", "nan", "inf"])
def test_broken_start_states_are_named(broken):
    states = {"point": torch.zeros(5, 2)}
    if broken == "float64":
        simulator = Simulator(PointMass(), FixedStarts({"point": torch.zeros(5, 2, dtype=torch.float64)}), batch_size=5)
        with pytest.raises(
            ValueError, match=r"'point' \[5, 2\] float32; the start states are 'point' \[5, 2\] float64"
        ):
            simulator.reset()
        return
    states["point"][3, 1] = float(broken)
    for kind in (PoolStarts, FixedStarts, OrderedStarts):
        with pytest.raises(NotFiniteError, match=r"start state 'point' is not finite in rows \[3\] of 5"):
            kind(states)


class Given(Starts):
    """Whatever it was given last."""

    def __init__(self, state):
        self.state = state

    def sample(self, count, generator):
        return {key: value.clone() for key, value in self.state.items()}


def test_starts_of_ones_own_are_looked_at_too():
    starts = Given({"point": torch.zeros(3, 2)})
    simulator = Simulator(PointMass(), starts, batch_size=3)
    simulator.reset()
    starts.state = {"point": torch.zeros(3, 2, dtype=torch.float64)}
    with pytest.raises(ValueError, match="float64"):
        simulator.reset(torch.tensor([True, False, False]))
    starts.state = {"point": torch.full((3, 2), float("nan"))}
    with pytest.raises(NotFiniteError, match="'point'"):
        simulator.reset()


def spoilt_states():
    """A saved dream of PointMass with four rows, spoilt in one way each, and what the error names."""
    long, flags = torch.zeros(4, 1, dtype=torch.int64), torch.zeros(4, 1, dtype=torch.bool)
    return {
        "elapsed": (long[:3], "elapsed"),
        "elapsed as floats": (long.float(), "elapsed"),
        "elapsed below zero": (long - 1, "negative"),
        "done": (flags[:1], "done"),
        "done as numbers": (long, "done"),
        "generator": (torch.zeros(7, dtype=torch.uint8), "generator"),
        "generator of another kind": (torch.zeros(5056), "generator"),
        "played": (torch.zeros(2, dtype=torch.int64), "played"),
        "episodes": (torch.tensor(0.5), "episodes"),
        "state": (TensorDict(point=torch.zeros(3, 2)), r"\[4, 2\]"),
        "state of doubles": (TensorDict(point=torch.zeros(4, 2, dtype=torch.float64)), "float64"),
        "state of another model": (TensorDict(other=torch.zeros(4, 2)), "'other'"),
        "state of NaN": (TensorDict(point=torch.full((4, 2), float("nan"))), "not finite"),
        "state that is none": (torch.zeros(4, 2), "entries"),
    }


@pytest.mark.parametrize("fault", list(spoilt_states()))
def test_a_saved_dream_that_is_none_is_refused_and_changes_nothing(fault):
    simulator = Simulator(PointMass(), batch_size=4, horizon=9, seed=0)
    simulator.reset()
    simulator.step(STILL)
    before = simulator.get_state()
    value, words = spoilt_states()[fault]
    with pytest.raises(ValueError, match=words):
        simulator.set_state(before.clone().set(fault.split()[0], value))
    with pytest.raises(ValueError, match="get_state"):
        simulator.set_state(before.exclude(fault.split()[0]))
    assert (simulator.get_state() == before).all()
    with pytest.raises(TypeError, match="TensorDict"):
        simulator.set_state({"state": {}})


def test_a_dream_that_nothing_ends_says_so_once(monkeypatch):
    monkeypatch.setattr("wmcomponents.dream.clock.ENDLESS", 20)

    def told(steps, restarts=False, **options):
        simulator = chance(cont=1.0, **options)
        simulator.reset()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for step in range(steps):
                simulator.step(STILL)
                if restarts:
                    simulator.reset(torch.arange(4) == step % 4)
        return [str(warning.message) for warning in caught]

    for options in ({"termination": "off"}, {"termination": "threshold"}):
        (message,) = told(70, **options)
        assert "no horizon" in message and "20 steps" in message and "Pass horizon=" in message
    assert not told(19, termination="off") and not told(70, horizon=30)
    assert not told(90, restarts=True, termination="off")


def test_one_step_from_given_states_moves_no_row_and_has_gradients():
    simulator = chance()
    simulator.reset()
    before = simulator.state["count"].clone()
    start = {"count": torch.zeros(2, 3, 1, requires_grad=True)}
    after, reward, terminated = simulator.predict(start, torch.zeros(2, 3, 1), (2, 3))
    assert after["count"].shape == reward.shape == terminated.shape == (2, 3, 1)
    reward.sum().backward()
    assert start["count"].grad.unique().tolist() == [10.0]
    assert torch.equal(simulator.state["count"], before)


@pytest.mark.compile
@pytest.mark.slow
def test_a_compiled_step_is_the_eager_one_and_survives_a_pickle():
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)), noise="normal")
    shown = []
    for compile in (False, True):
        simulator = Simulator(model, batch_size=3, seed=0, compile=compile)
        simulator.reset()
        shown.append(simulator.step(torch.ones(3, 2)).observation["observation"])
    torch.testing.assert_close(*shown, rtol=1e-4, atol=1e-5)
    twin = pickle.loads(pickle.dumps(simulator))
    one, other = (s.step(torch.ones(3, 2)).observation["observation"] for s in (simulator, twin))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_saved_model_brings_its_start_states(tmp_path):
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, OneHot(2))
    pool = model.initial_state((5,))
    model.save_pretrained(tmp_path / "with", starts=pool)
    model.save_pretrained(tmp_path / "without")
    assert isinstance(make_simulator(tmp_path / "with").starts, PoolStarts)
    assert not isinstance(make_simulator(str(tmp_path / "without")).starts, PoolStarts)
    given = FixedStarts(pool)
    assert make_simulator(tmp_path / "with", given).starts is given


@pytest.mark.gpu
def test_a_step_on_a_gpu_never_waits_for_it():
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)), noise="normal").cuda()
    simulator = Simulator(model, batch_size=8, horizon=3)
    simulator.reset()
    action = torch.zeros(8, 2, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            simulator.step(action, restart=simulator.done)
            simulator.reset(simulator.done)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_before_the_first_reset_says_so():
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step"):
        Simulator(PointMass(), batch_size=4).step(STILL)


def test_a_fork_is_constructed_from_rules_that_are_shared_and_rows_that_are_not():
    simulator = chance(horizon=3, seed=0)
    simulator.reset()
    twin = simulator.fork()
    assert twin.rules is simulator.rules and vars(twin).keys() == vars(simulator).keys()
    mine = {id(value) for value in vars(simulator).values() if isinstance(value, torch.Tensor)}
    assert not any(id(value) in mine for value in vars(twin).values())
    with pytest.raises(TypeError, match="pass no others"):
        Simulator(simulator.model, rules=simulator.rules, horizon=4)
    with pytest.raises(TypeError, match="of another dream of the same model"):
        Simulator(Chance(0.5), rules=simulator.rules)
