"""What SB3 and its clients ask of a vector environment beyond steps: attributes, infos, options, statistics, frames."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorWrapper
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.monitor import Monitor
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.real import LENGTH, Counts
from wmcomponents.integrations.gymnasium import DreamVectorEnv, EpisodeStatistics
from wmcomponents.integrations.sb3 import DreamVecEnv, GymnasiumVecEnv
from wmcomponents.testing.toy import ToyWorldModel

MODES = list(AutoresetMode)
SAME_STEP = AutoresetMode.SAME_STEP
by_mode = pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])


class Hill(gymnasium.Env):
    """Pays its slope; begins at the level that the reset's options say."""

    metadata = {"render_modes": ["human", "rgb_array"]}
    observation_space = spaces.Box(0, 99, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode=None, length=4):
        self.render_mode, self.length = render_mode, length
        self.slope, self.drawn = 1.0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock, self.level = 0, (options or {}).get("level", 0)
        return np.full(1, self.level, np.float32), {"seed": seed}

    def step(self, action):
        self.clock += 1
        return np.full(1, self.level, np.float32), float(self.slope), False, self.clock == self.length, {}

    def level_up(self, by):
        self.slope += by
        return self.slope

    def render(self):
        self.drawn += 1
        return np.full((4, 4, 3), self.drawn, np.uint8) if self.render_mode == "rgb_array" else None


@pytest.fixture(params=["in-this-process", "in-workers", "in-workers-unshared"])
def hills(request):
    """Three monitored hills behind the adapter, wherever they stand."""
    makers = [lambda: Monitor(Hill())] * 3
    if request.param == "in-this-process":
        inner = SyncVectorEnv(makers, autoreset_mode=SAME_STEP)
    else:
        shared = request.param == "in-workers"
        inner = AsyncVectorEnv(makers, autoreset_mode=SAME_STEP, shared_memory=shared, context="fork")
    env = GymnasiumVecEnv(EpisodeStatistics(inner))
    env.reset()
    yield env
    inner.close(**({} if request.param == "in-this-process" else {"terminate": True}))


@pytest.mark.filterwarnings("ignore:.*use of fork")  # Python 3.12 warns where threads are about
def test_attributes_and_methods_are_those_of_the_rows(hills):
    assert hills.get_attr("slope") == [1.0] * 3 and hills.get_attr("slope", indices=1) == [1.0]
    assert hills.env_method("level_up", 1.0, indices=[0]) == [2.0]
    assert hills.env_method("level_up", by=0.5, indices=[2, 0]) == [1.5, 2.5]
    assert hills.get_attr("slope", indices=[-1]) == [1.5]
    hills.set_attr("slope", 5.0, indices=[1])
    assert hills.get_attr("slope") == [2.5, 5.0, 1.5]
    hills.set_attr("slope", [7.0])  # a value that is a list is one value, for every row
    assert hills.get_attr("slope") == [[7.0]] * 3
    hills.set_attr("slope", 3.0)
    assert hills.step(np.zeros(3, int))[1].tolist() == [3.0] * 3


@pytest.mark.filterwarnings("ignore:.*use of fork")
def test_a_name_that_is_lacking_is_told_and_harms_no_worker(hills):
    assert hills.has_attr("level_up") and not hills.has_attr("action_masks")
    for ask in (hills.get_attr, hills.env_method):
        with pytest.raises(AttributeError, match="action_masks"):
            ask("action_masks")
    hills.set_attr("fresh", 1, indices=[2])
    assert not hills.has_attr("fresh") and hills.get_attr("num_envs", indices=[0]) == [3]
    assert hills.step(np.zeros(3, int))[1].tolist() == [1.0] * 3


@pytest.mark.filterwarnings("ignore:.*use of fork")
def test_wrappers_of_rows_and_of_the_vector_are_seen(hills):
    assert hills.env_is_wrapped(Monitor) == [True] * 3 and hills.env_is_wrapped(EpisodeStatistics, [0]) == [True]
    assert hills.env_is_wrapped(gymnasium.wrappers.TimeLimit) == [False] * 3


def test_what_would_end_a_worker_is_refused():
    inner = AsyncVectorEnv([Hill] * 2, autoreset_mode=SAME_STEP, context="fork")
    try:
        env = GymnasiumVecEnv(inner)
        with pytest.raises(ValueError, match="vector environment's own"):
            env.env_method("reset")
        assert env.reset().shape == (2, 1)
    finally:
        inner.close(terminate=True)


class Masked(VectorWrapper):
    """Row i may not take action i."""

    note = "of the wrapper"

    def action_masks(self):
        return ~np.eye(self.num_envs, 3, dtype=bool)

    def all_rows(self, factor):
        return np.arange(5) * factor


def dream(rows=3, **options):
    model = ToyWorldModel(Composite(observation=Bounded(-1, 1, (4,))), OneHot(3))
    return DreamVectorEnv(model, rows, horizon=4, termination="off", autoreset_mode=SAME_STEP, **options)


def test_rows_without_environments_of_their_own_share_what_the_vector_has():
    env = GymnasiumVecEnv(EpisodeStatistics(Masked(dream())))
    assert env.has_attr("action_masks") and env.get_attr("note", [0, 2]) == ["of the wrapper"] * 2
    np.testing.assert_array_equal(np.stack(env.env_method("action_masks")), ~np.eye(3, dtype=bool))
    np.testing.assert_array_equal(env.env_method("action_masks", indices=[2])[0], [True, True, False])
    (whole,) = env.env_method("all_rows", 2, indices=[0])
    assert whole.tolist() == [0, 2, 4, 6, 8]
    env.set_attr("note", "mine")
    assert env.env.env.note == "mine"
    env.set_attr("fresh", 1)
    assert env.env.unwrapped.fresh == 1
    with pytest.raises(ValueError, match="share one model"):
        env.set_attr("note", "other", indices=[0])
    with pytest.raises(AttributeError):
        env.get_attr("nothing_of_this_name")


def test_masks_that_are_not_one_for_each_row_are_refused():
    class Wrong(DreamVecEnv):
        def action_masks(self):
            return np.ones(2, bool)

    with pytest.raises(ValueError, match="one entry for each"):
        Wrong(dream().simulator.model, 3).env_method("action_masks")


class Reach:
    """Hindsight's reward, of any number of goals at once."""

    def compute_reward(self, achieved, desired, infos):
        assert len(achieved) == len(desired) == len(infos)
        return -np.linalg.norm(achieved - desired, axis=-1)


GOALS = Composite(observation=Unbounded(2), achieved_goal=Unbounded(2), desired_goal=Unbounded(2))


class ReachDream(Reach, DreamVecEnv):
    pass


class ReachReal(Reach, gymnasium.Env):
    observation_space = spaces.Dict({key: spaces.Box(-1, 1, (2,), np.float32) for key in GOALS.keys()})
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.clock += 1
        seen = self.observation_space.sample()
        reward = self.compute_reward(seen["achieved_goal"][None], seen["desired_goal"][None], [{}])[0]
        return seen, float(reward), False, self.clock == 5, {}


@pytest.mark.parametrize("kind", ["dream", "real"])
def test_hindsight_replay_asks_for_rewards(kind):
    if kind == "dream":
        env = ReachDream(ToyWorldModel(GOALS, OneHot(3)), 2, horizon=5)
    else:
        env = GymnasiumVecEnv(SyncVectorEnv([ReachReal, ReachReal], autoreset_mode=SAME_STEP))
    options = {"learning_starts": 24, "batch_size": 8, "buffer_size": 100, "device": "cpu", "seed": 0}
    agent = DQN("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **options).learn(60)
    batch = agent.replay_buffer.sample(32)
    goals = batch.next_observations
    expected = -(goals["achieved_goal"] - goals["desired_goal"]).norm(dim=-1)
    relabelled = (batch.rewards.squeeze(-1) - expected).abs() < 1e-5
    assert relabelled.float().mean() > 0.5  # HER's 4 of 5 are of goals in hindsight


@pytest.mark.parametrize("mode", ["human", "rgb_array", None])
def test_rendering_reaches_every_row(mode):
    env = GymnasiumVecEnv(SyncVectorEnv([lambda: Hill(mode)] * 2, autoreset_mode=SAME_STEP))
    env.reset()
    if mode is None:
        assert env.get_images() == [None, None]
        return
    frame = env.render(mode)
    assert env.get_attr("drawn") == [1, 1] and env.get_attr("render_mode") == [mode] * 2
    assert (frame is None) == (mode == "human")
    assert [image is None for image in env.get_images()] == [mode == "human"] * 2


def test_a_vector_environment_that_renders_for_humans_is_drawn_once():
    class Window(VectorWrapper):
        render_mode, drawn = "human", 0

        def render(self):
            self.drawn += 1

    env = GymnasiumVecEnv(Window(dream()))
    env.reset()
    env.render("human")
    assert env.env.drawn == 1


class Tells(gymnasium.Env):
    """Infos of every shape: nested, arrays, texts, sometimes absent, with names like masks."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, row):
        self.row = row

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {"begun": self.row}

    def step(self, action):
        info = {"pose": {"at": np.full(2, self.row), "deeper": {"id": self.row}}, "name": f"row {self.row}"}
        if self.row == 1:
            info |= {"rare": 7, "_hidden": 3}
        return np.zeros(1, np.float32), 0.0, False, False, info


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def test_infos_arrive_as_each_environment_tells_them():
    inner = SyncVectorEnv([lambda row=row: Tells(row) for row in range(3)], autoreset_mode=SAME_STEP)
    env, own = GymnasiumVecEnv(inner), [Tells(row) for row in range(3)]
    env.reset()
    assert [info["begun"] for info in env.reset_infos] == [0, 1, 2]
    infos = env.step(np.zeros(3, int))[3]
    assert all(same(info, one.step(0)[-1]) for info, one in zip(infos, own, strict=True))


def test_infos_of_all_rows_arrive_as_gymnasium_unpacks_them():
    class Native(VectorWrapper):
        def step(self, actions):
            *step, _ = self.env.step(actions)
            some = np.array([True, False, True])
            return *step, {
                "lives": np.arange(3),
                "physics": {"speed": np.arange(3) / 2, "_speed": some, "mass": {"kg": np.ones(3)}},
                "episode": {"r": np.arange(3.0), "l": np.arange(3)},
                "_episode": some,
            }

    env, unpacked = GymnasiumVecEnv(Native(dream())), DictInfoToList(Native(dream()))
    env.reset(), unpacked.reset()
    infos, expected = env.step(np.zeros(3, int))[3], unpacked.step(np.zeros(3, int))[-1]
    assert all(same(info, one) for info, one in zip(infos, expected, strict=True))
    assert "episode" not in infos[1] and infos[2]["episode"] == {"r": 2.0, "l": 2}


def test_what_is_said_of_all_rows_at_once_is_said_of_each():
    class Native(VectorWrapper):
        def step(self, actions):
            return *self.env.step(actions)[:4], {"version": 2, "map": "hill"}

    env = GymnasiumVecEnv(Native(dream(2)))
    env.reset()
    assert env.step(np.zeros(2, int))[3] == [{"version": 2, "map": "hill"}] * 2


@by_mode
@pytest.mark.parametrize("shape", [(), (1,)], ids=["scalar", "vector"])
def test_last_observations_are_arrays_of_the_space(mode, shape):
    class Clock(Hill):
        observation_space = spaces.Box(0, 99, shape, np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(shape, np.float32), {}

        def step(self, action):
            _, *rest = super().step(action)
            return np.full(shape, self.clock, np.float32), *rest

    env = GymnasiumVecEnv(SyncVectorEnv([Clock, Clock], autoreset_mode=mode))
    env.reset()
    for _ in range(4):
        infos = env.step(np.zeros(2, int))[3]
    for info in infos:
        last = info["terminal_observation"]
        assert isinstance(last, np.ndarray) and env.observation_space.contains(last) and last.flatten() == [4]


@by_mode
@pytest.mark.parametrize("statistics", [EpisodeStatistics, RecordEpisodeStatistics])
def test_episode_statistics_arrive_and_are_right(mode, statistics):
    """Rows end at different times; Gymnasium's statistics forget every row whenever one is reset."""
    makers = [lambda row=row: Counts(row, LENGTH + row) for row in range(3)]
    env = GymnasiumVecEnv(statistics(SyncVectorEnv(makers, autoreset_mode=mode)))
    env.reset()
    told = []
    for _ in range(16):
        *_, dones, infos = env.step(np.zeros((3, 2), np.float32))
        assert ["episode" in info for info in infos] == dones.tolist()
        told += [(i, infos[i]["episode"]["l"], infos[i]["episode"]["r"]) for i in np.flatnonzero(dones)]
    # In SAME_STEP Gymnasium's own lose the first step of each episode but the first.
    exact = statistics is EpisodeStatistics or mode is not SAME_STEP
    for i, length, total in told if exact else told[:3]:
        assert (length, total) == (LENGTH + i, (LENGTH + i) * (LENGTH + i + 1) / 2)  # step t pays t
    assert len(told) == 5 + 4 + 3


@by_mode
def test_options_reach_their_rows(mode):
    env = GymnasiumVecEnv(SyncVectorEnv([Hill] * 4, autoreset_mode=mode))
    given = [{"level": 3}, {"level": 7}, {}, {"level": 7}]
    env.set_options(given)
    env.seed(10)
    assert env.reset()[:, 0].tolist() == [3, 7, 0, 7]
    assert [info["seed"] for info in env.reset_infos] == [10, 11, 12, 13]
    assert env.reset()[:, 0].tolist() == [0, 0, 0, 0] and [info["seed"] for info in env.reset_infos] == [None] * 4
    env.set_options({"level": 2, "map": np.zeros(2)})
    assert env.reset()[:, 0].tolist() == [2] * 4
    env.set_options([{"level": row, "map": np.zeros(2)} for row in range(4)])
    assert env.reset()[:, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="4 rows; got 2"):
        env.set_options(given[:2])


def test_options_that_cannot_reach_their_rows_are_refused():
    class Whole(VectorWrapper):
        def reset(self, *, seed=None, options=None):
            return self.env.reset(options={key: value for key, value in (options or {}).items() if key == "level"})

    env = GymnasiumVecEnv(Whole(SyncVectorEnv([Hill] * 2, autoreset_mode=SAME_STEP)))
    env.set_options([{"level": 3}, {"level": 7}])
    with pytest.raises(ValueError, match="same options"):
        env.reset()
    with pytest.raises(ValueError, match="starts"):
        DreamVecEnv(dream().simulator.model, 2).set_options({"level": 3})
    DreamVecEnv(dream().simulator.model, 2).set_options([{}, {}])


@pytest.mark.filterwarnings("ignore:.*use of fork")
@by_mode
def test_workers_without_shared_memory_are_exact_or_refused(mode):
    makers = [lambda row=row: Counts(row, LENGTH + row) for row in range(2)]
    inner = AsyncVectorEnv(makers, shared_memory=False, autoreset_mode=mode, context="fork")
    try:
        if mode is AutoresetMode.NEXT_STEP:
            with pytest.raises(ValueError, match="shared_memory=True"):
                GymnasiumVecEnv(inner)
            return
        env, own = GymnasiumVecEnv(inner), GymnasiumVecEnv(SyncVectorEnv(makers, autoreset_mode=SAME_STEP))
        np.testing.assert_array_equal(env.reset(), own.reset())
        for _ in range(9):
            action = np.full((2, 2), 0.5, np.float32)
            for one, other in zip(env.step(action)[:3], own.step(action)[:3], strict=True):
                np.testing.assert_array_equal(one, other)
    finally:
        inner.close(terminate=True)
