"""Masks of patches: the numbers of their authors' own codes, laws and refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.golden_vectors import load
from wmcomponents.functional import (
    BlockTubeMasks,
    MultiBlockMasks,
    RandomMasks,
    RandomTubeMasks,
    masks_of_noise,
    take_tokens,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_masks_are_maes():
    _, tensors = load("mae_masking_loss")
    masks = masks_of_noise(tensors["in.noise"], 4)
    assert torch.equal(take_tokens(tensors["in.tokens"], masks.context), tensors["out.kept"])
    hidden = torch.zeros(2, 16).scatter(1, masks.target[:, 0], 1.0)
    assert torch.equal(hidden, tensors["out.mask"])
    assert torch.equal(torch.cat([masks.context, masks.target[:, 0]], 1).argsort(1), tensors["out.ids_restore"])


def test_multi_block_masks_are_i_jepas():
    info, tensors = load("ijepa_mask_collator")
    masks = MultiBlockMasks((16, 16))
    for seed, expected in enumerate(tensors["out.sizes_ph_pw_eh_ew_seed0_63"].tolist()):
        target, context = masks.sizes(seeded(seed))
        assert [*target, *context] == expected
    drawn = masks.draw(4, seeded(0), seeded(0))
    assert torch.equal(drawn.context, tensors["out.first_call_enc"])
    for number in range(4):
        assert torch.equal(drawn.target[:, number], tensors[f"out.first_call_pred_{number}"])
    assert info["statistics"]["last_row_hits"] == info["statistics"]["last_col_hits"] == 0


def test_the_last_row_and_column_are_reached_only_when_asked_for():
    def touched(masks):
        drawn = masks.draw(32, seeded(1), seeded(0))
        return any(bool((index % 16 == 15).any() | (index >= 240).any()) for index in drawn)

    assert not touched(MultiBlockMasks((16, 16))) and touched(MultiBlockMasks((16, 16), reach_borders=True))


@pytest.mark.parametrize("name", ["short", "long"])
def test_tubes_of_blocks_are_v_jepas(name):
    info, tensors = load("vjepa_mask_collator")
    config = info["config"][name]
    scale = config["spatial_scale"]
    masks = BlockTubeMasks(tuple(info["config"]["grid"]), config["num_blocks"], (scale, scale))
    for seed, expected in enumerate(tensors[f"out.{name}.block_sizes_seed0_63"].tolist()):
        assert list(masks.size(seeded(seed))) == expected
    drawn = masks.draw(4, seeded(0), seeded(0))
    assert torch.equal(drawn.context, tensors[f"out.{name}.first_call_enc"])
    assert torch.equal(drawn.target[:, 0], tensors[f"out.{name}.first_call_pred"])
    places, sizes = seeded(1), seeded(2)
    hidden = [masks.draw(1, places, sizes).target.shape[-1] / (8 * 14 * 14) for _ in range(300)]
    statistics = info["statistics"][name]
    assert np.mean(hidden) == pytest.approx(statistics["mean_masked_fraction_batch1"], abs=0.02)
    assert np.std(hidden) == pytest.approx(statistics["std"], abs=0.02)


def test_random_tubes_are_v_jepas():
    info, tensors = load("vjepa_mask_collator")
    grid, random = tuple(info["config"]["grid"]), np.random.RandomState(0)
    seen = []
    for _ in range(3):
        places = np.hstack([np.zeros(196 - 19), np.ones(19)])
        random.shuffle(places)
        seen.append(torch.tensor(places) > 0)
    masks = RandomTubeMasks(grid, 0.9).of_places(torch.stack(seen))
    assert torch.equal(masks.context, tensors["out.tube_0.9.enc"])
    assert torch.equal(masks.target[:, 0], tensors["out.tube_0.9.pred"])


MASKS = [
    RandomMasks((4, 5), 0.6),
    RandomMasks((2, 4, 5), 0.9),
    RandomTubeMasks((2, 5, 4), 0.7),
    MultiBlockMasks((6, 7), least=2),
    BlockTubeMasks((3, 6, 6), 2, (0.2, 0.4), temporal_scale=(0.3, 1.0)),
]


@pytest.mark.parametrize("masks", MASKS, ids=lambda masks: type(masks).__name__)
@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_nothing_is_seen_that_is_predicted_and_draws_repeat(masks, batch, seed):
    drawn, again = (masks.draw(batch, seeded(seed), seeded(seed + 1)) for _ in range(2))
    total = int(np.prod(masks.grid))
    for one, two in zip(drawn, again, strict=True):
        assert torch.equal(one, two) and one.dtype == torch.int64 and 0 <= int(one.min()) and int(one.max()) < total
    assert drawn.context.shape[0] == drawn.target.shape[0] == batch and drawn.context.shape[1] > 0
    for context, targets in zip(drawn.context, drawn.target, strict=True):
        assert len(set(context.tolist())) == len(context)
        for target in targets:
            assert len(set(target.tolist())) == len(target) and not set(context.tolist()) & set(target.tolist())


def test_tubes_hide_the_same_places_in_every_frame_and_time_can_end_early():
    masks = RandomTubeMasks((3, 4, 4), 0.5).draw(2, seeded(0))
    assert all(set((row % 16).tolist()) == set(row[row < 16].tolist()) for row in masks.context)
    early = BlockTubeMasks((4, 6, 6), 1, (0.3, 0.3), seen_time=0.5).draw(3, seeded(0), seeded(0))
    assert int(early.context.max()) < 2 * 36 <= int(early.target.max())


def test_a_context_gives_up_predicted_blocks_rather_than_be_too_small():
    masks = MultiBlockMasks((6, 6), 4, (0.6, 0.6), (0.6, 0.6), (1.0, 1.0), least=15)
    drawn = masks.draw(8, seeded(0), seeded(0))
    assert drawn.context.shape[1] > 15


@pytest.mark.parametrize(
    "build,words",
    [
        (lambda: RandomMasks((2, 2), 0.99), "leaves 0 patches"),
        (lambda: RandomMasks((2, 2), 0.0), "leaves 4 patches"),
        (lambda: RandomTubeMasks((4, 4)), "time, rows, columns"),
        (lambda: RandomTubeMasks((2, 2, 2), 0.9), "leaves none"),
        (lambda: MultiBlockMasks((8, 8, 8)), "rows, columns"),
        (lambda: MultiBlockMasks((4, 4)), "never has more than 10: lower least"),
        (lambda: MultiBlockMasks((8, 8), target_scale=(0.0, 0.2)), "target_scale"),
        (lambda: MultiBlockMasks((8, 8), targets=0), "at least 1 target"),
        (lambda: BlockTubeMasks((2, 8, 8), blocks=0), "at least 1 block"),
        (lambda: BlockTubeMasks((2, 8, 8), spatial_scale=(0.5, 1.5)), "spatial_scale"),
    ],
)
def test_masks_that_cannot_be_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_blocks_that_always_hide_everything_are_refused():
    with pytest.raises(RuntimeError, match="fewer or smaller"):
        BlockTubeMasks((1, 2, 2), 1, (1.0, 1.0), aspect=(1.0, 1.0)).draw(1, seeded(0), seeded(0))
