"""What holds for networks of films whatever their weights, and what they refuse."""

import pytest
import torch

from wmcomponents.denoisers import (
    AddedMixture,
    DiTSize,
    FilmUNet,
    MMDiT,
    MMDiTSize,
    OutputAdapter,
    STDiT3,
    beside_context,
    told,
)
from wmcomponents.models.diffusion.official_open_sora import mmdit_from_official, stdit3_from_official
from wmcomponents.nn import UnevenAxialRoPE
from wmcomponents.pretrained import BadModelError

UNET = {"dim": 8, "multiples": (1, 2), "heads": 2, "head_dim": 8}
STREAMS = MMDiTSize(16, 1, 1, heads=2, shares=(4, 2, 2))


def drawn(net):
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


def stdit3_inputs(rows=2, frames=3):
    torch.manual_seed(1)
    size = torch.full((rows, 2), 64.0)
    return torch.randn(rows, frames, 4, 4, 6), torch.full((rows,), 100.0), torch.randn(rows, 5, 6), size[:, 0], size


@torch.no_grad()
def test_text_that_is_masked_is_not_read():
    net = drawn(STDiT3(4, 6, DiTSize(16, 1, 2)))
    film, level, text, fps, size = stdit3_inputs()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    other = torch.where(mask.unsqueeze(-1), text, 7.0)
    torch.testing.assert_close(net(film, level, text, fps, size, mask), net(film, level, other, fps, size, mask))
    short = net(film[:1], level[:1], text[:1, :3], fps[:1], size[:1])
    torch.testing.assert_close(net(film, level, text, fps, size, mask)[:1], short, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_rows_of_other_sizes_have_other_positions():
    net = drawn(STDiT3(4, 6, DiTSize(16, 1, 2)))
    film, level, text, fps, size = stdit3_inputs()
    mixed = size * torch.tensor([[1.0], [4.0]])
    together = net(film, level, text, fps, mixed)
    for row in range(2):
        alone = net(*(part[row : row + 1] for part in (film, level, text, fps, mixed)))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_films_of_any_length_and_size_are_taken():
    net = drawn(STDiT3(4, 6, DiTSize(16, 1, 2), patch=(2, 2, 2)))
    film, level, text, fps, size = stdit3_inputs()
    known = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    assert net(film[..., :3, :5], level, text, fps, size, known=known).shape == (2, 3, 8, 3, 5)


ACTED = {
    "stdit3": (lambda: STDiT3(4, 6, DiTSize(16, 1, 2), action=2), lambda: stdit3_inputs()),
    "mmdit": (
        lambda: MMDiT(4, 6, 5, STREAMS, action=2),
        lambda: (*stdit3_inputs()[:3], torch.randn(2, 5)),
    ),
}


@pytest.mark.parametrize("name", ACTED)
@torch.no_grad()
def test_actions_begin_unsaid_and_are_of_one_frame_each(name):
    build, given = ACTED[name]
    inputs, action = given(), torch.randn(2, 3, 2)
    torch.manual_seed(0)
    net = build()
    (of_actions,) = (value for key, value in net.named_parameters() if "action" in key)
    assert not of_actions.any()
    drawn(net)
    torch.testing.assert_close(net(*inputs, action=torch.zeros_like(action)), net(*inputs))
    assert not torch.equal(net(*inputs, action=action), net(*inputs))
    with pytest.raises(ValueError, match="to each of 3 frames an action of 2 numbers leads"):
        net(*inputs, action=action[..., :1])


@pytest.mark.parametrize("name", ACTED)
@torch.no_grad()
def test_frames_that_are_not_present_are_not_looked_at(name):
    build, given = ACTED[name]
    net, (film, *told) = drawn(build()), given()
    present, action = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool(), torch.randn(2, 3, 2)
    other, said = film.clone(), action.clone()
    other[0, 2], said[0, 2] = 9.0, 9.0
    here = net(film, *told, action=action, present=present)
    torch.testing.assert_close(here[present], net(other, *told, action=said, present=present)[present])
    short = net(film[:1, :2], *(part[:1] for part in told), action=action[:1, :2])
    torch.testing.assert_close(here[:1, :2], short, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_masked_text_is_not_read_by_the_two_streams():
    net = drawn(MMDiT(4, 6, 5, STREAMS))
    film, level, text, summary = ACTED["mmdit"][1]()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    other = torch.where(mask.unsqueeze(-1), text, 7.0)
    torch.testing.assert_close(
        net(film, level, text, summary, text_mask=mask), net(film, level, other, summary, text_mask=mask)
    )
    short = net(film[:1], level[:1], text[:1, :3], summary[:1])
    torch.testing.assert_close(net(film, level, text, summary, text_mask=mask)[:1], short, rtol=1e-4, atol=1e-4)


def test_patches_of_several_frames_have_no_action():
    with pytest.raises(ValueError, match="a patch spans 2"):
        STDiT3(4, 6, DiTSize(16, 1, 2), patch=(2, 2, 2), action=3)


def test_what_is_not_known_is_not_told():
    film = torch.randn(2, 3, 4, 2, 2)
    given = told(film, torch.tensor([[1, 0, 0], [1, 1, 0]]).bool())
    assert given.shape == (2, 3, 5, 2, 2)
    assert torch.equal(given[1, 1, 1:], film[1, 1]) and bool((given[1, 1, 0] == 1).all())
    assert not given[0, 1:].any()


@torch.no_grad()
def test_networks_begin_with_what_is_told_left_out():
    mmdit = MMDiT(4, 6, 5, STREAMS)
    film = torch.randn(2, 3, 4, 4, 6)
    assert not mmdit(film, torch.rand(2), torch.randn(2, 7, 6), torch.randn(2, 5)).any()
    assert not STDiT3(4, 6, DiTSize(16, 1, 2))(*stdit3_inputs()).any()


@torch.no_grad()
def test_an_adapter_begins_with_half_the_base_or_with_all_of_it():
    film, level, past = torch.randn(1, 3, 3, 8, 8), torch.zeros(1, 3), torch.randn(1, 2, 3, 8, 8)
    base = torch.randn_like(film)
    part = OutputAdapter.beside((3, 8, 8), 5, context=2, **UNET)
    output, mask = part(base, film, level, past)
    adapted = part.network(torch.cat([beside_context(film, past), base], 2), level)[:, :, :3]
    torch.testing.assert_close(output, (base + adapted) / 2)
    assert bool((mask == 0.5).all())
    added = OutputAdapter(FilmUNet((12, 8, 8), 5, out_channels=3, **UNET), 3, 2, AddedMixture(3))
    output, mask = added(base, film, level, past)
    assert torch.equal(output, base) and bool((mask == 1).all())


def test_an_adapter_learns_and_the_base_need_not_be_here():
    part = OutputAdapter.beside((3, 8, 8), 5, context=2, **UNET)
    film, base = torch.randn(1, 3, 3, 8, 8), torch.randn(1, 3, 3, 8, 8)
    action = torch.eye(5)[None, :3]
    output, _ = part(base, film, torch.zeros(1, 3), torch.randn(1, 2, 3, 8, 8), action)
    output.square().mean().backward()
    reached = {name for name, parameter in part.named_parameters() if parameter.grad is not None}
    assert {"mixture.weight", "network.action.table", "network.conv_in.weight"} <= reached


def test_inputs_that_do_not_fit_are_refused():
    part, film = OutputAdapter.beside((3, 8, 8), 5, context=2, **UNET), torch.zeros(1, 3, 3, 8, 8)
    level, past = torch.zeros(1, 3), torch.zeros(1, 2, 3, 8, 8)
    with pytest.raises(ValueError, match="2 past frames are expected"):
        part(film, film, level, past[:, :1])
    with pytest.raises(ValueError, match="says something of every frame"):
        part(film[:, :2], film, level, past)
    with pytest.raises(ValueError, match="reads 2 past frames, a film and the base's output, 12 channels"):
        OutputAdapter(FilmUNet((3, 8, 8), 5, **UNET), 3)
    mmdit = MMDiT(4, 6, 5, STREAMS)
    latent, text, summary = torch.zeros(2, 3, 4, 4, 6), torch.zeros(2, 7, 6), torch.zeros(2, 5)
    with pytest.raises(ValueError, match="a flag before the channels"):
        mmdit(latent, level.new_zeros(2), text, summary, latent)
    with pytest.raises(ValueError, match="do not fill"):
        mmdit(latent[..., :5], level.new_zeros(2), text, summary)
    with pytest.raises(ValueError, match="summary goes with"):
        mmdit(latent, level.new_zeros(2), text, summary[:1])
    with pytest.raises(ValueError, match="heads of 8 channels"):
        MMDiT(4, 6, 5, STREAMS._replace(dim=32))
    with pytest.raises(ValueError, match=r"films .* 4, H, W"):
        STDiT3(4, 6, DiTSize(16, 1, 2))(latent[:, :, :3], *stdit3_inputs()[1:])
    with pytest.raises(ValueError, match="shares"):
        UnevenAxialRoPE((3, 4))


def test_files_that_are_no_network_of_open_sora_are_refused():
    with pytest.raises(BadModelError, match="no network of Open-Sora"):
        stdit3_from_official({})
    with pytest.raises(BadModelError, match="no network of Open-Sora"):
        mmdit_from_official({})
    weights = {
        "single_blocks.0.norm.query_norm.scale": torch.ones(8),
        "single_blocks.0.q_proj.weight": torch.zeros(8, 8),
        "single_blocks.0.k_proj.weight": torch.zeros(8, 8),
    }
    with pytest.raises(BadModelError, match="belong together"):
        mmdit_from_official(weights)
