"""EfficientZero as a world model."""

import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.models import EfficientZero, EfficientZeroConfig
from wmcomponents.nn import NormalizedStem, PlainStem

VECTOR = Composite(observation=Unbounded(4))
IMAGE = Composite(pixels=Bounded(0, 255, (96, 96, 3), dtype=torch.uint8))
BOARD = Composite(board=Bounded(0, 1, (10, 10, 4), dtype=torch.bool))


def woken(model):
    """Weights in the layers that begin at zero."""
    torch.manual_seed(0)
    for net in (model.reward_head.fc, model.prediction.value):
        torch.nn.init.normal_(getattr(net, "fc", net)[-1].weight, std=0.3)
    return model


def test_atari_is_the_official_network():
    with torch.device("meta"):
        model = EfficientZero(EfficientZeroConfig.atari(), IMAGE, OneHot(18))
    assert isinstance(model.representation.stem, NormalizedStem)
    assert model.history.channels == 12 and model.latent_shape == (64, 6, 6)
    assert model.reward_head.lstm.weight_ih.shape == (4 * 512, 16 * 36)
    assert model.projection.projector.in_features == 2304
    assert model.reward_head.support.dead_zone == 1e-3
    assert "continue" not in model.capabilities
    assert model.config.loss.discount == 0.997**4


def test_boards_keep_their_size_and_vectors_take_the_networks_of_v2():
    board = EfficientZero(EfficientZeroConfig.tiny(), BOARD, OneHot(3))
    assert isinstance(board.representation.stem, PlainStem) and board.latent_shape == (16, 10, 10)
    vector = EfficientZero(EfficientZeroConfig.state(), VECTOR, OneHot(3))
    assert vector.latent_shape == (128,) and len(vector.representation.blocks) == 2


def test_a_model_that_has_learned_nothing_predicts_zero():
    model = EfficientZero(EfficientZeroConfig.tiny(), VECTOR, OneHot(2))
    state = {**model.initial_state((2,)), "latent": torch.randn(2, 64)}
    assert not model.value(state).any() and not model.imagine(state, torch.eye(2), None).reward.any()


@torch.no_grad()
def test_the_lstm_begins_anew_every_five_steps_and_where_something_is_observed():
    model = woken(EfficientZero(EfficientZeroConfig.tiny(), VECTOR, OneHot(2)))
    state = {**model.initial_state((1,)), "latent": torch.randn(1, 64)}
    action, counts, rewards, prefixes = torch.eye(2)[:1], [], [], []
    for _ in range(6):
        state, reward, _ = model.imagine(state, action, None)
        counts.append(int(state["since_reset"]))
        rewards.append(float(reward))
        prefixes.append(float(state["value_prefix"]))
    assert counts == [1, 2, 3, 4, 0, 1]
    assert prefixes[4] == 0 and not torch.equal(state["lstm_h"], torch.zeros_like(state["lstm_h"]))
    assert abs(sum(rewards[:4]) - prefixes[3]) < 1e-5 and rewards[5] == prefixes[5]
    seen = model.observe(state, action, {"observation": torch.randn(1, 4)}, torch.zeros(1, 1).bool(), None)
    assert all(not seen[key].any() for key in ("lstm_h", "lstm_c", "value_prefix", "since_reset"))


def test_a_fresh_model_normalises_by_running_statistics_so_that_rows_are_independent():
    model = woken(EfficientZero(EfficientZeroConfig.tiny(), BOARD, OneHot(2)))
    assert not any(part.training for part in model.modules())
    state = {**model.initial_state((4,)), "latent": torch.randn(4, 1600)}
    together = model.imagine(state, torch.eye(2)[[0, 1, 0, 1]], None)
    alone = model.imagine({key: value[:1] for key, value in state.items()}, torch.eye(2)[:1], None)
    torch.testing.assert_close(together.reward[:1], alone.reward)
