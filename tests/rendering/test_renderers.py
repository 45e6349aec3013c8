import numpy as np
import pytest
import torch
from torchrl.data import Binary, Bounded, Composite, Unbounded

from wmcomponents.rendering import RENDERERS, make_renderer
from wmcomponents.rendering.labels import COMPONENTS, component_labels

pytest.importorskip("pygame")
import gymnasium  # noqa: E402


@pytest.mark.parametrize("env_id", sorted(set(RENDERERS) - {"CartPole-v0"}))
def test_an_observation_is_drawn_as_the_environment_draws_itself(env_id):
    env = gymnasium.make(env_id, render_mode="rgb_array")
    observation, _ = env.reset(seed=3)
    for _ in range(3):
        env.action_space.seed(0)
        observation, *_ = env.step(env.action_space.sample())
    real = env.render().astype(int)
    if env_id == "Pendulum-v1":  # the arrow of the last torque is no part of the observation
        env.unwrapped.last_u = None
        real = env.render().astype(int)
    drawn = RENDERERS[env_id]({"observation": observation}).astype(int)
    assert drawn.shape == real.shape
    assert (np.abs(drawn - real).max(-1) > 32).mean() < 0.002  # rounding of float32 may move an edge


@pytest.mark.parametrize("env_id", sorted(RENDERERS))
def test_numbers_that_no_environment_shows_are_drawn_all_the_same(env_id):
    size = {"CartPole": 4, "Pendulum": 3, "MountainCar": 2, "MountainCarContinuous": 2, "Acrobot": 6}[env_id[:-3]]
    for value in (np.nan, np.inf, -1e30):
        image = RENDERERS[env_id]({"observation": np.full(size, value, dtype=np.float32)})
        assert image.dtype == np.uint8 and image.ndim == 3


def test_other_environments_are_drawn_by_their_observation():
    vector = Composite(observation=Unbounded(3))
    assert make_renderer("Nothing-v0", vector)({"observation": np.zeros(3)}).shape[-1] == 3
    planes = Composite(observation=Binary(shape=torch.Size([10, 10, 4]), dtype=torch.bool))
    assert make_renderer(None, planes)({"observation": np.zeros((10, 10, 4), dtype=bool)}).dtype == np.uint8


def test_a_known_environment_shown_as_pixels_is_drawn_as_pixels():
    spec = Composite(pixels=Bounded(0, 255, torch.Size([64, 64, 3]), dtype=torch.uint8))
    drawn = make_renderer("CartPole-v1", spec)({"pixels": np.full((64, 64, 3), 7, dtype=np.uint8)})
    assert (drawn == 7).all()


@pytest.mark.parametrize("env_id", sorted(COMPONENTS))
def test_labels_name_every_component_of_their_environment(env_id):
    if env_id in gymnasium.registry:
        version = env_id.replace("CartPole-v0", "CartPole-v1")  # the old one warns
        assert len(COMPONENTS[env_id]) == gymnasium.make(version).observation_space.shape[0]


def test_unknown_components_are_numbered():
    assert component_labels("position", (2,), "dm_control/cartpole-swingup") == ["position[0]", "position[1]"]
    assert component_labels("height", (1,)) == ["height"]
    assert component_labels("grid", (2, 2))[-1] == "grid[1, 1]"
