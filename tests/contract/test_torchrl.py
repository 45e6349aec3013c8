"""Clauses of torchrl's EnvBase, for every model and both forms of the environment."""

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import (
    Compose,
    InitTracker,
    RewardSum,
    SerialEnv,
    StepCounter,
    TensorDictPrimer,
    TransformedEnv,
    step_mdp,
)
from torchrl.envs.utils import RandomPolicy, check_env_specs
from torchrl.modules import GRUModule, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.modules.planners import CEMPlanner
from torchrl.objectives import ClipPPOLoss, SACLoss, SoftUpdate
from torchrl.record import PixelRenderTransform

from tests.support.drive import actions, assert_same, is_continuous, some_states, view_of, views
from tests.support.models import MODELS
from wmcomponents.component import Component
from wmcomponents.dream import FixedStarts, GoalWorldModel, NotFiniteError, PoolStarts
from wmcomponents.integrations.torchrl import TorchRLDreamEnv, TorchRLStatelessDreamEnv
from wmcomponents.models.tokens.base import KVCachedModel
from wmcomponents.world_model import Prediction, WorldModel


def stateful(model, batch=(3,), horizon=4, **options):
    options = {"view": view_of(model), "termination": "off"} | options
    return TorchRLDreamEnv(model, batch, starts=PoolStarts(some_states(model, 6)), horizon=horizon, **options)


def stateless(model, horizon=4, **options):
    options = {"view": view_of(model), "termination": "off"} | options
    return TorchRLStatelessDreamEnv(model, starts=PoolStarts(some_states(model, 6)), horizon=horizon, **options)


FORMS = {"stateful": stateful, "stateless": stateless}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


class Act(Component):
    """A deterministic policy that reads one entry of ``dims`` dimensions."""

    def __init__(self, model, key, dims=1):
        super().__init__([key], ["action"])
        self.spec, self.dims = model.action_spec, dims

    def compute(self, value):
        score = torch.tanh(value.float().flatten(-self.dims).mean(-1))
        if self.spec.dtype.is_floating_point:
            return score.unsqueeze(-1).expand(*score.shape, *self.spec.shape).clone()
        choice = ((score + 1) / 2 * (self.spec.space.n - 1)).round().long()
        return nn.functional.one_hot(choice, self.spec.space.n).to(self.spec.dtype) if self.spec.shape else choice


@pytest.mark.parametrize("view", ["decoded", "latent", "both"])
def test_check_env_specs_passes(model, form, view):
    if view not in views(model):
        pytest.skip(f"the model has no {view} view")
    check_env_specs(form(model, view=view, termination="sample"), seed=0, break_when_any_done="both")


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_the_locked_form_has_any_batch(model, batch):
    env = stateful(model, batch)
    check_env_specs(env, seed=0)
    assert env.rollout(3).batch_size == (*batch, 3)
    for spec in (env.observation_spec, env.full_action_spec, env.full_done_spec, env.full_reward_spec):
        assert spec.shape == torch.Size(batch)
        assert all(leaf.device == env.device for leaf in spec.values(True, True))
        assert all(leaf.shape[: len(batch)] == torch.Size(batch) for leaf in spec.values(True, True))


def test_one_kind_does_not_unlock_the_other(model):
    locked = stateful(model)
    unlocked = stateless(model)
    assert locked.batch_locked and not unlocked.batch_locked and stateful(model).batch_locked
    assert locked.batch_size == (3,) and unlocked.batch_size == ()
    with pytest.raises(RuntimeError):
        locked.rollout(2, tensordict=TensorDict(batch_size=[2]), auto_reset=False)


def test_specs_are_locked_and_their_keys_apart(model, form):
    env = form(model)
    assert env.is_spec_locked
    observed, rewarded, ended = set(env.observation_keys), set(env.reward_keys), set(env.done_keys)
    assert not observed & rewarded and not observed & ended and not rewarded & ended
    assert not set(env.state_keys) & set(env.action_keys)
    assert set(env.state_keys) <= observed  # a key in the state spec alone would not be carried by step_mdp


def test_the_state_moves_from_step_to_step(model, form):
    env = form(model)
    shown = env.rollout(4, break_when_any_done=False)
    keys = [key for key in env.observation_spec.keys() if key != "elapsed"]
    moving = [key for key in keys if not torch.equal(shown[key][..., 1:, :], shown[key][..., :-1, :])]
    assert moving
    for key in keys:
        assert torch.equal(shown["next", key].select(len(env.batch_size), 0), shown[key].select(len(env.batch_size), 1))


def test_rewards_and_flags_have_their_trailing_dim_and_agree(model, form):
    env = form(model, horizon=2, termination="sample")
    shown = env.rollout(7, break_when_any_done=False)
    lead = shown.batch_size
    assert shown["next", "reward"].shape == (*lead, 1) and shown["next", "reward"].dtype is torch.float32
    for where in (shown, shown["next"]):
        for flag in ("done", "terminated", "truncated"):
            assert where[flag].shape == (*lead, 1) and where[flag].dtype is torch.bool
        assert torch.equal(where["done"], where["terminated"] | where["truncated"])
    assert not shown["done"].any() and "reward" not in shown.keys()
    assert bool(shown["next", "done"].any()) and shown["next", "reward"].isfinite().all()
    reset = env.reset()
    assert "reward" not in reset.keys() and not reset["done"].any()


def test_a_step_mutates_no_input_and_aliases_none(model, form):
    env = form(model)
    root = env.reset()
    root["action"] = env.full_action_spec["action"].rand()
    before = root.clone()
    assert env.step(root) is root
    assert_same(dict(root.exclude("next").flatten_keys().items()), dict(before.flatten_keys().items()), rtol=0, atol=0)
    history = root.clone()
    following = step_mdp(root)
    following["action"] = env.full_action_spec["action"].rand()
    env.step(following)
    for value in following["next"].values(True, True):
        value.detach().zero_()
    assert_same(dict(root.flatten_keys().items()), dict(history.flatten_keys().items()), rtol=0, atol=0)


def test_writing_into_what_was_shown_does_not_change_the_dream(model):
    env, witness = stateful(model), stateful(model)
    env.set_seed(0), witness.set_seed(0)
    here, there = env.reset(), witness.reset()
    for step in range(6):
        here["action"] = actions(model, 3, seed=step)
        there["action"] = actions(model, 3, seed=step)
        here, there = env.step(here)["next"], witness.step(there)["next"]
        assert_same(dict(here.items()), dict(there.items()), rtol=0, atol=0)
        for value in here.values():
            value.zero_()
        here, there = here.exclude("reward"), there.exclude("reward")


def test_an_entry_already_under_next_prevails(model, form):
    env = form(model)
    root = env.reset()
    root["action"] = env.full_action_spec["action"].rand()
    root["next"] = TensorDict({"mine": torch.ones(*env.batch_size, 1)}, batch_size=env.batch_size)
    stepped = env.step(root)
    assert stepped["next", "mine"].all() and "reward" in stepped["next"].keys()


def test_gradients_flow_through_a_rollout_that_does_not_stop(model):
    if not is_continuous(model):
        pytest.skip("discrete actions pass no gradient")
    if getattr(model, "reward_end", None) is not None:
        pytest.skip("rewards that are drawn among three classes pass no gradient")
    if isinstance(model.model if isinstance(model, GoalWorldModel) else model, KVCachedModel):
        pytest.skip("dreams with a key-value cache are drawn in tokens, which pass no gradient")
    env = stateless(model, horizon=2)
    key = next(iter(model.state_spec.keys()))
    size = model.state_spec[key].shape.numel()
    net = nn.Linear(size, model.action_spec.shape.numel())
    policy = TensorDictModule(nn.Sequential(nn.Flatten(), net, nn.Tanh()), [key], ["action"])
    start = env.reset(TensorDict(batch_size=[5]))
    shown = env.rollout(5, policy, tensordict=start, auto_reset=False, break_when_any_done=False)
    shown["next", "reward"].sum().backward()
    assert net.weight.grad.abs().sum() > 0 and net.weight.grad.isfinite().all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_rollouts_run_without_gradients_and_in_inference_mode(model, form, mode):
    env = form(model)
    with mode():
        env.rollout(6, break_when_any_done=False)
    env.rollout(6, break_when_any_done=False)


def test_a_partial_step_freezes_the_other_rows(model):
    env, witness = stateful(model, horizon=9), stateful(model, horizon=9)
    here = env.rollout(2)[..., -1]["next"].exclude("reward")
    witness.simulator.set_state(env.simulator.get_state())
    here["action"] = actions(model, 3)
    kept = {key: value[[0, 2]].clone() for key, value in env.simulator.state.items()}
    stepped = env.step(here.clone().set("_step", torch.tensor([[False], [True], [False]])))
    for key, value in env.simulator.state.items():
        assert torch.equal(value[[0, 2]], kept[key])
    assert env.simulator.elapsed.flatten().tolist() == [2, 3, 2]
    for key in env.observation_spec.keys():
        assert torch.equal(stepped["next", key][[0, 2]], here[key][[0, 2]])
    assert not stepped["next", "reward"][[0, 2]].any()
    whole = witness.step(here.clone())
    torch.testing.assert_close(stepped["next", "reward"][1], whole["next", "reward"][1])
    nobody = env.step(here.clone().set("_step", torch.zeros(3, 1, dtype=torch.bool)))
    assert env.simulator.elapsed.flatten().tolist() == [2, 3, 2] and "next" in nobody.keys()


def test_a_partial_step_keeps_the_flags_a_row_came_with(model):
    env = stateful(model, horizon=2)
    root = env.rollout(2)[..., -1]["next"].exclude("reward")
    assert root["done"].all()
    root["action"] = actions(model, 3)
    root["_step"] = torch.tensor([[False], [True], [False]])
    stepped = env.step(root)["next"]
    assert stepped["done"][[0, 2]].all() and stepped["truncated"][[0, 2]].all()


def test_a_partial_reset_starts_only_its_rows(model, form):
    env = form(model, horizon=9)
    root = env.reset() if env.batch_locked else env.reset(TensorDict(batch_size=[3]))
    root["action"] = actions(model, 3)
    reached = step_mdp(env.step(root))
    mask = torch.tensor([[True], [False], [True]])
    if env.batch_locked:
        fresh = env.reset(reached.clone().set("_reset", mask))
        assert env.simulator.elapsed.flatten().tolist() == [0, 1, 0]
    else:
        fresh = env.reset(reached.clone().set("_reset", mask), set_state=False)
        assert fresh["elapsed"].flatten().tolist() == [0, 1, 0]
    assert "_reset" not in fresh.keys()
    changed = [not torch.equal(fresh[key][[0, 2]], reached[key][[0, 2]]) for key in env.observation_spec.keys()]
    assert any(changed)
    for key in env.observation_spec.keys():
        assert torch.equal(fresh[key][1], reached[key][1])


def test_a_reset_mask_wins_over_the_state_beside_it(model, recwarn):
    env = stateless(model)
    td = env.rollout(2, tensordict=env.reset(TensorDict(batch_size=[4])), auto_reset=False)[:, -1]["next"]
    td = td.exclude("reward")
    mask = torch.ones(4, 1, dtype=torch.bool)
    again = env.reset(td.clone().set("_reset", mask))
    assert not again["elapsed"].any()
    again = env.reset(td.clone().set("_reset", mask), set_state=True)
    assert not again["elapsed"].any()


def test_set_state_starts_from_the_given_state_and_clock(model):
    env = stateless(model, horizon=5)
    # Not what a dream begins in by chance: untrained models have few states.
    state = {key: value + 0.25 if value.is_floating_point() else value for key, value in some_states(model, 4).items()}
    given = TensorDict({**state, "elapsed": torch.full((4, 1), 4)}, batch_size=[4])
    root = env.reset(given, set_state=True)
    assert_same({key: root[key] for key in state}, state, rtol=0, atol=0)
    root["action"] = actions(model, 4)
    assert env.step(root)["next", "truncated"].all()
    fresh = env.reset(TensorDict(state, batch_size=[4]), set_state=True)
    assert not fresh["elapsed"].any()
    unasked = env.reset(TensorDict(state, batch_size=[4]))
    assert not all(torch.equal(unasked[key], value) for key, value in state.items())


def test_a_given_state_that_lacks_a_part_is_refused(model):
    state = some_states(model, 2)
    lost = next(iter(state))
    with pytest.raises(KeyError, match=lost):
        stateless(model).reset(TensorDict(state, batch_size=[2]).exclude(lost), set_state=True)


def test_the_stateful_form_refuses_to_be_given_a_state(model):
    with pytest.raises(NotImplementedError):
        stateful(model).reset(TensorDict(batch_size=[3]), set_state=True)


def test_same_seed_same_resets_and_steps_whatever_torch_drew(model, form):
    shown = []
    for garbage in (1, 2):
        env = form(model, termination="sample")
        torch.manual_seed(garbage)
        assert isinstance(env.set_seed(7), int)
        key = next(key for key in env.observation_spec.keys() if key != "elapsed")
        policy = Act(model, key, env.observation_spec[key].ndim - len(env.batch_size))
        shown.append(env.rollout(6, policy, break_when_any_done=False))
    assert_same(*(dict(one.flatten_keys().items()) for one in shown), rtol=0, atol=0)


def test_the_state_dict_carries_the_generator(model, form):
    env, other = form(model), form(model)
    env.set_seed(1), other.set_seed(2)
    env.rollout(3)
    other.load_state_dict(env.state_dict())
    assert torch.equal(other.simulator.generator.get_state(), env.simulator.generator.get_state())


@pytest.mark.filterwarnings("ignore:.*InitTracker")
def test_a_collector_on_a_bare_dream_is_resumed(model):
    envs = [stateful(model) for _ in range(2)]
    key = next(iter(envs[0].observation_spec.keys()))
    policy = TensorDictSequential(Act(model, key, envs[0].observation_spec[key].ndim - 1))
    first, second = (Collector(env, policy, frames_per_batch=6, total_frames=12) for env in envs)
    next(iter(first))
    second.load_state_dict(first.state_dict())
    assert len(list(second)) == 1  # of the two batches one was taken
    with pytest.raises(RuntimeError, match="_extra_state"):
        stateful(model).load_state_dict({"something": torch.zeros(1)})


def test_type_checks_are_made_where_they_are_asked_for(model, form):
    dtype = torch.float32

    def reward(state, action, after):
        return torch.zeros(*action.shape[: action.ndim - model.action_spec.ndim], 1, dtype=dtype)

    env = form(model, run_type_checks=True, reward=reward)
    env.rollout(3, break_when_any_done=False)
    dtype = torch.float64
    with pytest.raises(TypeError, match="float64"):
        env.rollout(2)


@pytest.mark.filterwarnings("ignore:.*pixels")
def test_pixels_come_by_torchrls_own_transform(model):
    env = TransformedEnv(stateful(model), PixelRenderTransform(out_keys=["frame"]))
    shown = env.rollout(5, break_when_any_done=False)["frame"]
    assert shown.shape[:2] == (3, 5) and shown.dtype is torch.uint8 and shown.shape[-1] == 3
    assert env.base_env.render().shape == shown[:, 0].shape
    branching = stateless(model)
    frames = branching.render(branching.reset(TensorDict(batch_size=[2, 2])))
    assert frames.shape[:2] == (2, 2) and frames.shape[-1] == 3


def test_two_dreams_without_a_seed_differ(form):
    model = MODELS[1][1]()
    shown = []
    for _ in range(2):
        env = form(model)
        policy = Act(model, next(key for key in env.observation_spec.keys() if key != "elapsed"))
        shown.append(env.rollout(3, policy, break_when_any_done=False)["next", "reward"])
    assert not torch.equal(*shown)


def test_a_first_reset_may_name_every_row(model):
    env = stateful(model)
    assert not env.reset(TensorDict({"_reset": torch.ones(3, 1, dtype=torch.bool)}, batch_size=[3]))["done"].any()
    with pytest.raises(ValueError, match="first reset"):
        mask = torch.tensor([[True], [True], [False]])
        stateful(model).reset(TensorDict({"_reset": mask}, batch_size=[3]))


def test_a_model_that_shows_what_is_not_finite_is_named(model):
    env = stateful(model)
    env.reset()
    imagine = env.simulator.rules.imagine

    def spoilt(*given):
        prediction = imagine(*given)
        return prediction._replace(reward=prediction.reward * float("nan"))

    env.simulator.rules.imagine = spoilt
    with pytest.raises(NotFiniteError, match="'reward' is not finite"):
        env.rollout(1)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deep", "pickle"])
def test_copies_are_dreams_of_their_own(form, clone):
    env = form(MODELS[1][1]())
    env.set_seed(3)
    twin = clone(env)
    assert twin.simulator.model is not env.simulator.model and twin.simulator.generator is not env.simulator.generator
    torch.manual_seed(0)
    ours = env.rollout(5, break_when_any_done=False)
    torch.manual_seed(0)
    theirs = twin.rollout(5, break_when_any_done=False)
    assert_same(dict(ours.flatten_keys().items()), dict(theirs.flatten_keys().items()), rtol=0, atol=0)


def test_the_environment_does_not_own_the_model(model, form):
    env = form(model.train())
    assert list(env.parameters()) == [] and all(part.training for part in model.modules())
    env.eval()
    env.rollout(2)
    assert all(part.training for part in model.modules())
    model.eval()
    env.train()
    env.rollout(2)
    assert not any(part.training for part in model.modules())
    assert env.to("cpu") is env
    with pytest.raises(ValueError, match="device"):
        env.to("meta")


def test_rollouts_break_as_asked(model, form):
    env = form(model, horizon=3)
    assert env.rollout(10).batch_size[-1] == 3
    if env.batch_size:
        assert env.rollout(10, break_when_any_done=False, break_when_all_done=True).batch_size[-1] == 3
    long = env.rollout(10, break_when_any_done=False)
    flags = long["next", "done"].reshape(-1, 10)
    assert (flags == torch.tensor([False, False, True] * 3 + [False])).all()


def test_standard_transforms_work_on_the_locked_form(model):
    env = TransformedEnv(
        stateful(model, horizon=9),
        Compose(InitTracker(), StepCounter(3), RewardSum(), TensorDictPrimer(h=Unbounded(7), expand_specs=True)),
    )
    check_env_specs(env, seed=0)
    shown = env.rollout(8, break_when_any_done=False)
    assert shown["h"].shape == (3, 8, 7)
    assert shown["is_init"][0].flatten().tolist() == [True, False, False] * 2 + [True, False]
    assert shown["next", "truncated"][0].flatten().tolist() == [False, False, True] * 2 + [False] * 2
    reward = shown["next", "reward"]
    torch.testing.assert_close(shown["next", "episode_reward"][:, 2], reward[:, :3].sum(1))
    torch.testing.assert_close(shown["next", "episode_reward"][:, 5], reward[:, 3:6].sum(1))


def test_serial_env_stacks_dreams(model):
    env = SerialEnv(2, lambda: stateful(model))
    env.set_seed(0)
    assert env.batch_size == (2, 3)
    assert env.rollout(6, break_when_any_done=False).batch_size == (2, 3, 6)
    env.close()


def test_cem_plans_on_the_stateless_form(model):
    if not is_continuous(model):
        pytest.skip("CEM plans continuous actions")
    env = stateless(model, horizon=None)
    planner = CEMPlanner(env, planning_horizon=3, optim_steps=2, num_candidates=8, top_k=3)
    shown = env.rollout(2, planner, tensordict=env.reset(TensorDict(batch_size=[2])), auto_reset=False)
    assert shown["action"].shape == (2, 2, *model.action_spec.shape)


@pytest.mark.filterwarnings("ignore:.*InitTracker")  # torchrl recommends one for recurrent policies to every collector
def test_a_collector_takes_three_batches(model):
    env = stateful(model)
    batches = list(Collector(env, RandomPolicy(env.full_action_spec), frames_per_batch=12, total_frames=36))
    assert len(batches) == 3 and all(batch.batch_size == (3, 4) for batch in batches)
    assert not all(torch.equal(batches[0][key], batches[1][key]) for key in env.observation_spec.keys())


def test_a_recurrent_policy_brings_its_own_primers(model):
    if "features" not in model.capabilities:
        pytest.skip("no vector view")
    width = model.features(model.initial_state((1,))).shape[-1]
    gru = GRUModule(
        input_size=width, hidden_size=4, in_keys=["latent", "rs", "is_init"], out_keys=["memory", ("next", "rs")]
    )
    policy = TensorDictSequential(gru, Act(model, "memory"))
    env = stateful(model, view="latent")
    env = TransformedEnv(env, Compose(InitTracker(), gru.make_tensordict_primer()))
    shown = env.rollout(6, policy, break_when_any_done=False)
    starts = shown["is_init"].squeeze(-1)
    assert not shown["rs"][starts].any() and shown["rs"][~starts].any()
    primed = TorchRLDreamEnv(model, [3], horizon=3, view="latent", policy=policy)
    assert primed.rollout(4, policy, break_when_any_done=False)["rs"].shape[:2] == (3, 4)


def test_policy_losses_of_torchrl_train_on_latents(model):
    if "features" not in model.capabilities or not is_continuous(model):
        pytest.skip("continuous latents only")
    width, size = model.features(model.initial_state((1,))).shape[-1], model.action_spec.shape.numel()
    data = stateful(model, view="latent").rollout(8, break_when_any_done=False)

    def actor():
        net = nn.Sequential(nn.Linear(width, 2 * size), Split())
        return ProbabilisticActor(
            TensorDictModule(net, ["latent"], ["loc", "scale"]),
            in_keys=["loc", "scale"],
            distribution_class=TanhNormal,
            distribution_kwargs={"low": model.action_spec.space.low, "high": model.action_spec.space.high},
            return_log_prob=True,
        )

    act = actor()
    value = ValueOperator(nn.Linear(width, 1), in_keys=["latent"])
    loss = ClipPPOLoss(act, value)
    with torch.no_grad():
        sampled = act(data.select("latent"))
        data["action"], data["action_log_prob"] = sampled["action"], sampled["action_log_prob"]
        loss.make_value_estimator()
        loss.value_estimator(data, params=loss.critic_network_params, target_params=loss.target_critic_network_params)
    total(loss(data)).backward()
    assert all(p.grad is not None for p in (*act.parameters(), *value.parameters()))
    q_value = ValueOperator(Joined(width + size), in_keys=["latent", "action"])
    sac = SACLoss(actor(), q_value, action_spec=model.action_spec)
    SoftUpdate(sac, eps=0.99)
    total(sac(data.reshape(-1))).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in sac.parameters())


def total(losses):
    return sum(value for key, value in losses.items() if key.startswith("loss_"))


class Split(nn.Module):
    def forward(self, x):
        loc, scale = x.chunk(2, -1)
        return loc, nn.functional.softplus(scale) + 0.1


class Joined(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Linear(width, 1)

    def forward(self, latent, action):
        return self.net(torch.cat([latent, action], -1))


class Named(WorldModel):
    """One state entry of a given name; features may show more than it."""

    def __init__(self, name, width):
        super().__init__(
            observation_spec=Composite(observation=Unbounded(3)),
            action_spec=Bounded(-1, 1, (1,)),
            state_spec=Composite({name: Unbounded(2)}),
        )
        self.name, self.width = name, width

    def observe(self, state, action, observation, is_init, noise):
        return {self.name: observation["observation"][..., :2].clone()}

    def imagine(self, state, action, noise):
        after = state[self.name] + action
        return Prediction({self.name: after}, after[..., :1] * 2, torch.ones_like(after[..., :1]))

    def features(self, state):
        return state[self.name].repeat_interleave(self.width, -1)


def test_the_stateless_form_refuses_two_things_under_one_name():
    for model in (Named("elapsed", 1), Named("done", 1), Named("latent", 2)):
        with pytest.raises(ValueError, match=model.name):
            TorchRLStatelessDreamEnv(model)
    env = TorchRLStatelessDreamEnv(Named("latent", 1), starts=FixedStarts({"latent": torch.rand(3, 2)}))
    check_env_specs(env, seed=0)
    check_env_specs(TorchRLDreamEnv(Named("latent", 2), [3], view="latent"), seed=0)
