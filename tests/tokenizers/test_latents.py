"""Continuous latents: scales, autoencoders of one's own and of diffusers, and what they refuse."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from wmcomponents.nn import ConvAutoencoder, ViTAutoencoder
from wmcomponents.tokenizers import DiffusersAutoencoder, LatentTokenizer, diffusers_tokenizer, latent_scale


class Halves(nn.Module):
    """With the interface of an autoencoder of diffusers: a latent is every other pixel."""

    def __init__(self, kind="latent_dist", **config):
        super().__init__()
        self.kind, self.config = kind, SimpleNamespace(**config)

    def encode(self, image):
        z = image[..., ::2, ::2]
        if self.kind == "latent_dist":
            return SimpleNamespace(latent_dist=SimpleNamespace(mean=z, logvar=torch.zeros_like(z)))
        return SimpleNamespace(**{self.kind: z})

    def decode(self, latent):
        return SimpleNamespace(sample=latent.repeat_interleave(2, -1).repeat_interleave(2, -2))


def picture():
    torch.manual_seed(0)
    small = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    return small.repeat_interleave(2, 1).repeat_interleave(2, 2)


@pytest.mark.parametrize("kind", ["latent_dist", "latents", "latent"])
def test_diffusers_autoencoders_bring_their_scale(kind):
    part = diffusers_tokenizer(Halves(kind, scaling_factor=0.5, shift_factor=0.25))
    pixels = picture()
    latent = part(pixels)
    z = pixels[:, ::2, ::2].permute(0, 3, 1, 2) / 127.5 - 1.0
    torch.testing.assert_close(latent, (z - 0.25) * 0.5)
    assert torch.equal(part.pixels(latent), pixels)
    spread = part.moments(torch.zeros(1, 3, 8, 8)).log_variance
    assert bool((spread == (0.0 if kind == "latent_dist" else -30.0)).all())


def test_each_channel_has_a_mean_and_a_deviation_where_the_config_says_so():
    assert latent_scale({"latents_mean": [1.0, 2.0], "latents_std": [2.0, 4.0]}) == ([1.0, 2.0], [0.5, 0.25])
    assert latent_scale(SimpleNamespace(scaling_factor=0.5, shift_factor=None, latents_std=[2.0, 4.0])) == (
        [0.0, 0.0],
        [0.25, 0.125],
    )
    assert latent_scale({}) == ([0.0], [1.0])
    for config, message in (
        ({"scaling_factor": 0.0}, "not 0"),
        ({"scaling_factor": float("nan")}, "scaling_factor"),
        ({"latents_mean": [1.0, 2.0], "latents_std": [1.0, 2.0, 3.0]}, "got 2 and 3"),
        ({"latents_std": []}, "latents_std"),
    ):
        with pytest.raises(ValueError, match=message):
            latent_scale(config)


def test_what_is_no_autoencoder_of_diffusers_is_refused():
    with pytest.raises(TypeError, match="has encode and decode"):
        DiffusersAutoencoder(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="latent_dist, latents or a latent"):
        DiffusersAutoencoder(Halves("other")).encode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(TypeError, match="takes no subfolder"):
        diffusers_tokenizer(Halves(), subfolder="vae")


def test_a_name_needs_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"wmcomponents\[video\]"):
        diffusers_tokenizer("someone/something")


def test_latents_are_means_unless_noise_is_given():
    part = diffusers_tokenizer(Halves(scaling_factor=2.0))
    pixels, noise = picture(), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(part.latents(pixels), part(pixels))
    torch.testing.assert_close(part.latents(pixels, noise), part(pixels) + 2.0 * noise)
    torch.testing.assert_close(part.latents(pixels[0], noise[0]), part.latents(pixels, noise)[0])


@pytest.mark.parametrize("scale, shift", [(0.0, 0.0), ([1.0, 0.0], 0.0), (float("inf"), 0.0), (1.0, float("nan"))])
def test_scales_that_lose_everything_are_refused(scale, shift):
    with pytest.raises(ValueError, match="finite number"):
        LatentTokenizer(ConvAutoencoder(), scale=scale, shift=shift)


def test_a_small_autoencoder_learns_a_picture():
    torch.manual_seed(0)
    part = LatentTokenizer(ConvAutoencoder(latent=2, mults=(1, 1)), scale=0.5)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 2, 2), size=(8, 8)) * 2 - 1
    optimizer, losses = torch.optim.Adam(part.parameters(), 3e-3), []
    for _ in range(12):
        loss = (part.decode(part.scaled(part.moments(image).mean)) - image).square().mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        ConvAutoencoder(mults=(1, 1, 1)).encode(torch.zeros(1, 3, 8, 6))
    net = ViTAutoencoder((8, 12), 4, latent=2, encoder=(16, 1, 1), decoder=(16, 1, 1))
    with pytest.raises(ValueError, match="images of 8 x 12 pixels"):
        net.encode(torch.zeros(1, 3, 12, 8))
    with pytest.raises(ValueError, match="do not fill"):
        ViTAutoencoder((8, 10), 4)
