"""What families that dream one image say to other observations."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.models import make_model


def image(*shape, dtype=torch.uint8):
    return Bounded(0, 255, shape, dtype=dtype)


OTHERS = {
    "grey without its axis": (Composite(pixels=image(64, 64)), r"keep_dim=True"),
    "colours first": (Composite(pixels=image(3, 64, 64)), r"colours last, \[H, W, C\]"),
    "two images": (Composite(a=image(64, 64, 3), b=image(64, 64, 3)), r"FilterObservation\(env, \['a'\]\)"),
    "an image among numbers": (Composite(eye=image(64, 64, 3), pose=Unbounded(3)), r"\(env, \['eye'\]\)"),
    "floats": (Composite(pixels=Bounded(0, 1, (64, 64, 3))), r"0\.\.255"),
    "a stack": (Composite(pixels=image(4, 64, 64, 3)), r"Do not stack"),
    "numbers": (Composite(observation=Unbounded(3)), r"from_pixels=True"),
}


@pytest.mark.parametrize("family", ["IRIS", "DeltaIRIS", "Diamond"])
@pytest.mark.parametrize(("spec", "words"), OTHERS.values(), ids=OTHERS)
def test_anything_but_one_image_is_refused_with_what_to_do(family, spec, words):
    with pytest.raises(ValueError, match=rf"(?s)one (square )?uint8 image.*{words}"), torch.device("meta"):
        make_model(family, "tiny", spec, OneHot(3))


@pytest.mark.parametrize("family", ["IRIS", "DeltaIRIS", "Diamond"])
@pytest.mark.parametrize("colours", [1, 3, 4])
def test_grey_images_and_those_with_a_fourth_channel_are_images(family, colours):
    with torch.device("meta"):
        make_model(family, "tiny", Composite(pixels=image(16, 16, colours)), OneHot(3))
