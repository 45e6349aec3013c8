"""Vision transformers and other people's backbones as encoders."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from tests.support.parts import (
    assert_every_parameter_gets_a_gradient,
    assert_inputs_untouched,
    assert_rows_are_independent,
    scramble,
)
from wmcomponents.encoders import (
    FrozenEncoder,
    ViTEncoder,
    class_token,
    dinov2_patches,
    mean_of_patches,
    still_clip,
    timm_patches,
    transformers_patches,
)
from wmcomponents.heads import AttentiveProbe
from wmcomponents.nn import NormalizePixels, ViTSize, ijepa_vit, timm_vit, vjepa2_vit

SIZE = ViTSize(16, 1, 2, 32)


def images(*lead: int) -> torch.Tensor:
    return torch.randint(256, (*lead, 16, 16, 3), dtype=torch.uint8)


PARTS = {
    "patches": (lambda: ViTEncoder(timm_vit(SIZE, (16, 16), 8)), images, (4, 16)),
    "class": (lambda: ViTEncoder(timm_vit(SIZE, (16, 16), 8), read=class_token), images, (16,)),
    "mean": (lambda: ViTEncoder(ijepa_vit(SIZE, (16, 16), 8), read=mean_of_patches), images, (16,)),
    "clips": (lambda: ViTEncoder(vjepa2_vit(SIZE, (2, 8, 8))), lambda *lead: images(*lead, 4), (8, 16)),
    "probe": (lambda: AttentiveProbe(16, 5, heads=2, blocks=1), lambda *lead: torch.randn(*lead, 6, 16), (5,)),
    "frozen": (lambda: FrozenEncoder(nn.Conv2d(3, 8, 8, 8)), images, (4, 8)),
}


@pytest.mark.parametrize("build,observe,shape", PARTS.values(), ids=PARTS)
def test_a_part_takes_any_leading_dimensions_by_key_or_not(build, observe, shape):
    torch.manual_seed(0)
    part = scramble(build())
    for lead in [(), (3,), (2, 3)]:
        x = observe(*lead)
        out = part.compute(x)
        assert out.shape == (*lead, *shape) and out.dtype == torch.float32
        data = part(TensorDict({part.in_keys[0]: x}, lead))
        assert torch.equal(data[part.out_keys[0]], out)
    assert_inputs_untouched(part.compute, observe(4))
    assert_rows_are_independent(part.compute, observe(4))


@pytest.mark.parametrize("name", [name for name in PARTS if name not in ("frozen", "class")])
def test_gradient_reaches_every_parameter(name):
    build, observe, _ = PARTS[name]
    part = scramble(build())
    assert_every_parameter_gets_a_gradient(part, part.compute(observe(3)).square().sum())


class Backbone(nn.Module):
    """Has the members of other libraries' models that the adapters read."""

    num_prefix_tokens = 1

    def __init__(self):
        super().__init__()
        self.conv, self.dropout = nn.Conv2d(3, 8, 8, 8), nn.Dropout(0.5)
        self.pixels_seen = []

    def forward_features(self, x):
        self.pixels_seen.append(x)
        tokens = self.dropout(self.conv(x).flatten(2).mT)
        return torch.cat([torch.zeros(len(x), 1, 8), tokens], 1)


class DINOv2(Backbone):
    def forward_features(self, x):
        return {"x_norm_patchtokens": super().forward_features(x)[:, 1:]}


class Transformers(Backbone):
    def forward(self, x):
        output = type("Output", (), {})()
        output.last_hidden_state = self.forward_features(x)
        return output


@pytest.mark.parametrize(
    "kind,patches", [(Backbone, timm_patches), (DINOv2, dinov2_patches), (Transformers, transformers_patches(1))]
)
def test_anothers_backbone_is_run_in_evaluation_mode_without_gradients_and_left_as_it_was(kind, patches):
    backbone = kind().train()
    encoder = FrozenEncoder(backbone, patches=patches, pixels=NormalizePixels(size=(24, 16)), layer_norm=True).train()
    one, two = encoder.compute(images(2)), encoder.compute(images(2))
    assert one.shape == (2, 6, 8) and not one.requires_grad and backbone.training and backbone.dropout.training
    assert backbone.pixels_seen[0].shape == (2, 3, 24, 16)
    torch.testing.assert_close(one.mean(-1), torch.zeros(2, 6), rtol=0, atol=1e-5)
    torch.testing.assert_close(two.var(-1, correction=0), torch.ones(2, 6), rtol=1e-3, atol=1e-3)


def test_a_backbone_of_clips_reads_each_frame_alone():
    net = vjepa2_vit(SIZE, (2, 8, 8))
    encoder, frames = FrozenEncoder(net, patches=still_clip(2)), images(2, 3)
    features = encoder.compute(frames)
    assert features.shape == (2, 3, 4, 16)
    clip = encoder.pixels(frames[1, 2]).unsqueeze(1).expand(-1, 2, -1, -1).unsqueeze(0)
    torch.testing.assert_close(features[1, 2], net(clip)[0].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", [nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), Transformers()])
def test_a_backbone_that_gives_no_patches_is_refused_with_a_remedy(backbone):
    with pytest.raises(TypeError, match="no features of patches.*timm_patches"):
        FrozenEncoder(backbone).compute(images(1))


def test_frames_of_other_sizes_and_orders_are_refused():
    encoder = ViTEncoder(timm_vit(SIZE, (16, 16), 8))
    with pytest.raises(ValueError, match="do not fill"):
        encoder.compute(torch.zeros(20, 16, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="move the channels to the end"):
        encoder.compute(images(1).movedim(-1, 1))
    clips = ViTEncoder(vjepa2_vit(SIZE, (2, 8, 8)))
    with pytest.raises(ValueError, match="frames do not come out"):
        clips.compute(images(2, 3))
    with pytest.raises(ValueError, match="4 dimensions at least"):
        clips.compute(images())
    with pytest.raises(ValueError, match="no class token"):
        ViTEncoder(ijepa_vit(SIZE, (16, 16), 8), read=class_token).compute(images(1))
