"""MuZero as a world model."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.codecs import FrameActionHistory
from wmcomponents.models import MuZero, MuZeroConfig
from wmcomponents.nn import PlainStem, PooledStem, ResidualStem

VECTOR = Composite(observation=Unbounded(4))
IMAGE = Composite(pixels=Bounded(0, 255, (96, 96, 3), dtype=torch.uint8))
BOARD = Composite(board=Bounded(0, 1, (3, 3, 3), dtype=torch.bool))


def test_the_official_forms_have_no_continuation_and_the_tiny_one_has():
    official, tiny = (MuZero(c, VECTOR, OneHot(2)) for c in (MuZeroConfig.cartpole(), MuZeroConfig.tiny()))
    assert (
        "continue" not in official.capabilities
        and official.imagine(official.initial_state((2,)), torch.eye(2), None).cont is None
    )
    assert "continue" in tiny.capabilities
    assert not tiny.noise_spec["imagine"].keys() and not tiny.noise_spec["observe"].keys()
    assert "decode" not in tiny.capabilities and {"value", "features", "objective", "reward"} <= tiny.capabilities


def test_cartpole_is_muzero_generals():
    model = MuZero(MuZeroConfig.cartpole(), VECTOR, OneHot(2))
    assert model.latent_shape == (8,) and model.reward_head.support.size == 21
    assert [tuple(p.shape) for p in model.transition.parameters()] == [(16, 10), (16,), (8, 16), (8,)]
    assert [tuple(p.shape) for p in model.representation.parameters()] == [(8, 4), (8,)]


def test_atari_stacks_131_planes_and_brings_96_to_6():
    with torch.device("meta"):
        model = MuZero(MuZeroConfig.atari(), IMAGE, OneHot(18))
    assert isinstance(model.representation.stem, ResidualStem)
    assert model.history.channels == 131 and model.latent_shape == (256, 6, 6)
    assert model.state_spec["frames"].shape == (32, 3, 96, 96) and model.state_spec["frames"].dtype == torch.uint8
    assert model.reward_head.support.size == 601


def test_boards_keep_their_size_and_images_may_be_pooled():
    small = {"channels": 4, "blocks": 1}
    board = MuZero(MuZeroConfig.board_game(**small), BOARD, OneHot(9))
    assert isinstance(board.representation.stem, PlainStem) and board.latent_shape == (4, 3, 3)
    pooled = MuZero(MuZeroConfig.tiny(downsample="cnn", scale="muzero_general", **small), IMAGE, OneHot(2))
    assert isinstance(pooled.representation.stem, PooledStem) and pooled.latent_shape == (4, 6, 6)
    state = pooled.observe(
        pooled.initial_state((2,)),
        torch.eye(2),
        {"pixels": IMAGE["pixels"].rand((2,))},
        torch.ones(2, 1).bool(),
        None,
    )
    assert state["latent"].shape == (2, 144) and 0 <= state["latent"].min() and state["latent"].max() <= 1


@pytest.mark.parametrize("scale", ["muzero_general", "whole"])
def test_latents_of_the_official_form_lie_in_the_unit_interval(scale):
    model = MuZero(MuZeroConfig.cartpole(scale=scale, units=5), VECTOR, OneHot(2))
    state = {**model.initial_state((3,)), "latent": torch.rand(3, 5)}
    latent = model.imagine(state, torch.eye(2)[[0, 1, 0]], None).state["latent"]
    torch.testing.assert_close(latent.amin(-1), torch.zeros(3))
    torch.testing.assert_close(latent.amax(-1), torch.ones(3))


def test_players_move_in_turn_and_an_episode_begins_with_the_first():
    model = MuZero(MuZeroConfig.board_game(channels=4, blocks=1), BOARD, OneHot(9))
    state, action = model.initial_state((1,)), torch.eye(9)[:1]
    observation = {"board": torch.zeros(1, 3, 3, 3, dtype=torch.bool)}
    seen = []
    for begins in (True, False, False, True):
        state = model.observe(state, action, observation, torch.tensor([[begins]]), None)
        seen.append(int(state["to_play"]))
    assert seen == [0, 1, 0, 0]
    assert int(model.imagine(state, action, None).state["to_play"]) == 1
    with pytest.raises(ValueError, match="1 or 2"):
        MuZero(MuZeroConfig.board_game(channels=4, blocks=1, players=3), BOARD, OneHot(9))


def test_an_imagined_state_has_no_past_frames_and_takes_no_memory_for_them():
    model = MuZero(MuZeroConfig.tiny(past=3), VECTOR, OneHot(2))
    assert isinstance(model.history, FrameActionHistory)
    state = model.observe(
        model.initial_state((2,)), torch.eye(2), {"observation": torch.randn(2, 4)}, torch.ones(2, 1).bool(), None
    )
    assert state["frames"].abs().sum() > 0
    frames = model.imagine(state, torch.eye(2), None).state["frames"]
    assert frames.shape == state["frames"].shape and not frames.any() and frames.untyped_storage().nbytes() == 4


def test_a_search_reads_policy_and_value_at_once():
    model = MuZero(MuZeroConfig.tiny(), VECTOR, OneHot(2))
    state = {"latent": torch.randn(5, 64)}
    policy, value = model.predict(state)
    assert policy.shape == (5, 2) and torch.equal(value, model.value(state))
    numbers = MuZero(MuZeroConfig.tiny(), VECTOR, Bounded(-2, 2, (3,)))
    assert numbers.predict(state)[0].shape == (5, 6)


def test_a_choice_that_is_no_choice_cannot_be_a_fraction():
    config = MuZeroConfig.tiny(action_planes="fraction")
    with pytest.raises(ValueError, match="one_hot"):
        MuZero(config, BOARD, Bounded(-1, 1, (2,)))


def test_planes_of_one_cell_cannot_be_scaled_each_by_its_own_range():
    small = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
    with pytest.raises(ValueError, match="no range"):
        MuZero(MuZeroConfig().vary(channels=4, blocks=1), small, OneHot(2))


def test_numbers_are_scaled_by_bounds_where_asked_and_only_where_they_are_standardised():
    spec = Composite(observation=Bounded(-4.0, 4.0, (4,)))
    model = MuZero(MuZeroConfig.tiny(by_bounds=True), spec, OneHot(2))
    model.frames.prepare({"observation": torch.randn(8, 4)})
    assert model.frames.transform.scale.tolist() == [2.0] * 4
    assert not MuZero(MuZeroConfig.tiny(by_bounds=True), BOARD, OneHot(9)).frames.transform.state_dict()
    with pytest.raises(ValueError, match="standardize=True too"):
        MuZero(MuZeroConfig.tiny(by_bounds=True, standardize=False), spec, OneHot(2))
