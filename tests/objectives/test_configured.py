"""An objective takes its part of a config, and says so where it gets another thing."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot

from tests.support.models import OF_IMAGES, VECTOR
from wmcomponents.models import MODELS, make_model

IMAGE = Composite(pixels=Bounded(0, 255, (32, 32, 3), dtype=torch.uint8))


@pytest.mark.parametrize("family", sorted(MODELS))
def test_a_loss_refuses_the_whole_config_with_the_part_that_is_meant(family):
    model = make_model(family, "tiny", IMAGE if family in OF_IMAGES else VECTOR, OneHot(2))
    build = type(model.objective())
    part = type(model.config.loss).__name__
    with pytest.raises(TypeError, match=rf"config is of {part}, such as model.config.loss; got an? {family}Config"):
        build(model, model.config)
    part = type(model.config.optimizer).__name__
    with pytest.raises(TypeError, match=rf"optimizer is of {part}, such as model.config.optimizer; got a "):
        build(model, model.config.loss, optimizer=3e-4)
