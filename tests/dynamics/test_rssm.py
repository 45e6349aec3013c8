"""The RSSM: filtering, imagination, resets, latents, purity."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict

from tests.support.parts import LEADS, assert_every_parameter_gets_a_gradient, assert_inputs_untouched, scramble
from wmcomponents.dynamics import (
    RSSM,
    AbsolutePosterior,
    BlockGRUCell,
    CategoricalLatent,
    GaussianLatent,
    LearnedInitialState,
    Prior,
    RecurrentPosterior,
    RSSMObserve,
    RSSMObserveSequence,
    SigmoidStd,
    SoftplusStd,
)
from wmcomponents.functional import balanced_kl
from wmcomponents.nn import NormGRU, ResetAfterGRU, ResetBeforeGRU

DETER, ACTION, EMBED, UNITS = 16, 3, 5, 8


def assemble(latent, posterior) -> RSSM:
    cell = BlockGRUCell(DETER, latent.size, ACTION, UNITS, blocks=4)
    return scramble(RSSM(cell, latent, Prior(DETER, latent.params, UNITS), posterior))


def categorical(**options) -> RSSM:
    sizes = {"deter": DETER, "hidden": UNITS, "groups": 4, "classes": 6, "blocks": 4} | options
    return scramble(RSSM.block_gru(EMBED, ACTION, **sizes))


def gaussian() -> RSSM:
    latent = GaussianLatent(6)
    return assemble(latent, RecurrentPosterior(DETER, EMBED, latent.params, UNITS))


def absolute() -> RSSM:
    latent = CategoricalLatent(4, 6)
    return assemble(latent, AbsolutePosterior(EMBED, latent.params, UNITS))


def deep() -> RSSM:
    return categorical(cell_layers=2, prior_layers=1, posterior_layers=2, norm="layer", act="gelu")


def planet() -> RSSM:
    return scramble(RSSM.dense_gru(EMBED, ACTION, ResetBeforeGRU(UNITS, DETER), GaussianLatent(6), act="relu"))


def dreamer_v1() -> RSSM:
    return scramble(RSSM.dense_gru(EMBED, ACTION, ResetAfterGRU(UNITS, DETER), GaussianLatent(6)))


def dreamer_v2() -> RSSM:
    return scramble(RSSM.dense_gru(EMBED, ACTION, NormGRU(UNITS, DETER), CategoricalLatent(4, 6, unimix=0.0)))


def dreamer_v3_2023() -> RSSM:
    gru, initial = NormGRU(UNITS, DETER, bias=False), LearnedInitialState(DETER)
    kind = {"norm": "keras_layer", "act": "silu", "bias": False, "initial": initial}
    return scramble(RSSM.dense_gru(EMBED, ACTION, gru, CategoricalLatent(4, 6), **kind))


MODELS = {
    "categorical": categorical,
    "gaussian": gaussian,
    "absolute": absolute,
    "deep": deep,
    "planet": planet,
    "dreamer-v1": dreamer_v1,
    "dreamer-v2": dreamer_v2,
    "dreamer-v3-2023": dreamer_v3_2023,
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def noise_like(rssm: RSSM, lead: tuple[int, ...]) -> torch.Tensor:
    return rssm.latent.noise_spec().expand(*lead, *rssm.latent.noise_shape).rand()


def state(rssm: RSSM, lead: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    stoch = rssm.latent.sample(torch.randn(*lead, rssm.latent.params), noise_like(rssm, lead))
    return torch.randn(*lead, DETER).tanh(), stoch


def sequence(rssm: RSSM, lead: tuple[int, ...], time: int) -> list[torch.Tensor]:
    action, embed = torch.randn(*lead, time, ACTION), torch.randn(*lead, time, EMBED)
    is_init = torch.rand(*lead, time, 1) < 0.2
    return [*state(rssm, lead), action, embed, is_init, noise_like(rssm, (*lead, time))]


@every_model
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("with_noise", [True, False])
def test_a_step_takes_any_leading_dimensions(build, lead, with_noise):
    rssm = build()
    deter, stoch = state(rssm, lead)
    action, embed, is_init = torch.randn(*lead, ACTION), torch.randn(*lead, EMBED), torch.rand(*lead, 1) < 0.5
    noise = noise_like(rssm, lead) if with_noise else None
    for out in (
        rssm.imagine_step(deter, stoch, action, noise),
        rssm.observe_step(deter, stoch, action, embed, is_init, noise),
    ):
        shapes = [(*lead, DETER), (*lead, *rssm.latent.shape), (*lead, rssm.latent.params)]
        assert [x.shape for x in out] == shapes
    assert rssm.features(deter, stoch).shape == (*lead, rssm.feat_size)
    assert [x.shape for x in rssm.initial_state(lead)] == [deter.shape, stoch.shape]


@every_model
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("time", [1, 4])
@pytest.mark.parametrize("with_noise", [True, False])
def test_observing_a_sequence_is_observing_its_steps(build, lead, time, with_noise):
    rssm = build()
    deter, stoch, action, embed, is_init, noise = sequence(rssm, lead, time)
    noise = noise if with_noise else None
    whole = rssm.observe_sequence(deter, stoch, action, embed, is_init, noise)
    dim = len(lead)
    for t in range(time):
        step = [x.select(dim, t) for x in (action, embed, is_init)]
        deter, stoch, raw = rssm.observe_step(deter, stoch, *step, None if noise is None else noise.select(dim, t))
        for part, expected in zip(whole, (deter, stoch, raw), strict=True):
            torch.testing.assert_close(part.select(dim, t), expected, rtol=1e-4, atol=1e-5)


@every_model
def test_is_init_erases_the_past_even_if_it_is_not_a_number(build):
    rssm = build()
    deter, stoch, action, embed, _, noise = sequence(rssm, (3,), 2)
    is_init = torch.tensor([[[True], [False]]] * 3)
    expected = rssm.observe_sequence(*rssm.initial_state((3,)), torch.zeros_like(action), embed, is_init, noise)
    for past in (deter, torch.full_like(deter, torch.nan)):
        actual = rssm.observe_sequence(past, stoch, action, embed, is_init, noise)
        for a, b in zip(actual, expected, strict=True):
            assert torch.equal(a[:, 0], b[:, 0])


@every_model
def test_no_gradient_crosses_the_beginning_of_an_episode(build):
    rssm = build()
    deter, stoch, action, embed, is_init, noise = sequence(rssm, (3,), 4)
    is_init = torch.zeros_like(is_init)
    is_init[:, 2] = True
    embed.requires_grad_()
    rssm.observe_sequence(deter, stoch, action, embed, is_init, noise)[0][:, 3].sum().backward()
    assert embed.grad[:, :2].eq(0).all() and embed.grad[:, 2].abs().sum() > 0


@every_model
def test_the_future_does_not_reach_the_past(build):
    rssm = build()
    first, other = sequence(rssm, (3,), 5), sequence(rssm, (3,), 5)
    mixed = first[:2] + [torch.cat([a[:, :3], b[:, 3:]], 1) for a, b in zip(first[2:], other[2:], strict=True)]
    for a, b in zip(rssm.observe_sequence(*first), rssm.observe_sequence(*mixed), strict=True):
        torch.testing.assert_close(a[:, :3], b[:, :3])


@every_model
def test_rows_are_independent(build):
    rssm, order = build(), torch.tensor([2, 0, 3, 1])
    inputs = sequence(rssm, (4,), 3)
    whole = rssm.observe_sequence(*inputs)
    permuted = rssm.observe_sequence(*(x[order] for x in inputs))
    alone = rssm.observe_sequence(*(x[:1] for x in inputs))
    for a, b, c in zip(whole, permuted, alone, strict=True):
        torch.testing.assert_close(a[order], b, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a[:1], c, rtol=1e-4, atol=1e-5)


@every_model
def test_nothing_is_mutated_and_nothing_is_aliased(build):
    rssm = build()
    assert_inputs_untouched(rssm.observe_sequence, *sequence(rssm, (3,), 2))
    deter, stoch = state(rssm, (3,))
    assert_inputs_untouched(rssm.imagine_step, deter, stoch, torch.randn(3, ACTION), noise_like(rssm, (3,)))


@every_model
def test_gradient_reaches_every_parameter(build):
    rssm = build()
    deter, stoch, posterior = rssm.observe_sequence(*sequence(rssm, (4,), 5))
    dyn, rep = balanced_kl(rssm.latent.kl, posterior, rssm.prior(deter), nats=0.0)
    assert_every_parameter_gets_a_gradient(rssm, (dyn + rep).sum() + rssm.features(deter, stoch).sum())


@every_model
def test_gradients_of_a_sequence_are_those_of_its_steps(build):
    rssm = build()
    deter, stoch, action, embed, is_init, noise = sequence(rssm, (3,), 4)
    weights = [torch.randn(3, 4, DETER), torch.randn(3, 4, *rssm.latent.shape), torch.randn(3, 4, rssm.latent.params)]

    def gradients(outputs):
        loss = sum((w * x).sum() for w, x in zip(weights, outputs, strict=True))
        inputs = [*leaves, *(p for name, p in rssm.named_parameters() if not name.startswith("prior"))]
        return torch.autograd.grad(loss, inputs)

    leaves = [x.requires_grad_() for x in (deter, stoch, action, embed)]
    whole = gradients(rssm.observe_sequence(deter, stoch, action, embed, is_init, noise))
    steps, h, z = [], deter, stoch
    for t in range(4):
        h, z, raw = rssm.observe_step(h, z, action[:, t], embed[:, t], is_init[:, t], noise[:, t])
        steps.append((h, z, raw))
    single = gradients([torch.stack(parts, 1) for parts in zip(*steps, strict=True)])
    for a, b in zip(whole, single, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_actions_beyond_one_count_as_one():
    rssm = categorical()
    deter, stoch = state(rssm, (3,))
    big = torch.tensor([[5.0, -3.0, 0.5]]).expand(3, -1)
    small = torch.tensor([[1.0, -1.0, 0.5]]).expand(3, -1)
    assert torch.equal(rssm.cell(deter, stoch.flatten(1), big), rssm.cell(deter, stoch.flatten(1), small))


@every_model
def test_imagination_is_a_component(build):
    rssm = build()
    deter, stoch = state(rssm, (3,))
    action, noise = torch.randn(3, ACTION), noise_like(rssm, (3,))
    for extra, base in (({"noise": noise}, noise), ({}, None)):
        out = rssm(TensorDict({"deter": deter, "stoch": stoch, "action": action, **extra}, [3]))
        expected = rssm.imagine_step(deter, stoch, action, base)
        for key, value in zip(rssm.out_keys, expected, strict=True):
            assert torch.equal(out[key], value)


def test_the_filter_is_a_component_with_the_models_own_parameters():
    rssm = categorical()
    step, whole = RSSMObserve(rssm), RSSMObserveSequence(rssm)
    assert (
        {id(p) for p in step.parameters()} == {id(p) for p in rssm.parameters()} == {id(p) for p in whole.parameters()}
    )
    deter, stoch, action, embed, is_init, noise = sequence(rssm, (3,), 4)
    names = dict(zip(("action", "embed", "is_init", "noise"), (action, embed, is_init, noise), strict=True))
    initial = {"deter": deter, "stoch": stoch}
    many = whole(TensorDict({"initial": TensorDict(initial, [3]), **names}, [3]))
    once = step(TensorDict({**initial, **{key: value[:, 0] for key, value in names.items()}}, [3]))
    for key in ("deter", "stoch", "posterior"):
        torch.testing.assert_close(once[key], many[key][:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: BlockGRUCell(10, 4, 2, blocks=4), "must divide deter"),
        (lambda: BlockGRUCell(8, 4, 2, blocks=4, layers=0), "at least one hidden layer"),
        (lambda: RecurrentPosterior(8, 4, 4, layers=0), "at least one layer"),
        (lambda: CategoricalLatent(2, 2, unimix=2.0), r"\[0, 1\]"),
    ],
)
def test_impossible_parts_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@given(st.sampled_from(["categorical", "gaussian"]), st.sampled_from(LEADS), st.integers(0, 2**31))
def test_latents_obey_their_interface(name, lead, seed):
    torch.manual_seed(seed)
    latent = CategoricalLatent(3, 5) if name == "categorical" else GaussianLatent(4)
    p, q = torch.randn(*lead, latent.params), torch.randn(*lead, latent.params)
    noise = latent.noise_spec().expand(*lead, *latent.noise_shape).rand()
    sample = latent.sample(p, noise)
    assert sample.shape == (*lead, *latent.shape) and sample.numel() == max(1, torch.Size(lead).numel()) * latent.size
    assert torch.equal(latent.sample(p, noise), sample)
    assert latent.kl(p, q).shape == lead and (latent.kl(p, q) >= 0).all() and latent.kl(p, p).eq(0).all()
    assert latent.entropy(p).shape == lead


def test_samples_of_the_categorical_latent_are_one_hot_and_without_noise_the_mode():
    latent, raw = CategoricalLatent(3, 5), torch.randn(7, 15)
    sample = latent.sample(raw, torch.rand(7, 3))
    assert ((sample == 0) | (sample == 1)).all() and (sample.sum(-1) == 1).all()
    assert torch.equal(latent.sample(raw, None).argmax(-1), raw.unflatten(-1, (3, 5)).argmax(-1))


def test_the_gaussian_latent_scales_its_noise():
    latent, raw = GaussianLatent(2, min_std=0.1), torch.tensor([1.0, 2.0, 0.0, 50.0])
    mean, std = latent.mean_std(raw)
    assert mean.tolist() == [1.0, 2.0] and std.tolist() == pytest.approx([0.7931472, 50.1])
    assert latent.sample(raw, torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1.7931472, -48.1])


@every_model
@pytest.mark.compile
def test_the_model_compiles_whole_to_the_same_numbers(build):
    rssm = build()
    inputs = sequence(rssm, (3,), 4)
    deter, stoch, action = *state(rssm, (3,)), torch.randn(3, ACTION)
    noise = noise_like(rssm, (3,))
    observe = torch.compile(rssm.observe_sequence, fullgraph=True, backend="eager")
    imagine = torch.compile(rssm.imagine_step, fullgraph=True, backend="eager")
    torch.testing.assert_close(observe(*inputs), rssm.observe_sequence(*inputs))
    torch.testing.assert_close(imagine(deter, stoch, action, noise), rssm.imagine_step(deter, stoch, action, noise))


@pytest.mark.parametrize("std", [SoftplusStd(), SigmoidStd()], ids=["softplus", "sigmoid"])
def test_standard_deviations_are_positive_and_their_slopes_are_their_derivatives(std):
    raw = torch.linspace(-8, 8, 33, dtype=torch.float64, requires_grad=True)
    value = std(raw)
    assert (value > 0).all()
    (slope,) = torch.autograd.grad(value.sum(), raw)
    torch.testing.assert_close(std.derivative(raw.detach()), slope)


def test_a_learned_episode_begins_at_the_mode_of_the_prior_of_a_learned_state():
    rssm = dreamer_v3_2023()
    deter, stoch = rssm.initial_state((2, 3))
    assert deter.shape == (2, 3, DETER) and deter.abs().max() < 1 and deter.abs().sum() > 0
    torch.testing.assert_close(deter[1, 2], rssm.initial.weight.tanh())
    assert torch.equal(stoch.detach(), rssm.latent.sample(rssm.prior(deter), None).detach())


def test_the_initial_state_is_where_is_init_leads():
    rssm = dreamer_v3_2023()
    deter, stoch, action, embed, _, noise = sequence(rssm, (3,), 1)
    begins, goes_on = torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 1, dtype=torch.bool)
    reset = rssm.observe_step(deter, stoch, action[:, 0], embed[:, 0], begins, noise[:, 0])
    none = torch.zeros_like(action[:, 0])
    begun = rssm.observe_step(*rssm.initial_state((3,)), none, embed[:, 0], goes_on, noise[:, 0])
    for a, b in zip(reset, begun, strict=True):
        torch.testing.assert_close(a, b)


def test_rows_in_the_middle_of_an_episode_are_not_moved_by_the_learned_start():
    rssm = dreamer_v3_2023()
    deter, stoch, action, embed, is_init, noise = sequence(rssm, (3,), 4)
    deter, _, _ = rssm.observe_sequence(deter, stoch, action, embed, torch.zeros_like(is_init), noise)
    (gradient,) = torch.autograd.grad(deter.sum(), rssm.initial.weight)
    assert not gradient.any()
