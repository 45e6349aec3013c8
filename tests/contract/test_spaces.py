"""One test over all spaces: what reality shows and takes, the dream shows and takes, and the way back accepts."""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from tensordict import TensorDict
from torchrl.data import Bounded, Composite
from torchrl.envs import GymWrapper, TransformedEnv
from torchrl.envs.transforms import DoubleToFloat

from tests.support.models import MODELS
from tests.support.showing import Shows
from wmcomponents.codecs import (
    ActionBounds,
    SpaceError,
    action_spec_from_space,
    observation_spec_from_space,
    space_from_spec,
    specs_from,
)
from wmcomponents.data import RandomPolicy, action_spec, make_env, observation_spec
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv, LatentObservation, LatentVectorObservation
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.spaces import ActionReader
from wmcomponents.integrations.torchrl import TorchRLDreamEnv, TorchRLStatelessDreamEnv
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.pretrained.specs import spec_from_json, spec_to_json
from wmcomponents.testing.toy import ToyWorldModel

VECTOR = spaces.Box(-1, 1, (3,), np.float32)

ENTRIES = {
    "floats": spaces.Box(-2, 2, (3,), np.float32),
    "doubles": spaces.Box(-2, 2, (3,), np.float64),
    "halves": spaces.Box(-2, 2, (3,), np.float16),
    "any float": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "any double": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "half-open": spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 3]), (2,), np.float32),
    "matrix": spaces.Box(-1, 1, (2, 2), np.float32),
    "scalar": spaces.Box(-1, 1, (), np.float32),
    "bytes": spaces.Box(0, 255, (5,), np.uint8),
    "int8": spaces.Box(-3, 9, (2,), np.int8),
    "int16": spaces.Box(-5, 9, (3,), np.int16),
    "int32": spaces.Box(-5, 9, (3,), np.int32),
    "int64 matrix": spaces.Box(0, 7, (3, 2), np.int64),
    "uint16": spaces.Box(0, 65535, (3,), np.uint16),
    "uint32": spaces.Box(0, 2**32 - 1, (3,), np.uint32),
    "bool": spaces.Box(0, 1, (3,), np.bool_),
    "discrete": spaces.Discrete(3),
    "discrete from 1": spaces.Discrete(3, start=1),
    "discrete from -1": spaces.Discrete(3, start=-1),
    "small discrete": spaces.Discrete(4, dtype=np.int32),
    "multi-discrete": spaces.MultiDiscrete([3, 4]),
    "equal multi-discrete": spaces.MultiDiscrete([3, 3]),
    "single multi-discrete": spaces.MultiDiscrete([3]),
    "small multi-discrete": spaces.MultiDiscrete([3, 4], dtype=np.int32),
    "multi-discrete from elsewhere": spaces.MultiDiscrete([3, 4], start=[1, -2]),
    "multi-discrete of two axes": spaces.MultiDiscrete([[3, 4], [2, 5]]),
    "equal multi-discrete of two axes": spaces.MultiDiscrete([[3, 3], [3, 3]]),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary of two axes": spaces.MultiBinary((2, 3)),
}
OBSERVATIONS = {
    **ENTRIES,
    "board": spaces.Box(0, 1, (6, 6, 2), np.bool_),
    "image": spaces.Box(0, 255, (16, 16, 3), np.uint8),
    "image of floats": spaces.Box(0, 1, (16, 16, 3), np.float32),
    "grey": spaces.Box(0, 255, (16, 16), np.uint8),
    "channels first": spaces.Box(0, 255, (3, 16, 16), np.uint8),
    "stack": spaces.Box(0, 255, (4, 16, 16, 3), np.uint8),
    "Dict": spaces.Dict(y=spaces.Discrete(3, start=1), a=VECTOR, m=spaces.MultiBinary(2)),
    "Dict with a state": spaces.Dict(state=VECTOR, camera=spaces.Box(0, 255, (16, 16, 3), np.uint8)),
    "Dict of an observation": spaces.Dict(observation=VECTOR),
    "Dict of pixels": spaces.Dict(pixels=spaces.Box(0, 255, (16, 16, 3), np.uint8)),
    "Dict of a state": spaces.Dict(state=VECTOR),
    "Dict of common names": spaces.Dict(step_count=VECTOR, latent=VECTOR, episode_reward=spaces.Discrete(2)),
    "Dict of scalars": spaces.Dict(b=spaces.Box(-1, 1, (), np.float64), a=spaces.Box(0, 9, (), np.int64)),
}
CASES = [("observes", name) for name in OBSERVATIONS] + [("takes", name) for name in ENTRIES]


def equal(space, other):
    """Equality as agents need it: also of dtypes and of the order of entries, which Gymnasium leaves out."""
    if isinstance(space, spaces.Dict):
        same_order = list(space.spaces) == list(other.spaces)
        return space == other and same_order and all(equal(space[key], other[key]) for key in space.spaces)
    return space == other and space.dtype == other.dtype and type(space) is type(other)


@pytest.fixture(params=CASES, ids=[f"{role} {name}" for role, name in CASES])
def real(request):
    role, name = request.param
    return Shows(OBSERVATIONS[name]) if role == "observes" else Shows(VECTOR, ENTRIES[name])


def test_every_space_is_the_same_in_reality_in_the_dream_and_on_the_way_back(real):
    observed, acted = real.observation_space, real.action_space
    env = make_env(Shows(observed, acted), seed=0, image_size=None)
    shown, taken = observation_spec(env), action_spec(env)
    assert equal(space_from_spec(shown), observed) and equal(space_from_spec(taken), acted)

    # Reality: what the environment shows lies in the specs, what explores it lies in its space (it asserts so).
    steps = env.rollout(6, policy=RandomPolicy(env.action_spec), break_when_any_done=False)
    assert all(shown[key].is_in(steps[key][0]) for key in shown.keys()) and taken.is_in(steps["action"][0])

    # A model of it, as saved and loaded.
    specs = [spec_from_json(json.loads(json.dumps(spec_to_json(spec), sort_keys=True))) for spec in (shown, taken)]
    model = ToyWorldModel(*specs)

    dream = DreamEnv(model, horizon=4)
    assert equal(dream.observation_space, observed) and equal(dream.action_space, acted)
    dream.action_space.seed(0)
    assert observed.contains(dream.reset(seed=0)[0])
    assert observed.contains(dream.step(dream.action_space.sample())[0])

    many = DreamVectorEnv(model, 3, horizon=4)
    assert equal(many.single_observation_space, observed) and equal(many.single_action_space, acted)
    many.action_space.seed(0)
    assert many.observation_space.contains(many.reset(seed=0)[0])
    assert many.observation_space.contains(many.step(many.action_space.sample())[0])

    rows = DreamVecEnv(model, 2, horizon=4)
    assert equal(rows.observation_space, observed) and equal(rows.action_space, acted)
    rows.reset()
    rows.step(np.stack([np.asarray(acted.sample()) for _ in range(2)]))

    tensors = TorchRLDreamEnv(model, [2], horizon=4)
    for key in shown.keys():
        assert tensors.observation_spec_unbatched[key] == env.observation_spec_unbatched[key]
    assert tensors.action_spec_unbatched == env.action_spec_unbatched
    tensors.rollout(3, policy=RandomPolicy(tensors.action_spec))

    back = LatentObservation(Shows(observed, acted), model)
    assert equal(back.action_space, acted)
    back.reset(seed=0)
    back.step(back.action_space.sample())
    pair = LatentVectorObservation(SyncVectorEnv([lambda: Shows(observed, acted)] * 2), model)
    pair.reset(seed=0)
    pair.step(pair.action_space.sample())


def test_specs_from_spaces_are_those_of_the_environment(real):
    env = make_env(Shows(real.observation_space, real.action_space), image_size=None)
    shown, taken = specs_from(real)
    assert shown == observation_spec(env) and taken == action_spec(env)
    assert equal(space_from_spec(shown), real.observation_space)


BARE = [
    case
    for case in CASES
    if "from" not in case[1] and case[1] not in ("multi-binary of two axes", "uint16", "uint32", "Dict")
]


@pytest.mark.parametrize(("role", "name"), BARE, ids=[f"{role} {name}" for role, name in BARE])
def test_an_environment_that_the_user_wrapped_keeps_its_spaces_too(role, name):
    env = Shows(OBSERVATIONS[name]) if role == "observes" else Shows(VECTOR, ENTRIES[name])
    wrapped = TransformedEnv(GymWrapper(env), DoubleToFloat())
    model = ToyWorldModel(observation_spec(wrapped), action_spec(wrapped))
    dream = DreamEnv(model, horizon=4)
    assert equal(dream.observation_space, env.observation_space) and equal(dream.action_space, env.action_space)
    back = LatentObservation(env, model)
    back.reset(seed=0)
    back.step(back.action_space.sample())


@pytest.mark.parametrize(
    "observation", [spaces.Discrete(3, start=1), spaces.Dict(a=spaces.Discrete(3, start=1), b=VECTOR)]
)
def test_torchrls_own_wrapper_of_a_choice_that_begins_elsewhere_is_refused(observation):
    with pytest.raises(SpaceError, match=r"counts every choice from zero.*start.*make_env\(env\)"):
        observation_spec(GymWrapper(Shows(observation)))
    with pytest.raises(SpaceError, match="start"):
        action_spec(GymWrapper(Shows(VECTOR, spaces.Discrete(3, start=-1))))


REFUSED = {
    "Tuple": (spaces.Tuple((VECTOR, spaces.Discrete(2))), "FlattenObservation"),
    "Text": (spaces.Text(8), "FilterObservation"),
    "Graph": (spaces.Graph(VECTOR, None), "TransformObservation"),
    "Sequence": (spaces.Sequence(VECTOR), "TransformObservation"),
    "OneOf": (spaces.OneOf((VECTOR, spaces.Discrete(2))), "TransformObservation"),
    "Dict": (spaces.Dict(b=VECTOR), "FlattenObservation"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_space_that_cannot_be_modelled_is_refused_at_once_with_its_name_and_the_wrapper(kind):
    space, wrapper = REFUSED[kind]
    for place in (
        lambda: make_env(Shows(spaces.Dict(mission=space, x=VECTOR))),
        lambda: observation_spec_from_space(spaces.Dict(mission=space, x=VECTOR)),
        lambda: ToyWorldModel(observation_spec=spaces.Dict(mission=space, x=VECTOR), action_spec=spaces.Discrete(2)),
    ):
        with pytest.raises(SpaceError, match=rf"entry 'mission' is a {kind} space.*{wrapper}"):
            place()
    with pytest.raises(SpaceError, match=rf"the action is a {kind} space.*TransformAction"):
        make_env(Shows(VECTOR, space))
    if kind != "Dict":
        with pytest.raises(SpaceError, match=rf"the observation is a {kind} space.*{wrapper}"):
            make_env(Shows(space))


@pytest.mark.parametrize("name", ["reward", "done", "action", "next", "is_init", "terminated", "_reset"])
def test_a_name_that_tensordicts_use_is_refused_with_the_wrapper_that_renames(name):
    with pytest.raises(SpaceError, match=f"{name!r}.*rename.*TransformObservation"):
        make_env(Shows(spaces.Dict({name: VECTOR, "x": VECTOR})))


def test_an_entry_called_step_count_is_kept_or_refused_but_never_overwritten():
    env = Shows(spaces.Dict(step_count=VECTOR, x=VECTOR))
    assert list(observation_spec(make_env(env)).keys()) == ["step_count", "x"]
    with pytest.raises(SpaceError, match="'step_count'.*rename"):
        make_env(env, max_episode_steps=5)


def test_a_dtype_that_no_tensor_computes_with_is_refused():
    with pytest.raises(SpaceError, match="longdouble|float128|float96"):
        observation_spec_from_space(spaces.Box(-1, 1, (2,), np.longdouble))
    with pytest.raises(SpaceError, match="uint64"):
        observation_spec_from_space(spaces.Box(0, 2**64 - 1, (2,), np.uint64))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("give", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
@pytest.mark.parametrize("name", ["discrete", "discrete from 1", "equal multi-discrete", "multi-discrete of two axes"])
def test_a_choice_means_the_same_in_every_integer_type(name, kind, give):
    spec = action_spec_from_space(ENTRIES[name])
    read = ActionReader(spec, torch.device("cpu"))
    number = int(np.max(ENTRIES[name].start)) + 1
    actions = np.full((2, *read.space.shape), number)
    assert torch.equal(read(give(actions.astype(kind)), 2), read(actions, 2))


CONTINUOUS = [(name, make) for name, make in MODELS if isinstance(make().action_spec, Bounded)]


@pytest.mark.parametrize(("name", "make"), CONTINUOUS, ids=[name for name, _ in CONTINUOUS])
def test_actions_out_of_bounds_are_clipped_in_every_adapter_and_family(name, make):
    """As reality does: a model would extrapolate to where it was never shown anything."""
    torch.manual_seed(0)
    model = make().eval()
    view = "decoded" if "decode" in model.capabilities else "latent"
    options = {"view": view, "horizon": 5}
    high = model.action_spec.space.high
    far, near = torch.stack([high * 8, high * -3]), torch.stack([high, -high])
    rewards = []
    for action in (far, near):
        many, rows = DreamVectorEnv(model, 2, **options), DreamVecEnv(model, 2, seed=0, **options)
        single, tensors = DreamEnv(model, **options), TorchRLDreamEnv(model, [2], seed=0, **options)
        free = TorchRLStatelessDreamEnv(model, seed=0, view=view)
        many.reset(seed=0), rows.reset(), single.reset(seed=0)
        seen = [many.step(action.numpy())[1], rows.step(action.numpy())[1], single.step(action[0].numpy())[1]]
        for start, env in ((tensors.reset(), tensors), (free.reset(TensorDict(batch_size=[2])), free)):
            seen.append(env.step(start.set("action", action))["next", "reward"].detach())
        rewards.append([np.asarray(value) for value in seen])
    for clipped, bounded in zip(*rewards, strict=True):
        np.testing.assert_array_equal(clipped, bounded)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_an_action_that_is_no_number_is_refused_with_its_row(strange):
    bounds = Bounded(-1, 1, (2,)) if np.isnan(strange) else action_spec_from_space(ENTRIES["any float"])
    model = ToyWorldModel(Composite(observation=Bounded(-1, 1, (2,))), bounds)
    action = np.zeros((3, *bounds.shape), np.float32)
    action[1, 0] = strange
    many = DreamVectorEnv(model, 3)
    many.reset(seed=0)
    rows = DreamVecEnv(model, 3)
    rows.reset()
    tensors, free = TorchRLDreamEnv(model, [3]), TorchRLStatelessDreamEnv(model)
    for act in (
        lambda: many.step(action),
        lambda: rows.step(action),
        lambda: tensors.step(tensors.reset().set("action", torch.from_numpy(action))),
        lambda: free.step(free.reset().expand(3).clone().set("action", torch.from_numpy(action))),
    ):
        with pytest.raises(SpaceError, match=r"rows \[1\]"):
            act()


@pytest.mark.parametrize("rows", [2, 64])
def test_huge_actions_whose_sum_overflows_are_numbers(rows):
    bounds = ActionBounds(action_spec_from_space(spaces.Box(-np.inf, np.inf, (4,), np.float32)), torch.device("cpu"))
    huge = torch.full((rows, 4), 3e38)
    assert torch.equal(bounds(huge), huge)
    assert torch.equal(bounds.of_array(huge.numpy()), huge)


@pytest.mark.parametrize("rows", [1, 2, 64])
@pytest.mark.parametrize("far", [0.5, 8.0])
def test_arrays_and_tensors_are_clipped_alike_and_arrays_stay_the_callers(rows, far):
    bounds = ActionBounds(Bounded(-1, 1, (4,)), torch.device("cpu"))
    action = np.full((rows, 4), far, np.float32)
    action[-1, 2] = -far
    clipped = bounds.of_array(action)
    assert torch.equal(clipped, bounds(torch.from_numpy(action)))
    assert clipped[-1].tolist() == [min(far, 1), min(far, 1), -min(far, 1), min(far, 1)]
    clipped.fill_(9)
    assert np.abs(action).max() == far


@pytest.mark.parametrize("rows", [1, 2, 64])
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_one_strange_number_among_many_or_few_is_found(rows, strange):
    bounds = ActionBounds(Bounded(-1, 1, (4,)), torch.device("cpu"))
    action = np.full((rows, 4), 0.5, np.float32)
    action[-1, 1] = strange
    for read in (bounds.of_array, lambda array: bounds(torch.from_numpy(array))):
        with pytest.raises(SpaceError, match=rf"rows \[{rows - 1}\]"):
            read(action)


def test_bits_are_zeros_and_ones_of_any_type():
    read = ActionReader(action_spec_from_space(spaces.MultiBinary(2)), torch.device("cpu"))
    assert read(np.array([[1.0, 0.0]], np.float32), 1).tolist() == [[1, 0]]
    with pytest.raises(SpaceError, match="zeros and ones; got 2"):
        read(np.array([[1, 2]]), 1)


def test_an_environments_own_spec_is_read_without_its_mark_of_starts():
    env = make_env("CartPole-v1")
    assert "is_init" in env.observation_spec.keys()
    model = DreamerV3(DreamerV3Config.tiny(), env.observation_spec, env.action_spec)
    assert set(model.observation_spec.keys()) == set(observation_spec(env).keys()) == {"observation"}
