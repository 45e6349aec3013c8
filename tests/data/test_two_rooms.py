"""The two rooms: walls hold, the door lets through, rows are what single environments are."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.data import make_env
from wmcomponents.data.two_rooms import (
    BY_DOOR,
    DOOR,
    DOT,
    LONGEST_STEP,
    NEAR,
    WALL,
    Rooms,
    TwoRooms,
    TwoRoomsVector,
    drawn_rooms,
    moved,
    picture,
    shown,
)


@given(st.integers(0, 10_000), st.floats(0, 2 * np.pi), st.floats(0, 10))
def test_no_move_leads_into_or_through_a_wall(seed, angle, length):
    generator = np.random.default_rng(seed)
    rooms = drawn_rooms(16, generator)
    step = length * np.array([np.cos(angle), np.sin(angle)])
    for _ in range(40):
        before, rooms = rooms, moved(rooms, step + generator.normal(size=(16, 2)))
        x, y = rooms.position.T
        assert (np.linalg.norm(rooms.position - before.position, axis=-1) <= LONGEST_STEP + 1e-9).all()
        assert (rooms.position >= 4).all() and (rooms.position <= 59).all()
        in_wall = np.abs(x - rooms.wall) < WALL / 2 + DOT - 1e-9
        assert (np.abs(y - rooms.door)[in_wall] <= DOOR / 2 - DOT + 1e-9).all()


def test_the_door_leads_to_the_other_room_and_the_wall_does_not():
    rooms = Rooms(np.array([[20.0, 32.0], [20.0, 10.0]]), np.zeros((2, 2)), np.full(2, 32.0), np.full(2, 32.0))
    for _ in range(20):
        rooms = moved(rooms, np.array([[2.0, 0.0], [2.0, 0.0]]))
    assert rooms.position[0, 0] > 50 and rooms.position[1].tolist() == [32 - WALL / 2 - DOT, 10.0]


@pytest.mark.parametrize(("width", "y", "gets"), [(8.0, 3.0, False), (12.0, 3.0, True), (12.0, 5.0, False)])
def test_a_wider_door_lets_through_what_a_narrow_one_stops(width, y, gets):
    rooms = Rooms(np.array([[20.0, 32.0 + y]]), np.zeros((1, 2)), np.full(1, 32.0), np.full(1, 32.0), np.full(1, width))
    for _ in range(20):
        rooms = moved(rooms, np.array([[2.0, 0.0]]))
    assert (rooms.position[0, 0] > 50) == gets
    assert (picture(rooms)[0, :, 32, 1] == 0).sum() == width + 1  # rows of pixels whose middle lies in the door


def test_the_rooms_of_an_environment_have_the_door_that_is_asked_for():
    vector = TwoRoomsVector(3, door_width=12.0, random_wall=False)
    vector.reset(seed=0)
    assert vector.rooms.width.tolist() == [12.0] * 3
    assert (TwoRooms(door_width=12.0, random_wall=False).reset(seed=0)[0][:, 32, 1] == 0).sum() == 12
    for kind in (TwoRooms, TwoRoomsVector):
        with pytest.raises(ValueError, match="more than the dot's 4 pixels and less than the side's 64; got 4.0"):
            kind(door_width=4.0)


def test_walks_may_begin_by_the_door_on_both_sides_and_never_in_a_wall():
    rooms = drawn_rooms(2_000, np.random.default_rng(0), door_starts=1.0)
    across, along = (rooms.position - np.stack([rooms.wall, rooms.door], -1)).T
    assert np.abs(across).max() <= BY_DOOR and np.abs(along).max() <= BY_DOOR
    assert (np.abs(along[np.abs(across) < WALL / 2 + DOT]) <= DOOR / 2 - DOT).all()
    assert 0.4 < (across < 0).mean() < 0.6 and ((across < 0) != (rooms.goal[:, 0] < rooms.wall)).all()
    walked = moved(rooms, np.zeros((2_000, 2)))
    np.testing.assert_allclose(walked.position, rooms.position, atol=1e-12)  # nobody stands where nobody can


def test_the_share_of_starts_by_the_door_is_what_is_asked_for():
    vector = TwoRoomsVector(2_000, door_starts=0.5)
    vector.reset(seed=0)
    near = np.abs(vector.rooms.position - np.stack([vector.rooms.wall, vector.rooms.door], -1)).max(-1) <= BY_DOOR
    assert 0.5 < near.mean() < 0.62  # some are there by chance
    for kind in (TwoRooms, TwoRoomsVector):
        with pytest.raises(ValueError, match=r"door_starts is a chance in \[0, 1\]; got 1.5"):
            kind(door_starts=1.5)


def test_start_and_goal_lie_in_different_rooms_and_pictures_show_them():
    rooms = drawn_rooms(64, np.random.default_rng(0))
    assert ((rooms.position[:, 0] < rooms.wall) != (rooms.goal[:, 0] < rooms.wall)).all()
    frames = picture(rooms).astype(float)
    weight = frames[..., 0] / frames[..., 0].sum((1, 2), keepdims=True)
    line = np.arange(64)
    centre = np.stack([(weight.sum(1) * line).sum(-1), (weight.sum(2) * line).sum(-1)], -1)
    assert np.abs(centre - rooms.position).max() < 0.2
    assert (shown(rooms)[..., 2] == picture(rooms, rooms.goal)[..., 0]).all()


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized", "ignore:.*not having a spec")
def test_it_is_an_environment_of_gymnasium_and_of_torchrl():
    check_env(TwoRooms(goal=True, render_mode="rgb_array"), skip_render_check=False)
    env = make_env("wmcomponents/TwoRooms-v0", env_kwargs={"goal": True}, seed=0)
    rolled = env.rollout(3)
    assert rolled["desired_goal"].shape == (3, 64, 64, 3) and (rolled["next", "reward"] < 0).all()


def test_it_ends_at_the_goal():
    env = TwoRooms()
    env.reset(seed=1)
    env.rooms = env.rooms._replace(goal=env.rooms.position + [NEAR + 1.0, 0.0])
    observation, reward, terminated, truncated, info = env.step([2.0, 0.0])
    assert terminated and not truncated and info["is_success"] and observation.shape == (64, 64, 3)
    assert reward == pytest.approx(-np.linalg.norm(info["position"] - info["goal"]) / 64)


def test_rows_move_as_single_environments_do_and_begin_anew_after_their_end():
    rows = gymnasium.make_vec("wmcomponents/TwoRooms-v0", num_envs=3, vectorization_mode="vector_entry_point")
    assert isinstance(rows.unwrapped, TwoRoomsVector)
    rows = TwoRoomsVector(3, max_episode_steps=4)
    rows.reset(seed=0)
    single = TwoRooms()
    single.reset(seed=0)
    single.rooms = Rooms(*(part[1:2] for part in rows.rooms))
    for t in range(4):
        seen, reward, ended, cut, info = rows.step(np.ones((3, 2)))
        alone, paid, *_ = single.step(np.ones(2))
        assert (
            np.array_equal(seen[1], alone)
            and reward[1] == paid
            and cut.tolist() == [t == 3 and not ended[i] for i in range(3)]
        )
    start = info["position"]
    _, reward, _, cut, info = rows.step(np.ones((3, 2)))
    assert (reward == 0).all() and not cut.any() and (np.abs(info["position"] - start) > 3).any()
