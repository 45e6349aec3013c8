"""Observations as images."""

import numpy as np
import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.models import IMAGE, MIXED, VECTOR
from wmcomponents.dream import Simulator
from wmcomponents.rendering.frames import SIZE, frame, simulator_frames
from wmcomponents.testing.toy import ToyWorldModel


def test_an_image_is_shown_as_it_is_in_whole_factors():
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    shown = frame({"position": np.zeros(3, np.float32), "pixels": image})
    assert shown.shape == (256, 256, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[::32, ::32], image)
    grey = frame({"pixels": image[..., :1]})
    np.testing.assert_array_equal(grey[::32, ::32], image[..., :1].repeat(3, -1))
    big = np.zeros((300, 400, 3), np.uint8)
    assert frame({"pixels": big}).shape == big.shape


def test_planes_are_painted_one_colour_each():
    planes = np.zeros((10, 10, 2), bool)
    planes[0, 0, 0], planes[9, 9, 1] = True, True
    shown = frame({"observation": planes})
    colours = {tuple(colour) for colour in shown.reshape(-1, 3).tolist()}
    assert len(colours) == 3 and (0, 0, 0) in colours and shown[0, 0].any() and shown[-1, -1].any()


def test_a_vector_is_drawn_as_bars_around_zero():
    up, down = (frame({"observation": np.array([value], np.float32)}) for value in (2.0, -2.0))
    assert up.shape == (SIZE, SIZE, 3)
    assert (up[:100] != 255).any() and not (up[150:] != 255).any()
    assert (down[150:] != 255).any() and not (down[:100] != 255).any()


def test_bounds_scale_the_bars_and_nothing_breaks_them():
    spec = Composite(observation=Bounded(-10, 10, (2,)))
    half = frame({"observation": np.array([5.0, 0.0], np.float32)}, spec)
    assert (half[70:] != 255).any() and not (half[:60] != 255).any()
    for strange in ([np.nan, np.inf], [1e30, -1e30]):
        assert frame({"observation": np.array(strange, np.float32)}, spec).shape == (SIZE, SIZE, 3)
    assert frame({"observation": np.zeros(1000, np.float32)}).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("spec", [VECTOR, MIXED, IMAGE], ids=["vector", "dict", "image"])
def test_every_row_of_a_dream_has_its_frame(spec):
    simulator = Simulator(ToyWorldModel(spec, OneHot(2)), batch_size=3)
    with pytest.raises(RuntimeError, match="reset"):
        simulator_frames(simulator)
    simulator.reset()
    frames = simulator_frames(simulator)
    assert len(frames) == 3
    for image in frames:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3


def test_without_a_decoder_the_latent_is_drawn():
    model = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), parts=("features", "reward", "continue"))
    simulator = Simulator(model, batch_size=2, view="latent")
    simulator.reset()
    assert not np.array_equal(*simulator_frames(simulator)) or torch.equal(*simulator.state["memory"])


def test_the_decoded_observation_is_drawn_whatever_the_view():
    model = ToyWorldModel(IMAGE, OneHot(2))
    latent, decoded = (Simulator(model, view=view, seed=0) for view in ("latent", "decoded"))
    latent.reset(), decoded.reset()
    np.testing.assert_array_equal(simulator_frames(latent)[0], simulator_frames(decoded)[0])
