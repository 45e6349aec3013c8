"""The simulator's own rules; what holds for every model is in tests/contract/test_dream.py."""

import pickle

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.contract.models import PointMass
from wmcomponents.dream import FixedStarts, PoolStarts, Simulator, make_simulator
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


def test_the_first_reset_takes_no_mask_and_nothing_is_seen_before_it():
    simulator = chance()
    with pytest.raises(ValueError, match="first reset"):
        simulator.reset(torch.ones(4, dtype=torch.bool))
    for look in (simulator.observe, simulator.get_state):
        with pytest.raises(RuntimeError, match="reset"):
            look()


def test_starts_of_another_model_are_refused():
    simulator = Simulator(PointMass(), FixedStarts({"other": torch.zeros(3, 2)}), batch_size=4)
    with pytest.raises(ValueError, match="PointMass has the state"):
        simulator.reset()


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


def test_the_model_is_put_in_eval_mode_and_no_step_keeps_a_graph():
    model = ToyWorldModel(VECTOR, OneHot(2)).train()
    simulator = Simulator(model, batch_size=2)
    assert not model.training
    observation = simulator.reset()
    step = simulator.step(torch.eye(2))
    assert not any(value.requires_grad for value in (*observation.values(), *step.observation.values(), step.reward))


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
        simulator = Simulator(model, batch_size=3, compile=compile)
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
