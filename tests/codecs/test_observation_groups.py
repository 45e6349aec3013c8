"""The observations of an environment, sorted by what reads them."""

import pytest
import torch
from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded, UnboundedDiscrete

from tests.support.parts import draw
from wmcomponents.codecs import ObservationGroups, UnitNormal
from wmcomponents.codecs.frames import Frames

SPEC = Composite(
    wide=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8),
    pos=Unbounded(2),
    on=Binary(3),
    mode=Categorical(4),
    grey=Bounded(0, 255, (16, 16), dtype=torch.uint8),
    board=UnboundedDiscrete((5, 5, 2), dtype=torch.bool),
    angle=Unbounded(1),
)


def test_each_observation_is_in_its_group_in_the_order_of_the_keys():
    groups = ObservationGroups.from_spec(SPEC)
    assert groups.keys == ("angle", "board", "grey", "mode", "on", "pos", "wide")
    assert groups.image_keys == ("grey", "wide") and groups.board_keys == ("board",)
    assert groups.flat_sizes == {"angle": 1, "mode": 4, "on": 3, "pos": 2} and groups.flat_size == 10
    assert groups.vector_sizes == {"angle": 1, "pos": 2} and groups.vector_size == 3
    assert groups.image_shape == (16, 16, 4) and groups.image_channels == {"grey": 1, "wide": 3}
    assert not groups.state_dict()


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_what_is_flat_lies_side_by_side_and_the_map_sees_the_numbers_alone(lead):
    groups, shown = ObservationGroups.from_spec(SPEC), draw(SPEC, lead)
    flat = groups.flat(shown, lambda numbers: numbers * torch.tensor([10.0, 100.0, 1000.0]))
    angle, mode, on, pos = flat.split(list(groups.flat_sizes.values()), -1)
    torch.testing.assert_close(angle, 10 * shown["angle"])
    torch.testing.assert_close(pos, shown["pos"] * torch.tensor([100.0, 1000.0]))
    assert torch.equal(mode.argmax(-1), shown["mode"]) and torch.equal(on.bool(), shown["on"].bool())
    assert torch.equal(groups.numbers(shown), torch.cat([shown["angle"], shown["pos"]], -1))


def test_images_are_stacked_along_their_channels():
    groups, shown = ObservationGroups.from_spec(SPEC), draw(SPEC, (3,))
    assert torch.equal(groups.levels(shown), torch.cat([shown["grey"].unsqueeze(-1), shown["wide"]], -1))


def test_a_likelihood_is_put_in_the_place_of_a_groups_own():
    groups, mine = ObservationGroups.from_spec(SPEC), UnitNormal()
    before = groups.codecs["pos"].likelihood
    groups.judge(images=mine)
    assert groups.codecs["grey"].likelihood is groups.codecs["wide"].likelihood is mine
    assert groups.codecs["pos"].likelihood is before
    groups.judge(vectors=mine)
    assert groups.codecs["pos"].likelihood is groups.codecs["angle"].likelihood is mine


def test_images_and_boards_of_different_sizes_are_not_stacked():
    with pytest.raises(ValueError, match="need one size; got .*'board': \\(5, 5\\).*'grey': \\(16, 16\\)"):
        Frames(SPEC)
