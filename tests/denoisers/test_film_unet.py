"""What networks over films keep to: no look ahead, remembered frames, sizes."""

import pytest
import torch

from wmcomponents.denoisers import DiTSize, FilmUNet, SpaceTimeDiT, VectorSequenceDenoiser

NETWORKS = {
    "unet": lambda: FilmUNet((3, 5, 7), 4, dim=8, multiples=(1, 2), heads=2, head_dim=8, frames=5),
    "unet with biases": lambda: FilmUNet(
        (3, 5, 7), 4, dim=8, multiples=(1,), heads=2, head_dim=36, frames=5, relative=True
    ),
    "transformer": lambda: SpaceTimeDiT((3, 4, 6), 4, DiTSize(16, depth=2, heads=2), frames=5),
    "vectors": lambda: VectorSequenceDenoiser(6, 4, 16, 1, 2, 32),
}
FILMS = [name for name in NETWORKS if name != "vectors"]


def built(name):
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    with torch.no_grad():
        for parameter in net.parameters():  # layers that begin at 0 would hide what they do
            parameter.add_(0.1 * torch.randn(parameter.shape))
    shape = (6,) if name == "vectors" else net.shape
    film = torch.randn(2, 5, *shape)
    return net, film, torch.randint(0, 1000, (2, 5)), torch.randn(2, 5, 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_frame_sees_a_later_one(name):
    net, film, level, action = built(name)
    film.requires_grad_(), action.requires_grad_()
    net(film, level, action)[:, 2].sum().backward()
    assert not film.grad[:, 3:].any() and not action.grad[:, 3:].any()
    assert bool(film.grad[:, :3].any()) and bool(action.grad[:, :3].flatten(2).any(2).all())


@pytest.mark.parametrize("name", FILMS)
@torch.no_grad()
def test_frames_behind_remembered_ones_are_as_in_the_whole_film(name):
    net, film, level, action = built(name)
    whole = net(film, level, action)
    for known in (1, 3, 4):
        past = net.remember(film[:, :known], level[:, :known], action[:, :known])
        new, _ = net.follow(film[:, known:], level[:, known:], action[:, known:], past, torch.full((2, 1), known))
        torch.testing.assert_close(new, whole[:, known:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FILMS)
@torch.no_grad()
def test_rows_may_have_pasts_of_different_lengths(name):
    net, film, level, action = built(name)
    past = net.remember(film[:, :4], level[:, :4], action[:, :4])
    new, _ = net.follow(film[:, 4:], level[:, 4:], action[:, 4:], past, torch.tensor([[2], [0]]))
    short = [torch.cat([x[:1, :2], x[:1, 4:]], 1) for x in (film, level, action)]
    torch.testing.assert_close(new[:1], net(*short)[:, 2:], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(new[1:], net(film[1:, 4:], level[1:, 4:], action[1:, 4:]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "shape,actions,words",
    [
        ((2, 3, 3, 5, 6), 4, "3 channels and 5 x 7 places"),
        ((2, 6, 3, 5, 7), 4, "from 1 to 5 frames"),
        ((2, 3, 3, 5, 7), 3, "actions of 4 numbers"),
    ],
)
def test_films_that_do_not_fit_are_refused_in_words(shape, actions, words):
    net = NETWORKS["unet"]()
    with pytest.raises(ValueError, match=words):
        net(torch.zeros(shape), torch.zeros(shape[:2]), torch.zeros(*shape[:2], actions))


def test_networks_without_levels_or_actions_and_with_sight_of_the_future_say_what_they_cannot():
    with pytest.raises(ValueError, match="at least one level"):
        FilmUNet((3, 4, 4), 2, multiples=())
    net = FilmUNet((3, 4, 4), 0, dim=8, multiples=(1,), heads=1, head_dim=8, is_causal=False)
    film, level = torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="leave them out"):
        net.compute(film, level, torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="is_causal=True"):
        net.remember(film, level)
