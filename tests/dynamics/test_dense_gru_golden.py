"""The dense-GRU models (PlaNet, Dreamer V1, Dreamer V2, DreamerV3 of 2023) against their authors' own code."""

from functools import partial

import pytest
import torch
from torch import Tensor

from tests.support.golden_vectors import load
from wmcomponents.dynamics import (
    RSSM,
    CategoricalLatent,
    DenseGRUCell,
    GaussianLatent,
    LearnedInitialState,
    Prior,
    RecurrentPosterior,
    SigmoidStd,
)
from wmcomponents.functional import averaged_free_nats, balanced_kl, excess_nats, free_nats, mixed_kl
from wmcomponents.nn import NormGRU, ResetAfterGRU, ResetBeforeGRU

ACTION, EMBED = 3, 6


def agree(actual: dict[str, Tensor], tensors: dict[str, Tensor], tolerance: dict, prefix: str = "out/") -> None:
    for key, value in actual.items():
        torch.testing.assert_close(value, tensors[prefix + key], **tolerance, msg=lambda m, k=key: f"{k}: {m}")


def everything(tensors: dict[str, Tensor], prefix: str) -> set[str]:
    return {key.removeprefix(prefix) for key in tensors if key.startswith(prefix)}


def imagine(rssm: RSSM, deter: Tensor, stoch: Tensor, actions: Tensor, noise: Tensor | None) -> list[Tensor]:
    steps = []
    for t, action in enumerate(actions.unbind(1)):
        deter, stoch, raw = rssm.imagine_step(deter, stoch, action, None if noise is None else noise[t])
        steps.append((deter, stoch, raw))
    return [torch.stack(parts, 1) for parts in zip(*steps, strict=True)]


def gaussian(rssm: RSSM, prefix: str, deter: Tensor, stoch: Tensor, raw: Tensor, std: str = "std") -> dict[str, Tensor]:
    mean, width = rssm.latent.mean_std(raw)
    return {
        f"{prefix}/deter": deter,
        f"{prefix}/stoch": stoch,
        f"{prefix}/mean": mean,
        f"{prefix}/{std}": width,
    }


def discrete(rssm: RSSM, prefix: str, deter: Tensor, stoch: Tensor, raw: Tensor) -> dict[str, Tensor]:
    return {
        f"{prefix}/deter": deter,
        f"{prefix}/stoch": stoch,
        f"{prefix}/logit": raw.unflatten(-1, rssm.latent.shape),
    }


def dense(tensors: dict[str, Tensor], *names: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of dense layers that read the same and stand side by side as one."""
    kernels = [tensors[f"{name}/kernel"].T for name in names]
    return torch.cat(kernels), torch.cat([tensors[f"{name}/bias"] for name in names])


def load_pairs(rssm: RSSM, pairs: dict[str, tuple[Tensor, Tensor]]) -> None:
    state = {}
    for name, (weight, bias) in pairs.items():
        state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    rssm.load_state_dict(state)


def planet() -> tuple[RSSM, dict, dict]:
    info, tensors = load("planet_gaussian_rssm")
    c = info["config"]
    latent = GaussianLatent(c["state"], c["min_stddev"])
    sizes = {"units": c["embed_units"], "layers": 1, "norm": "none", "act": c["activation"]}
    rssm = RSSM(
        DenseGRUCell(latent.size, ACTION, ResetBeforeGRU(c["embed_units"], c["belief"]), act=c["activation"]),
        latent,
        Prior(c["belief"], latent.params, **sizes),
        RecurrentPosterior(c["belief"], EMBED, latent.params, **sizes),
    )
    posterior = {key: value for key, value in tensors.items() if key.startswith("w/posterior")}
    # The official posterior reads (belief, embedding), as ours does; its cell reads (sample, action), likewise.
    gru = "w/transition/gru_cell/"
    load_pairs(
        rssm,
        {
            "cell.input.linear": dense(tensors, "w/transition/dense"),
            "cell.gru.gates": (tensors[gru + "w_ru"].T, tensors[gru + "b_ru"]),
            "cell.gru.candidate": (tensors[gru + "w_c"].T, tensors[gru + "b_c"]),
            "prior.mlp.layers.0.linear": dense(tensors, "w/transition/dense_1"),
            "prior.out": dense(tensors, "w/transition/dense_2", "w/transition/dense_3"),
            "posterior.mlp.layers.0.linear": dense(posterior, "w/posterior/dense"),
            "posterior.out": dense(posterior, "w/posterior/dense_1", "w/posterior/dense_2"),
        },
    )
    return rssm, info, tensors


def test_planets_filter_its_prior_and_its_loss_agree_with_the_official_code():
    rssm, info, tensors = planet()
    batch, time = tensors["in/embed"].shape[:2]
    deter, stoch, posterior = rssm.observe_sequence(
        *rssm.initial_state((batch,)),
        tensors["in/prev_action"],
        tensors["in/embed"],
        torch.zeros(batch, time, 1, dtype=torch.bool),
        tensors["in/noise_post"].transpose(0, 1),
    )
    prior = rssm.prior(deter)
    kl = rssm.latent.kl(posterior, prior)
    actual = {"kl": kl, "divergence_loss_free0.5": excess_nats(kl, 0.5).mean().reshape(1)}
    # Outputs called prior are those of one transition after the posterior of the step before: the same recurrent state.
    sample = rssm.latent.sample(prior, tensors["in/noise_prior"].transpose(0, 1))
    for prefix, values, raw in (("post", stoch, posterior), ("prior", sample, prior)):
        named = gaussian(rssm, prefix, deter, values, raw, "stddev")
        actual |= named | {f"{prefix}/belief": deter, f"{prefix}/rnn_state": deter, f"{prefix}/sample": values}
        del actual[f"{prefix}/deter"], actual[f"{prefix}/stoch"]
    assert set(actual) == everything(tensors, "out/")
    agree(actual, tensors, info["tolerance"])


def keras_gru(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Keras' gates (update, reset, candidate) in torch's order (reset, update, candidate)."""

    def order(x: Tensor) -> Tensor:
        update, reset, candidate = x.chunk(3, -1)
        return torch.cat([reset, update, candidate], -1)

    inputs, recurrent = order(tensors[prefix + "bias"])
    return {
        "cell.gru.unit.weight_ih": order(tensors[prefix + "kernel"]).T,
        "cell.gru.unit.weight_hh": order(tensors[prefix + "recurrent_kernel"]).T,
        "cell.gru.unit.bias_ih": inputs,
        "cell.gru.unit.bias_hh": recurrent,
    }


def v1_state(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    pairs = {
        "cell.input.linear": "img1",
        "prior.mlp.layers.0.linear": "img2",
        "prior.out": "img3",
        "posterior.mlp.layers.0.linear": "obs1",
        "posterior.out": "obs2",
    }
    state = keras_gru(tensors, prefix + "gru/")
    for ours, official in pairs.items():
        state[f"{ours}.weight"], state[f"{ours}.bias"] = dense(tensors, prefix + official)
    return state


def test_v1s_filter_dream_divergence_and_every_gradient_agree_with_the_official_code():
    info, tensors = load("v1_gaussian_rssm")
    c = info["config"]
    latent = GaussianLatent(c["stoch"], c["min_std"])
    sizes = {"units": c["hidden"], "layers": 1, "norm": "none", "act": c["act"]}
    rssm = RSSM(
        DenseGRUCell(latent.size, c["action"], ResetAfterGRU(c["hidden"], c["deter"]), act=c["act"]),
        latent,
        Prior(c["deter"], latent.params, **sizes),
        RecurrentPosterior(c["deter"], c["embed"], latent.params, **sizes),
    )
    rssm.load_state_dict(v1_state(tensors, "w/"))
    batch, time = tensors["in/embed"].shape[:2]
    deter, stoch, posterior = rssm.observe_sequence(
        *rssm.initial_state((batch,)),
        tensors["in/action"],
        tensors["in/embed"],
        torch.zeros(batch, time, 1, dtype=torch.bool),
        tensors["in/noise_post"].transpose(0, 1),
    )
    prior = rssm.prior(deter)
    sample = latent.sample(prior, tensors["in/noise_prior"].transpose(0, 1))
    kl = latent.kl(posterior, prior)
    dream = imagine(rssm, deter[:, -1], stoch[:, -1], tensors["in/imag_action"], tensors["in/noise_imag"])
    actual = {
        **gaussian(rssm, "post", deter, stoch, posterior),
        **gaussian(rssm, "prior", deter, sample, prior),
        **gaussian(rssm, "imag", *dream),
        "feat": torch.cat([stoch, deter], -1),  # the official features have the sample first
        "kl": kl,
        "kl_mean": kl.mean().reshape(1),
    }
    assert set(actual) == everything(tensors, "out/")
    agree(actual, tensors, info["tolerance"])
    averaged_free_nats(kl, 0.5).mean().backward()
    gradients = v1_state(tensors, "grad/")
    found = {key: parameter.grad for key, parameter in rssm.named_parameters()}
    assert set(found) == set(gradients)
    agree(found, gradients, info["tolerance"], "")


V2_NAMES = {
    "cell.input.linear": "img_in",
    "cell.gru.linear": "cell/dense",
    "prior.mlp.layers.0.linear": "img_out_0",
    "prior.out": "img_dist_0",
    "posterior.mlp.layers.0.linear": "obs_out",
    "posterior.out": "obs_dist",
}


def v2_state(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    state = {
        "cell.gru.norm.weight": tensors[prefix + "cell/norm/gamma"],
        "cell.gru.norm.bias": tensors[prefix + "cell/norm/beta"],
    }
    for ours, official in V2_NAMES.items():
        state[f"{ours}.weight"], state[f"{ours}.bias"] = dense(tensors, prefix + official)
    return state


def v2() -> tuple[RSSM, dict, dict]:
    info, tensors = load("v2_discrete_rssm_kl")
    c = info["config"]
    latent = CategoricalLatent(c["stoch"], c["discrete"], unimix=0.0)
    sizes = {"units": c["hidden"], "layers": 1, "norm": c["norm"], "act": c["act"]}
    rssm = RSSM(
        DenseGRUCell(latent.size, ACTION, NormGRU(c["hidden"], c["deter"]), act=c["act"]),
        latent,
        Prior(c["deter"], latent.params, **sizes),
        RecurrentPosterior(c["deter"], EMBED, latent.params, **sizes),
    )
    rssm.load_state_dict(v2_state(tensors, "w/"))
    return rssm, info, tensors


def observe_modes(rssm: RSSM, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    is_init = tensors["in/is_first"].bool().unsqueeze(-1)
    state = rssm.initial_state(is_init.shape[:1])
    return rssm.observe_sequence(*state, tensors["in/action"], tensors["in/embed"], is_init)


def test_v2s_filter_and_dream_agree_with_the_official_code():
    rssm, info, tensors = v2()
    with torch.no_grad():
        deter, stoch, posterior = observe_modes(rssm, tensors)
        prior = rssm.prior(deter)
        dream = imagine(rssm, deter[:, -1], stoch[:, -1], tensors["in/imag_action"], None)
    actual = {
        **discrete(rssm, "post", deter, stoch, posterior),
        **discrete(rssm, "prior", deter, rssm.latent.sample(prior, None), prior),
        **discrete(rssm, "imag", *dream),
    }
    kinds = {key for key in everything(tensors, "out/") if not key.startswith("kl/")}
    assert set(actual) == kinds
    agree(actual, tensors, info["tolerance"])


V2_DIVERGENCES = {
    "balance0.5_free0": (0.5, partial(free_nats, nats=0.0)),
    "balance0.8_free0_avg": (0.8, partial(averaged_free_nats, nats=0.0)),
    "balance0.8_free1_avg": (0.8, partial(averaged_free_nats, nats=1.0)),
    "balance0.8_free1_noavg": (0.8, partial(free_nats, nats=1.0)),
}


@pytest.mark.parametrize("name", V2_DIVERGENCES)
def test_v2s_divergences_and_their_gradients_agree_with_the_official_code(name):
    rssm, info, tensors = v2()
    balance, free = V2_DIVERGENCES[name]
    deter, _, posterior = observe_modes(rssm, tensors)
    prior = rssm.prior(deter)
    loss = mixed_kl(rssm.latent.kl, posterior, prior, balance, free).mean()
    actual = {"loss": loss.reshape(1), "value": rssm.latent.kl(posterior, prior)}
    agree(actual, tensors, info["tolerance"], f"out/kl/{name}/")
    prefix = f"grad/{name}/"
    if everything(tensors, prefix):
        loss.backward()
        gradients = v2_state(tensors, prefix)
        found = {key: parameter.grad for key, parameter in rssm.named_parameters()}
        assert set(found) == set(gradients)
        agree(found, gradients, info["tolerance"], "")


V3_NAMES = {
    "W": "initial.weight",
    "_cell.layers.GRU_linear.weight": "cell.gru.linear.weight",
    "_cell.layers.GRU_norm": "cell.gru.norm",
    "_img_in_layers.0": "cell.input.linear",
    "_img_in_layers.1": "cell.input.norm",
    "_img_out_layers.0": "prior.mlp.layers.0.linear",
    "_img_out_layers.1": "prior.mlp.layers.0.norm",
    "_imgs_stat_layer": "prior.out",
    "_obs_out_layers.0": "posterior.mlp.layers.0.linear",
    "_obs_out_layers.1": "posterior.mlp.layers.0.norm",
    "_obs_stat_layer": "posterior.out",
}


def v3_2023_state(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    state = {}
    for official in everything(tensors, prefix):
        stem, _, leaf = official.rpartition(".")
        name = V3_NAMES[official] if official in V3_NAMES else f"{V3_NAMES[stem]}.{leaf}"
        value = tensors[prefix + official]
        state[name] = value[0] if official == "W" else value
    return state


@pytest.mark.parametrize("kind", ["discrete", "gaussian"])
def test_the_first_dreamerv3_and_every_gradient_agree_with_the_2023_code(kind):
    info, tensors = load(f"v3_2023_rssm_dense_gru_{kind}")
    c = info["config"]
    is_discrete = kind == "discrete"
    latent = (
        CategoricalLatent(c["stoch"], c["discrete"], unimix=0.01)
        if is_discrete
        else GaussianLatent(c["stoch"], std=SigmoidStd())
    )
    sizes = {"units": c["hidden"], "layers": 1, "norm": "keras_layer", "act": "silu", "bias": False}
    gru = NormGRU(c["hidden"], c["deter"], bias=False)
    rssm = RSSM(
        DenseGRUCell(latent.size, ACTION, gru, "keras_layer", "silu", bias=False),
        latent,
        Prior(c["deter"], latent.params, **sizes),
        RecurrentPosterior(c["deter"], EMBED, latent.params, **sizes),
        LearnedInitialState(c["deter"]),
    )
    rssm.load_state_dict(v3_2023_state(tensors, "w/"))

    def noise(name: str) -> Tensor | None:
        return None if is_discrete else tensors[f"in/noise_{name}"].transpose(0, 1)

    is_init = tensors["in/is_first"].bool().unsqueeze(-1)
    batch = is_init.shape[0]
    # The state before the first step does not matter: an episode begins with it.
    nonsense = torch.full((batch, c["deter"]), 9.0), torch.full((batch, *latent.shape), 9.0)
    deter, stoch, posterior = rssm.observe_sequence(
        *nonsense, tensors["in/action"], tensors["in/embed"], is_init, noise("post")
    )
    prior = rssm.prior(deter)
    sample = latent.sample(prior, noise("prior"))
    dyn, rep = balanced_kl(latent.kl, posterior, prior, c["kl_free"])
    loss = c["dyn_scale"] * dyn + c["rep_scale"] * rep
    dream = imagine(
        rssm, deter[:, -1], stoch[:, -1], tensors["in/imag_action"], None if is_discrete else tensors["in/noise_imag"]
    )
    named = discrete if is_discrete else gaussian
    actual = {
        **named(rssm, "post", deter, stoch, posterior),
        **named(rssm, "prior", deter, sample, prior),
        **named(rssm, "imag", *dream),
        "dyn": dyn,
        "rep": rep,
        "kl_loss": loss,
        "kl_value": latent.kl(posterior, prior),
    }
    assert set(actual) == everything(tensors, "out/")
    agree(actual, tensors, info["tolerance"])
    loss.mean().backward()
    gradients = v3_2023_state(tensors, "grad/")
    found = {key: parameter.grad for key, parameter in rssm.named_parameters()}
    assert set(found) == set(gradients)
    agree(found, gradients, info["tolerance"], "")
