"""Predictors of features under actions: shapes, laws, refusals."""

import pytest
import torch
from tensordict import TensorDict

from tests.support.parts import (
    as_tuple,
    assert_every_parameter_gets_a_gradient,
    assert_inputs_untouched,
    assert_rows_are_independent,
    scramble,
)
from wmcomponents.decoders import FeatureDecoder
from wmcomponents.dynamics import (
    AdaptiveFramePredictor,
    AsTokens,
    DINOWMPredictor,
    FrameParts,
    InChannels,
    LeWMPredictor,
    VJEPA2ACPredictor,
)
from wmcomponents.nn import FrameCausalTransformer
from wmcomponents.objectives import feature_rollout

N, D = 4, 8
SMALL = {"depth": 1, "heads": 2}
EMBED = lambda *lead: torch.randn(*lead, N, D)  # noqa: E731
NUMBERS = lambda size: lambda *lead: torch.randn(*lead, size)  # noqa: E731
DINO = {"head_dim": 4, "hidden": 16, "dropout": 0.0, **SMALL}
PARTS = {
    "channels": (lambda: DINOWMPredictor(N, D, 3, 2, embedded=2, **DINO), [EMBED, NUMBERS(3), NUMBERS(2)]),
    "tokens": (
        lambda: DINOWMPredictor(N, D, 3, 2, embedded=D, joining=AsTokens, **DINO),
        [EMBED, NUMBERS(3), NUMBERS(2)],
    ),
    "adaptive": (lambda: AdaptiveFramePredictor((2, 2), D, 3, frames=3, width=24, **SMALL), [EMBED, NUMBERS(3)]),
    "proprio": (
        lambda: AdaptiveFramePredictor((2, 2), D, 3, proprio=4, frames=3, width=20, **SMALL),
        [EMBED, NUMBERS(3), NUMBERS(4)],
    ),
    "lewm": (
        lambda: LeWMPredictor(D, 2, head_dim=4, hidden=16, projection=16, dropout=0.0, **SMALL).eval(),
        [NUMBERS(D), NUMBERS(2)],
    ),
    "pose": (
        lambda: VJEPA2ACPredictor((2, 2), D, frames=3, width=24, **SMALL),
        [EMBED, NUMBERS(7), NUMBERS(7)],
    ),
    "camera": (
        lambda: VJEPA2ACPredictor((2, 2), D, frames=3, width=24, trained_grid=4, **SMALL),
        [EMBED, NUMBERS(7), NUMBERS(7), NUMBERS(6)],
    ),
}


@pytest.mark.parametrize("build,inputs", PARTS.values(), ids=PARTS)
def test_a_predictor_takes_any_leading_dimensions_by_key_or_not(build, inputs):
    torch.manual_seed(0)
    net = scramble(build())
    for lead in [(3,), (2, 3), (2, 2, 3)]:
        given = [one(*lead) for one in inputs]
        out = as_tuple(net.compute(*given))
        assert out[0].shape == given[0].shape
        data = net(TensorDict(dict(zip(net.in_keys, given, strict=False)), lead))
        for key, value in zip(net.out_keys, out, strict=True):
            assert torch.equal(data[key], value)
        if len(lead) > 1:
            alone = as_tuple(net.compute(*(one[-1] for one in given)))
            for a, b in zip(out, alone, strict=True):
                torch.testing.assert_close(a[-1], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build,inputs", PARTS.values(), ids=PARTS)
def test_a_predictor_is_pure_and_no_frame_sees_those_behind_it(build, inputs):
    torch.manual_seed(0)
    net, given = scramble(build()), [one(4, 3) for one in inputs]
    assert_inputs_untouched(net.compute, *given)
    assert_rows_are_independent(net.compute, *given)
    whole = as_tuple(net.compute(*given))
    short = as_tuple(net.compute(*(one[:, :2] for one in given)))
    later = as_tuple(net.compute(*(torch.cat([one[:, :2], one[:, 2:] + 1.0], 1) for one in given)))
    for a, b, c in zip(whole, short, later, strict=True):
        torch.testing.assert_close(a[:, :2], b, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a[:, :2], c[:, :2], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(a[:, 2:], c[:, 2:])


@pytest.mark.parametrize("build,inputs", PARTS.values(), ids=PARTS)
def test_every_input_matters_and_gradient_reaches_every_parameter(build, inputs):
    torch.manual_seed(0)
    net, given = scramble(build()), [one(4, 3).requires_grad_() for one in inputs]
    loss = sum(one.square().sum() for one in as_tuple(net.compute(*given)))
    if "camera" not in net.in_keys and len(given) == 3 and isinstance(net, VJEPA2ACPredictor):
        net.extrinsics_encoder.requires_grad_(False)  # which nothing enters here
        for parameter in net.extrinsics_encoder.parameters():
            parameter.grad = torch.ones_like(parameter)
    assert_every_parameter_gets_a_gradient(net, loss)
    for one in given:
        assert one.grad[:, 0].abs().sum() > 0


@pytest.mark.parametrize("build,inputs", PARTS.values(), ids=PARTS)
def test_windows_that_are_too_long_or_do_not_fit_together_are_refused(build, inputs):
    net = build()
    with pytest.raises(ValueError, match="a window has 1 to 3 frames; got 4"):
        net.compute(*(one(2, 4) for one in inputs))
    given = [one(2, 3) for one in inputs]
    given[1] = given[1][:, :2]
    with pytest.raises(ValueError, match="own action"):
        net.compute(*given)


def test_dino_wm_rolls_out_what_it_predicts_frame_by_frame():
    torch.manual_seed(0)
    for joining, size in ((InChannels, 2), (AsTokens, D)):
        net = scramble(DINOWMPredictor(N, D, 3, 2, embedded=size, joining=joining, **DINO)).eval()
        embed, proprio, action = torch.randn(2, 2, N, D), torch.randn(2, 2, 3), torch.randn(2, 5, 2)
        rolled = net.rollout(embed, proprio, action)
        assert rolled.shape[1] == 6
        first = as_tuple(net.compute(embed, proprio, action[:, :2]))
        parts = net.joining.part(rolled)
        torch.testing.assert_close(parts.visual[:, 2], first[0][:, -1])
        torch.testing.assert_close(parts.proprio[:, 2], first[1][:, -1])
        torch.testing.assert_close(parts.action[:, :5], net.action_encoder(action))
        # The next one sees the last three alone.
        again = net.transformer(rolled[:, 2:5])[:, -1]
        torch.testing.assert_close(rolled[:, 5], again, rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="each of 2 frames has an action"):
            net.rollout(embed, proprio, action[:, :1])


@pytest.mark.parametrize("joining,sizes", [(InChannels, (8, 3, 2)), (AsTokens, (8, 8, 8))])
def test_what_is_joined_is_parted_again_and_an_action_replaces_another(joining, sizes):
    way = joining(*sizes)
    visual, proprio, action, other = torch.randn(2, 3, 5, 8), *(torch.randn(2, 3, n) for n in (*sizes[1:], sizes[2]))
    tokens = way.join(FrameParts(visual, proprio, action))
    assert tokens.shape == (2, 3, way.count(5), way.dim)
    for a, b in zip(way.part(tokens), (visual, proprio, action), strict=True):
        assert torch.equal(a, b)
    before = tokens.clone()
    for a, b in zip(way.part(way.with_action(tokens, other)), (visual, proprio, other), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(tokens, before)
    assert torch.equal(way.predicted(tokens), way.predicted(way.with_action(tokens, other)))
    if joining is InChannels:  # what was predicted of the proprioception in the other patches stays
        tokens[..., 1, 8:11] = 7.0
        assert (way.with_action(tokens, other)[..., 1, 8:11] == 7.0).all()


def test_tokens_of_several_sizes_and_frames_of_other_tokens_are_refused():
    with pytest.raises(ValueError, match="tokens have one size"):
        AsTokens(8, 8, 4)
    with pytest.raises(ValueError, match="frames have 4 tokens; got 5"):
        FrameCausalTransformer(3, 4, 8, depth=1, heads=2, head_dim=4, hidden=8)(torch.zeros(1, 2, 5, 8))
    with pytest.raises(ValueError, match=r"\[\.\.\., T, N, D\]"):
        VJEPA2ACPredictor((2, 2), D, frames=3, width=24, **SMALL).compute(torch.zeros(3, D), *torch.zeros(2, 3, 7))


def test_v_jepa_2_acs_full_size_has_three_hundred_million_weights():
    with torch.device("meta"):
        net = VJEPA2ACPredictor()
    assert 300e6 < sum(p.numel() for p in net.parameters()) < 310e6
    assert len(net.state_dict()) == 24 * 12 + 12


def test_a_row_of_one_step_is_the_first_of_the_teacher_forced_and_gradients_pass_through_it():
    torch.manual_seed(0)
    net, features = torch.nn.Linear(4, 4), torch.randn(2, 4, 4)
    one = feature_rollout(net, features, 1)
    assert torch.equal(one.rolled_out[:, 0], one.teacher_forced[:, 0])
    three = feature_rollout(net, features, 3)
    torch.testing.assert_close(three.rolled_out[:, 2], net(net(net(features[:, 0]))))
    three.rolled_out[:, 2].sum().backward()
    assert net.weight.grad.abs().sum() > 0
    for steps in (0, 4):
        with pytest.raises(ValueError, match="allow 1 to 3 steps"):
            feature_rollout(net, features, steps)


def test_a_probe_shows_features_of_any_leading_dimensions():
    torch.manual_seed(0)
    net = scramble(FeatureDecoder((2, 3), D, channels=4, blocks=2, block_channels=2))
    for lead in [(), (2,), (2, 3)]:
        assert net.compute(torch.randn(*lead, 6, D)).shape == (*lead, 32, 48, 3)
    assert_rows_are_independent(net.compute, torch.randn(3, 6, D))
    assert_every_parameter_gets_a_gradient(net, net.compute(torch.randn(3, 6, D)).square().sum())
    with pytest.raises(ValueError, match="2 x 3"):
        net.compute(torch.zeros(5, D))
