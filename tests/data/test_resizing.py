"""Images of every layout, resized."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ResizeObservation

from tests.support.showing import Shows
from wmcomponents.codecs import ImageCodec, codec_from_spec
from wmcomponents.data import make_env, observation_spec
from wmcomponents.data.resizing import resized

LAYOUTS = {
    "colour": ((32, 48, 3), (16, 16, 3)),
    "one grey channel": ((32, 48, 1), (16, 16, 1)),
    "grey": ((32, 48), (16, 16)),
    "channels first": ((3, 32, 48), (3, 16, 16)),
    "stack of grey": ((4, 32, 48), (4, 16, 16)),
    "stack of colour": ((4, 32, 48, 3), (4, 16, 16, 3)),
    "stack of channels first": ((2, 3, 32, 48), (2, 3, 16, 16)),
    "many channels": ((32, 48, 9), (16, 16, 9)),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
@pytest.mark.parametrize("in_dict", [False, True], ids=["alone", "in a Dict"])
def test_images_of_every_layout_are_resized(name, dtype, in_dict):
    shape, small = LAYOUTS[name]
    space = spaces.Box(0, 255 if dtype == np.uint8 else 1, shape, dtype)
    env = resized(Shows(spaces.Dict(x=spaces.Discrete(2), camera=space) if in_dict else space), 16)
    observation = env.reset(seed=0)[0]
    wanted = env.observation_space["camera"] if in_dict else env.observation_space
    seen = observation["camera"] if in_dict else observation
    assert wanted == spaces.Box(0, space.high.max(), small, dtype) and env.observation_space.contains(observation)
    plain = np.asarray(env.unwrapped.observation_space.sample()["camera"] if in_dict else space.sample())
    assert abs(float(seen.astype(np.float64).mean()) - float(plain.astype(np.float64).mean())) < 0.05 * space.high.max()


def test_colour_is_resized_as_gymnasium_does():
    space = spaces.Box(0, 255, (32, 48, 3), np.uint8)
    ours, theirs = resized(Shows(space), 16), ResizeObservation(Shows(space), (16, 16))
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])


def test_every_plane_is_resized_as_it_would_be_alone():
    first = spaces.Box(0, 255, (4, 32, 48), np.uint8)
    env = resized(Shows(first), 16)
    seen = env.reset(seed=3)[0]
    stacked = Shows(first).reset(seed=3)[0]
    for i in range(4):
        alone = resized(Fixed(stacked[i]), 16)
        np.testing.assert_array_equal(alone.reset()[0], seen[i])


class Fixed(gymnasium.Env):
    def __init__(self, image):
        self.image = image
        self.observation_space = spaces.Box(0, 255, image.shape, np.uint8)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.image, {}


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (16, 16, 3), np.uint8),
        spaces.Box(0, 255, (128,), np.uint8),
        spaces.Box(0, 2, (19, 19, 17), np.uint8),
        spaces.Box(0, 1, (19, 19, 17), np.bool_),
        spaces.Box(-1, 1, (20, 30), np.float32),
        spaces.Discrete(3),
        spaces.Dict(x=spaces.Discrete(3)),
    ],
)
def test_what_is_no_image_or_has_the_size_stays(space):
    env = Shows(space)
    assert resized(env, 16) is env


def test_by_default_single_colour_images_are_resized_and_with_a_size_all_are():
    colour, grey = spaces.Box(0, 255, (48, 48, 3), np.uint8), spaces.Box(0, 255, (48, 48), np.uint8)
    both = spaces.Dict(colour=colour, grey=grey)
    shapes = {
        (name, size): [tuple(leaf.shape) for leaf in observation_spec(make_env(Shows(space), **size_of(size))).values()]
        for name, space in {"colour": colour, "grey": grey, "both": both}.items()
        for size in ("usual", 32, None)
    }
    assert shapes["colour", "usual"] == [(64, 64, 3)] and shapes["grey", "usual"] == [(48, 48)]
    assert shapes["both", "usual"] == shapes["both", None] == [(48, 48, 3), (48, 48)]
    assert shapes["both", 32] == [(32, 32, 3), (32, 32)] and shapes["grey", 32] == [(32, 32)]
    assert shapes["colour", None] == [(48, 48, 3)]
    for leaf in observation_spec(make_env(Shows(both), image_size=32)).values():
        assert isinstance(codec_from_spec(leaf), ImageCodec)


def size_of(size):
    return {} if size == "usual" else {"image_size": size}
