"""Every layout of images, in every family that sees several: learned from, dreamt, and given back as it was."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.support.showing import Shows
from wmcomponents.data import collect, make_env, make_replay
from wmcomponents.integrations.gymnasium import DreamEnv, LatentObservation
from wmcomponents.models import make_model
from wmcomponents.training import Trainer

LAYOUTS = {
    "grey": spaces.Box(0, 255, (64, 64), np.uint8),
    "channels first": spaces.Box(0, 255, (3, 64, 64), np.uint8),
    "stack": spaces.Box(0, 255, (4, 64, 64), np.uint8),
    "floats": spaces.Box(0, 1, (64, 64, 3), np.float32),
    "two": spaces.Dict(a=spaces.Box(0, 255, (64, 64), np.uint8), b=spaces.Box(0, 1, (3, 64, 64), np.float32)),
}
COLOUR = spaces.Box(0, 255, (64, 64, 3), np.uint8)
FAMILIES = {
    "DreamerV3": LAYOUTS,
    "MuZero": ["two"],
    "PlaNet": ["channels first"],
    "TDMPC2": ["stack"],
    "DreamerV2": ["grey"],
}


def numbers(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, names in FAMILIES.items() for name in names])
def test_images_are_learned_from_in_every_layout(family, name):
    space = LAYOUTS[name]
    env = make_env(Shows(space), seed=0)
    replay = make_replay(40, env, sequence_length=6, batch_size=2, seed=0, print_fn=None)
    collect(env, replay, 40, seed=0)
    model = make_model(family, "tiny", env)
    assert numbers(model) < 1.2 * numbers(make_model(family, "tiny", COLOUR, spaces.Discrete(2)))
    Trainer(model, replay, progress=False).train(1)
    view = "decoded" if "decode" in model.capabilities else "latent"
    dream = DreamEnv(model, horizon=3, view=view)
    dream.reset(seed=0)
    seen = dream.step(0)[0]
    assert dream.observation_space.contains(seen) and (view == "latent" or dream.observation_space == space)
    back = LatentObservation(Shows(space), model)
    back.reset(seed=0)
    assert np.isfinite(back.step(0)[0]).all()


def test_the_same_image_in_another_layout_is_the_same_to_the_model():
    torch.manual_seed(0)
    models = {
        name: make_model("DreamerV3", "tiny", space, spaces.Discrete(2))
        for name, space in {"last": COLOUR, **LAYOUTS}.items()
        if name in ("last", "channels first", "floats")
    }
    weights = models["last"].state_dict()
    image = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    shown = {"last": image, "channels first": image.movedim(-1, 1), "floats": image / 255}
    embedded = {}
    for name, model in models.items():
        model.load_state_dict(weights)
        key = next(iter(model.observation_spec.keys()))
        embedded[name] = model.encoder.embed({key: shown[name]})
    torch.testing.assert_close(embedded["channels first"], embedded["last"])
    torch.testing.assert_close(embedded["floats"], embedded["last"])
