"""Laws of films whose later frames are not seen: nothing of the future, a first frame as if it were alone."""

import pytest
import torch

from wmcomponents.nn import CausalConv3d, CausalFilmAutoencoder, FrameGroupNorm

FACTORS = {"4x": (3, 2), "2x": (2, 1), "frames": (2, 0)}


@pytest.fixture(scope="module", params=FACTORS)
def net(request):
    levels, time_halvings = FACTORS[request.param]
    torch.manual_seed(0)
    made = CausalFilmAutoencoder(2, 3, 32, (1,) * levels, time_halvings).eval()
    return made


def film(net, latents=3):
    torch.manual_seed(1)
    return torch.randn(1, 1 + net.frames * (latents - 1), 2, net.factor, 2 * net.factor)


def test_a_latent_tells_of_the_frames_up_to_its_last_one_alone(net):
    x = film(net).requires_grad_()
    mean, log_variance = net.encode(x)
    assert mean.shape == log_variance.shape == (1, 3, 3, 1, 2)
    for k in range(3):
        (grad,) = torch.autograd.grad(mean[:, k].sum() + log_variance[:, k].sum(), x, retain_graph=True)
        last = k * net.frames
        assert not grad[:, last + 1 :].any()
        assert bool(grad[:, : last + 1].flatten(2).any(-1).all()), "every frame up to then is told of"


def test_a_frame_is_made_of_the_latents_up_to_its_own_alone(net):
    z = torch.randn(1, 3, 3, 1, 2, requires_grad=True)
    out = net.decode(z)
    assert out.shape == film(net).shape
    for t in range(out.shape[1]):
        (grad,) = torch.autograd.grad(out[:, t].sum(), z, retain_graph=True)
        own = -(-t // net.frames)
        assert not grad[:, own + 1 :].any() and bool(grad[:, own].any())


@torch.no_grad()
def test_a_first_frame_alone_is_encoded_as_in_a_film_and_a_film_as_the_beginning_of_a_longer_one(net):
    x = film(net)
    whole, _ = net.encode(x)
    for latents in (1, 2):
        part, _ = net.encode(x[:, : 1 + net.frames * (latents - 1)])
        torch.testing.assert_close(part, whole[:, :latents], rtol=1e-4, atol=1e-5)
        made = net.decode(whole[:, :latents])
        torch.testing.assert_close(made, net.decode(whole)[:, : made.shape[1]], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_film_in_which_nothing_moves_is_its_first_frame_again_and_again(net):
    still = film(net)[:, :1].expand(-1, 1 + 2 * net.frames, -1, -1, -1)
    mean, _ = net.encode(still)
    torch.testing.assert_close(mean, mean[:, :1].expand_as(mean), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_time_is_filled_up_in_front_by_the_first_frame():
    conv = CausalConv3d(1, 1, (3, 1, 1), (2, 1, 1))
    torch.nn.init.constant_(conv.bias, 0.0)
    conv.weight.copy_(torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1, 1))
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).view(1, 1, 5, 1, 1)
    assert conv(x).flatten().tolist() == [111.0, 321.0, 543.0]


@torch.no_grad()
def test_frames_are_normed_by_themselves():
    norm, x = FrameGroupNorm(32), torch.randn(2, 32, 3, 4, 4)
    alone = torch.cat([norm(x[:, :, t : t + 1]) for t in range(3)], 2)
    torch.testing.assert_close(norm(x), alone)


def test_what_does_not_fit_is_refused(net):
    if net.frames > 1:
        with pytest.raises(ValueError, match=rf"1 \+ {net.frames} k frames"):
            net.encode(film(net)[:, :-1])
    with pytest.raises(ValueError, match="multiples of"):
        net.encode(film(net)[..., :-1])
    with pytest.raises(ValueError, match="time_halvings=3"):
        CausalFilmAutoencoder(mults=(1, 1), time_halvings=3)
    with pytest.raises(ValueError, match="blocks=0"):
        CausalFilmAutoencoder(blocks=0)
