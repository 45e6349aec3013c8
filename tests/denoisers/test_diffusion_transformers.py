"""What holds for diffusion transformers whatever their weights: time's order, the cache, and what they refuse."""

import pytest
import torch

from wmcomponents.denoisers import CDiT, DiT, DiTSize, SpaceTimeDiT, appended
from wmcomponents.models.diffusion.official_transformers import (
    cdit_from_official,
    dit_from_official,
    oasis_dit_from_official,
)
from wmcomponents.nn import LabelEmbedding, PixelAxialRoPE, cosine_sine, unit_coordinates
from wmcomponents.pretrained import BadModelError

SMALL = DiTSize(16, depth=2, heads=2)


def drawn(net):
    """With weights that let everything be seen: modulations and outputs begin at 0."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval().double()


def film(frames=4, rows=2):
    torch.manual_seed(1)
    level = torch.randint(0, 1000, (rows, frames))
    noisy, action = torch.randn(rows, frames, 4, 4, 6), torch.randn(rows, frames, 3)
    return noisy.double(), level, action.double()


@pytest.fixture
def space_time():
    return drawn(SpaceTimeDiT((4, 4, 6), 3, SMALL, frames=4))


def test_networks_begin_at_zero_whatever_they_are_told():
    noisy, level, action = (part.float() for part in film())
    assert not SpaceTimeDiT((4, 4, 6), 3, SMALL, frames=4)(noisy, level, action).any()
    frame = noisy[:, 0]
    assert not DiT((4, 4, 6), SMALL, labels=2)(frame, level[:, 0], torch.tensor([0, 2])).any()
    assert not CDiT((4, 4, 6), SMALL, context=4)(frame, level[:, 0], noisy, action[:, 0], level[:, 0] / 128).any()


def test_no_frame_sees_a_later_one_nor_its_level_or_action(space_time):
    noisy, level, action = film()
    noisy.requires_grad_(), action.requires_grad_()
    out = space_time(noisy, level, action)
    gradients = torch.autograd.grad(out[:, 1].square().sum(), (noisy, action))
    assert all(not gradient[:, 2:].any() and gradient[:, :2].abs().amax(-1).bool().any() for gradient in gradients)
    other = level.clone()
    other[:, 2:] = 7
    torch.testing.assert_close(space_time(noisy, other, action)[:, :2], out[:, :2])
    assert not torch.allclose(space_time(noisy, other, action)[:, 2:], out[:, 2:])


def test_frames_behind_remembered_ones_are_those_of_the_whole_film(space_time):
    noisy, level, action = film()
    with torch.no_grad():
        whole = space_time(noisy, level, action)
        past = space_time.remember(noisy[:, :2], level[:, :2], action[:, :2])
        start = torch.full((2, 1), 2)
        both, new = space_time.follow(noisy[:, 2:], level[:, 2:], action[:, 2:], past, start)
        torch.testing.assert_close(both, whole[:, 2:])
        # One at a time: what is kept of the third frame lets the fourth follow.
        room = space_time.remember(noisy[:, [0, 1, 1]], level[:, [0, 1, 1]], action[:, [0, 1, 1]])
        _, third = space_time.follow(noisy[:, 2:3], level[:, 2:3], action[:, 2:3], past, start)
        room = appended(room, third, start)
        fourth, _ = space_time.follow(noisy[:, 3:], level[:, 3:], action[:, 3:], room, start + 1)
        torch.testing.assert_close(fourth, whole[:, 3:])
        torch.testing.assert_close(third[0].keys, new[0].keys[..., :1, :])


def test_rows_may_remember_different_numbers_of_frames(space_time):
    noisy, level, action = film(3)
    with torch.no_grad():
        past = space_time.remember(noisy[:, :2], level[:, :2], action[:, :2])
        out, _ = space_time.follow(noisy[:, 2:], level[:, 2:], action[:, 2:], past, torch.tensor([[2], [1]]))
        torch.testing.assert_close(out[:1], space_time(noisy[:1], level[:1], action[:1])[:, 2:])
        short = [part[1:, [0, 2]] for part in (noisy, level, action)]
        torch.testing.assert_close(out[1:], space_time(*short)[:, 1:])


def test_what_is_appended_is_put_into_a_copy(space_time):
    noisy, level, action = film(3)
    past = space_time.remember(noisy, level, action)
    before = past[0].keys.clone()
    short = space_time.remember(noisy[:, :1], level[:, :1], action[:, :1])
    longer = appended(past, short, torch.tensor([[1], [2]]))
    assert torch.equal(past[0].keys, before)
    assert torch.equal(longer[0].keys[0, ..., 1, :], short[0].keys[0, ..., 0, :])
    assert torch.equal(longer[0].keys[1, ..., 2, :], short[0].keys[1, ..., 0, :])
    with pytest.raises(ValueError, match="room for 1 frames"):
        appended(short, past, torch.zeros(2, 1, dtype=torch.long))


def test_one_level_for_all_frames_is_the_ordinary_process(space_time):
    noisy, _, action = film()
    level = torch.full((2, 4), 3)
    torch.testing.assert_close(space_time(noisy, level.float(), action), space_time(noisy, level, action))


def test_positions_of_every_frame_may_begin_as_sines_of_row_and_column():
    net = CDiT((4, 4, 6), SMALL, context=2, positions="sine")
    rows = net.positions.detach().unflatten(1, (2, 3))
    assert torch.equal(rows[0], rows[2]) and not torch.equal(rows[0, 0], rows[0, 1])
    half = SMALL.dim // 2  # of the column first, then of the row
    assert torch.equal(rows[0, 0, :, :half], rows[0, 1, :, :half])
    assert torch.equal(rows[0, :, 0, half:], rows[0, :, 2, half:])


def test_labels_are_hidden_in_training_alone():
    table = LabelEmbedding(3, 4, dropout=0.5)
    label = torch.zeros(64, dtype=torch.long)
    hidden = (table(label) == table.table.weight[3]).all(-1)
    assert 10 < int(hidden.sum()) < 54
    assert torch.equal(table.eval()(label), table.table.weight[:1].expand(64, -1))


def test_an_odd_number_of_waves_ends_with_a_zero():
    assert cosine_sine(torch.ones(2), 5).shape == (2, 5) and not cosine_sine(torch.ones(2), 5)[:, 4].any()


def test_a_share_of_a_head_turns_and_the_rest_stays():
    rope, x = PixelAxialRoPE(8, share=2, frequency=4.0), torch.randn(1, 6, 8)
    y = rope(x, unit_coordinates((2, 3)))
    assert torch.equal(y[..., 4:], x[..., 4:]) and not torch.allclose(y[..., :4], x[..., :4])
    torch.testing.assert_close(y.square().sum(-1), x.square().sum(-1))
    for share in (1, 3, 6):
        with pytest.raises(ValueError, match="an even share"):
            PixelAxialRoPE(8, share=share)


def test_frames_levels_and_actions_that_do_not_fit_are_refused(space_time):
    noisy, level, action = film()
    for bad, message in (
        ((torch.cat([noisy, noisy], 1), level.repeat(1, 2), action.repeat(1, 2, 1)), "from 1 to 4 frames"),
        ((noisy[:, :0], level[:, :0], action[:, :0]), "from 1 to 4 frames"),
        ((noisy[..., :4], level, action), "4 channels and 4 x 6"),
        ((noisy[:, :, :3], level, action), "expected latents"),
        ((noisy, level[:, :3], action), "level goes with"),
        ((noisy, level[:, 0], action), "level goes with"),
        ((noisy, level, action[..., :2]), "actions of 3 numbers"),
        ((noisy, level, action[:1]), "action goes with"),
    ):
        with pytest.raises(ValueError, match=message):
            space_time(*bad)
    past = space_time.remember(noisy, level, action)
    with pytest.raises(ValueError, match="from 1 to 0 frames"):
        space_time.follow(noisy[:, :1], level[:, :1], action[:, :1], past, torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="expected latents"):
        DiT((4, 8, 8), SMALL)(noisy[:, 0], level[:, 0], level[:, 0])
    net = CDiT((4, 4, 6), SMALL, context=3)
    with pytest.raises(ValueError, match="looks at 3 past frames; got 4"):
        net(noisy[:, 0], level[:, 0], noisy, action[:, 0], level[:, 0])
    with pytest.raises(ValueError, match="begin as 'normal' or 'sine'; got 'random'"):
        CDiT((4, 4, 6), SMALL, positions="random")
    with pytest.raises(ValueError, match="do not fill"):
        SpaceTimeDiT((4, 5, 6), 3, SMALL)
    with pytest.raises(ValueError, match="sizes known here are S, B, L, XL"):
        DiTSize.named("huge")


def test_files_that_are_no_such_network_are_refused():
    weights = {"x_embedder.proj.weight": torch.zeros(16, 4, 2, 2), "pos_embed": torch.zeros(1, 15, 16)}
    with pytest.raises(BadModelError, match="no square latent"):
        dit_from_official(weights)
    for build in (dit_from_official, cdit_from_official, oasis_dit_from_official):
        with pytest.raises(BadModelError, match=r"x_embedder.*missing"):
            build({})
    with pytest.raises(BadModelError, match="no published size has a width of 16"):
        cdit_from_official({**weights, "pos_embed": torch.zeros(3, 16, 16), "blocks.0.x": torch.zeros(1)})
