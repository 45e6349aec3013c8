"""The RSSM against the authors' own code."""

import pytest
import torch

from tests.support.golden_dreamerv3 import r2dreamer_rssm_state, torch_state
from tests.support.golden_vectors import load
from wmcomponents.dynamics import RSSM, AbsolutePosterior, BlockGRUCell, CategoricalLatent, Prior
from wmcomponents.functional import balanced_kl, categorical_kl, free_nats

EMBED, ACTION = 10, 3


def build(config: dict) -> RSSM:
    sizes = {"norm": config["norm"], "act": config["act"]}
    latent = CategoricalLatent(config["stoch"], config["classes"], config["unimix"])
    if not config["absolute"]:
        return RSSM.block_gru(
            EMBED,
            ACTION,
            config["deter"],
            config["hidden"],
            config["stoch"],
            config["classes"],
            config["blocks"],
            **sizes,
        )
    return RSSM(
        BlockGRUCell(config["deter"], latent.size, ACTION, config["hidden"], config["blocks"], **sizes),
        latent,
        Prior(config["deter"], latent.params, config["hidden"], config["imglayers"], **sizes),
        AbsolutePosterior(EMBED, latent.params, config["hidden"], config["obslayers"], **sizes),
    )


def observe(rssm: RSSM, tensors: dict) -> tuple[torch.Tensor, ...]:
    return rssm.observe_sequence(
        tensors["in/deter0"],
        tensors["in/stoch0"],
        tensors["in/action"],
        tensors["in/tokens"],
        tensors["in/reset"].bool().unsqueeze(-1),
    )


def imagine(rssm: RSSM, deter: torch.Tensor, stoch: torch.Tensor, actions: torch.Tensor) -> list[torch.Tensor]:
    steps = []
    for action in actions.unbind(1):
        deter, stoch, prior = rssm.imagine_step(deter, stoch, action)
        steps.append((deter, stoch, prior))
    return [torch.stack(parts, 1) for parts in zip(*steps, strict=True)]


@pytest.mark.parametrize("name", ["v3_rssm_blockgru", "v3_rssm_absolute_layernorm_gelu"])
def test_observe_imagine_losses_and_every_gradient_agree_with_the_official_code(name):
    info, tensors = load(name)
    rssm = build(info["config"])
    rssm.load_state_dict(torch_state(tensors, "dyn"))
    deter, stoch, posterior = observe(rssm, tensors)
    prior = rssm.prior(deter)
    dyn, rep = balanced_kl(rssm.latent.kl, posterior, prior, info["config"]["free_nats"])
    imagined = imagine(rssm, deter[:, -1], stoch[:, -1], tensors["in/imag_action"])
    shape = rssm.latent.shape
    actual = {
        "obs/deter": deter,
        "obs/stoch": stoch,
        "obs/logit": posterior.unflatten(-1, shape),
        "obs/prior_logit": prior.unflatten(-1, shape),
        "loss/dyn": dyn,
        "loss/rep": rep,
        "dyn_ent": rssm.latent.entropy(prior).mean().reshape(1),
        "rep_ent": rssm.latent.entropy(posterior).mean().reshape(1),
        "imag/deter": imagined[0],
        "imag/stoch": imagined[1],
        "imag/logit": imagined[2].unflatten(-1, shape),
    }
    for key, value in actual.items():
        torch.testing.assert_close(value, tensors[f"out/{key}"], **info["tolerance"], msg=lambda m, k=key: f"{k}: {m}")
    (dyn.mean() + 0.1 * rep.mean()).backward()
    gradients = torch_state(tensors, "dyn", "grad/")
    assert set(gradients) == {key for key, _ in rssm.named_parameters()}
    for key, parameter in rssm.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[key], **info["tolerance"], msg=lambda m, k=key: f"{k}: {m}"
        )


def test_states_agree_with_r2dreamer_and_so_does_its_divergence_without_uniform_mixing():
    info, tensors = load("r2dreamer_rssm_blockgru")
    config = info["config"]
    rssm = RSSM.block_gru(
        EMBED, ACTION, config["deter"], config["hidden"], config["stoch"], config["discrete"], config["blocks"]
    )
    rssm.load_state_dict(r2dreamer_rssm_state(tensors))
    with torch.no_grad():
        deter, stoch, posterior = observe(rssm, tensors)
        prior = rssm.prior(deter)
        imagined = imagine(rssm, deter[:, -1], stoch[:, -1], tensors["in/imag_action"])
    posterior, prior = (raw.unflatten(-1, rssm.latent.shape) for raw in (posterior, prior))
    kl = categorical_kl(posterior.log_softmax(-1), prior.log_softmax(-1)).sum(-1)
    actual = {
        "deter": deter,
        "stoch": stoch,
        "logit": posterior,
        "prior_logit": prior,
        "imag_deter": imagined[0],
        "imag_stoch": imagined[1],
        "kl_dyn_nounimix_free1": free_nats(kl),
        "kl_rep_nounimix_free1": free_nats(kl),
    }
    for key, value in actual.items():
        torch.testing.assert_close(value, tensors[f"out/{key}"], **info["tolerance"], msg=lambda m, k=key: f"{k}: {m}")
