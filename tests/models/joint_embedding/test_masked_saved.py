"""Models that pretrain an encoder, by their configs: built, saved, loaded, and their encoder as a part of a world."""

import pytest
import torch
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.parts import scramble
from wmcomponents import load
from wmcomponents.models import (
    DINOWM,
    JEPA,
    MAE,
    PRETRAINING,
    VJEPA,
    DINOWMConfig,
    IJEPAConfig,
    JEPAConfig,
    MAEConfig,
    ViTConfig,
    VJEPAConfig,
    make_model,
    make_pretraining,
    presets,
)
from wmcomponents.models.loading import load_encoder, load_pretraining
from wmcomponents.nn import NormalizePixels, ViTSize
from wmcomponents.pretrained import BadModelError

SMALL, BESIDE = ViTConfig(24, 1, 2, 32), ViTConfig(16, 1, 2, 16)
SIZES = {
    "MAE": {"encoder": SMALL, "decoder": BESIDE},
    "IJEPA": {"encoder": SMALL, "predictor": BESIDE, "least": 1},
    "VJEPA": {"encoder": SMALL, "predictor": BESIDE, "frames": 4, "blocks": (2, 1), "scales": (0.2, 0.5)},
}


def shown(height=32, width=32, channels=3, **others):
    return Composite(pixels=Bounded(0, 255, (height, width, channels), dtype=torch.uint8), **others)


def small(family, spec=None, **changes):
    torch.manual_seed(0)
    model = make_pretraining(family, "tiny", shown() if spec is None else spec, **{**SIZES[family], **changes})
    return scramble(model)


@pytest.mark.parametrize("family", PRETRAINING)
def test_a_model_comes_back_as_it_was_with_its_numbers(family, tmp_path):
    model = small(family, steps=77)
    back = load_pretraining(model.save_pretrained(tmp_path / "model"))
    assert type(back) is type(model) and back.config == model.config and back.observation_spec == model.observation_spec
    state = model.state_dict()
    assert state.keys() == back.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())
    assert back.objective().optimizer_config.steps == 77 and not back.training
    assert [masks.grid for masks in back.masks()] == [model.grid] * len(model.masks())


@pytest.mark.parametrize("family", PRETRAINING)
def test_every_preset_is_a_model_of_images_of_any_size_it_resizes_them(family):
    spec = shown(64, 64)
    for preset in presets(family):
        with torch.device("meta"):
            model = make_pretraining(family, preset, spec)
        assert model.objective().kinds == len(model.masks())
        assert model.observation_spec["pixels"].shape == (64, 64, 3)
        if preset != "tiny":
            assert model.pixels.size[0] == model.grid[-1] * model.encoder.patches.patch[-1] >= 224


def test_v_jepa_2s_presets_rotate_and_take_its_numbers():
    config = VJEPAConfig.second_huge()
    assert config.network.positions == "rotary" and config.optimizer.momentum == 0.99925 and config.frames == 16
    rotary = {**SIZES["VJEPA"], "patch": (2, 16, 16), "image_size": 32}
    model = VJEPA.from_config(VJEPAConfig.second_huge(**rotary), shown())
    assert model.encoder.rotates and model.predictor.rotates and len(model.predictor.mask_tokens) == 10


def test_the_image_is_found_among_other_observations_and_may_be_grey(tmp_path):
    model = small("MAE", Composite(camera=shown(24, 40, 1)["pixels"], speed=Unbounded(2)))
    assert model.image_key == "camera" and model.grid == (3, 5)
    assert list(model.observation_spec.keys()) == ["camera"]
    encoder = load_encoder(model.save_pretrained(tmp_path / "model"), out_keys=["seen"])
    assert encoder(camera=torch.zeros(2, 24, 40, 1, dtype=torch.uint8)).shape == (2, 15, 24)


@pytest.mark.parametrize(
    "spec", [Composite(state=Unbounded(3)), Composite(left=shown()["pixels"], right=shown()["pixels"]), Unbounded(3)]
)
def test_what_shows_no_one_image_is_refused(spec):
    with pytest.raises(ValueError, match="MAE sees one image of bytes"):
        make_pretraining("MAE", "tiny", spec)


def test_images_with_their_channels_first_are_refused_where_the_model_is_built():
    spec = Composite(pixels=Bounded(0, 255, (3, 32, 32), dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"'pixels' is \[3, 32, 32\]: show the channels last"):
        make_pretraining("MAE", "tiny", spec)


def test_sizes_that_do_not_fit_and_names_that_are_none_are_refused():
    with pytest.raises(ValueError, match="do not fill"):
        make_pretraining("IJEPA", "tiny", shown(30, 30))
    with pytest.raises(ValueError, match="each kind of masks has blocks and a scale"):
        make_pretraining("VJEPA", "tiny", shown(), blocks=(8,))
    with pytest.raises(ValueError, match=r"got 'Mae'. Did you mean 'MAE'"):
        make_pretraining("Mae", "tiny", shown())
    with pytest.raises(ValueError, match="MAE has the presets tiny, base, large, huge; got 'small'"):
        make_pretraining("MAE", "small", shown())
    with pytest.raises(ValueError, match="make_pretraining makes it"):
        make_model("MAE", "tiny", shown(), Unbounded(1))
    with pytest.raises(TypeError, match="MAE is built from a MAEConfig"):
        MAE.from_config(VJEPAConfig.tiny(), shown())


def test_one_put_together_of_sizes_is_saved_too_unless_its_pixels_are_of_its_own(tmp_path):
    sizes = ViTSize(16, 1, 2, 32), (16, 16)
    model = MAE.of_size(*sizes, patch=8, decoder=ViTSize(8, 1, 2, 16))
    back = MAE.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert torch.equal(back.decoder.out.weight, model.decoder.out.weight) and back.config == model.config
    odd = MAE.of_size(*sizes, patch=8, decoder=ViTSize(8, 1, 2, 16), pixels=NormalizePixels((0,) * 3, (1,) * 3))
    with pytest.raises(TypeError, match="was put together by hand and has no config"):
        odd.save_pretrained(tmp_path / "odd")


def test_nobody_dreams_with_one_and_each_loader_names_the_other(tmp_path):
    path = small("IJEPA").save_pretrained(tmp_path / "encoder")
    with pytest.raises(BadModelError, match=r"no time and no actions: .* becomes part of a world: .*load_encoder"):
        load(path)
    world = JEPA(JEPAConfig.tiny(), Composite(state=Unbounded(3)), Bounded(-1, 1, (1,)))
    with pytest.raises(BadModelError, match=r"holds a 'JEPA', which pretrains no encoder .* wmcomponents.load\(path\)"):
        load_encoder(world.save_pretrained(tmp_path / "world"))
    with pytest.raises(BadModelError, match="its config lacks action_spec"):
        PRETENDED.from_pretrained(pretended(path, tmp_path))


class PRETENDED(JEPA):
    """A world model whose folder was written by something else."""

    config_class = IJEPAConfig


def pretended(path, folder):
    """The folder of an encoder that names a world model."""
    model = load_pretraining(path)
    type(model).__name__, name = "PRETENDED", type(model).__name__
    try:
        return model.save_pretrained(folder / "pretended")
    finally:
        type(model).__name__ = name


@pytest.mark.parametrize("family", PRETRAINING)
def test_dino_wm_runs_on_a_self_trained_encoder_from_its_folder(family, tmp_path):
    model = small(family)
    encoder = load_encoder(model.save_pretrained(tmp_path / "model"))
    pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    features = encoder.compute(pixels)
    assert features.shape == (2, 16, 24) and not features.requires_grad
    torch.testing.assert_close(features, model.as_frozen_encoder().compute(pixels))
    if family == "MAE":
        torch.testing.assert_close(features, model.as_encoder().compute(pixels))  # patches, not the class token
    specs, sizes = (shown(position=Unbounded(2)), Bounded(-1, 1, (1,))), {"frames": 2, "channels": 0}
    world = DINOWM(DINOWMConfig.tiny(**sizes), *specs, encoder=load_pretraining(tmp_path / "model"))
    again = load(world.save_pretrained(tmp_path / "world"))  # which holds the encoder too
    seen = {"pixels": pixels, "position": torch.zeros(2, 2)}
    is_init = torch.ones(2, 1, dtype=torch.bool)
    for one in (world, again):
        state = one.observe(one.initial_state([2]), torch.zeros(2, 1), seen, is_init, None)
        torch.testing.assert_close(one.features(state), features.flatten(1))


def test_a_config_varies_by_paths_where_a_name_stands_in_two_parts():
    assert MAEConfig.tiny(**{"network.decoder.depth": 3}).network.decoder.depth == 3
    with pytest.raises(ValueError, match="in several parts"):
        MAEConfig.tiny(depth=3)
