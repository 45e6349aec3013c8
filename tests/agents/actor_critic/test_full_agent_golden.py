"""DreamerV3's whole objective, world model and behaviour, against the official agent's numbers and gradients."""

import torch
from tensordict import TensorDict
from torchrl.data import OneHot

from tests.support.golden_dreamerv3 import torch_state
from tests.support.golden_dreamerv3_agent import reference
from wmcomponents.agents.actor_critic import (
    Actor,
    CategoricalActions,
    ImaginationLoss,
    PercentileNormalizer,
    Reinforce,
    actor_term,
    critic_term,
    replay_targets,
)
from wmcomponents.heads import TwoHotHead


def whole_agent():
    """Every term of one batch, as the official agent weighs them, with the parts that were trained."""
    meta, tensors, model, objective, arrivals, state = reference()
    config, features = meta["config"], model.dynamics.feat_size
    sizes = {"units": config["units"], "layers": config["layers"]}
    actor = Actor(features, OneHot(5), distribution=CategoricalActions([5]), **sizes)
    critic = TwoHotHead(features, bins=config["bins"], **sizes, in_keys=("latent",))
    for name, part in (("pol", actor), ("val", critic)):
        part.load_state_dict(torch_state(tensors, name), strict=True)
    loss = ImaginationLoss(model, actor, critic, horizon=config["imag_length"], discount=1 - 1 / config["horizon"])
    world, _ = objective.terms(arrivals, state, None)
    filtered = model.observe_sequence(state, arrivals.action, arrivals.observation, arrivals.is_init, None)
    with torch.no_grad():
        feat = model.features(filtered)
        goes_on = model.continue_head.mean(model.continue_head.raw(feat)) / model.discount
    start = TensorDict({**{key: value.detach() for key, value in filtered.items()}, "continue": goes_on}, [2, 5])
    dreamt = loss.dream(start, mode=True)
    seen = dreamt.features.detach()
    raw, policy = critic.raw(seen), actor.raw(seen[:, :-1])
    value = critic.mean(raw).squeeze(-1).detach()
    targets = loss.targets(dreamt.reward, dreamt.cont, value)
    loss.normalizer.update(targets.state_value)
    log_prob = actor.distribution.log_prob(policy, dreamt.vector.detach())
    entropy = actor.distribution.entropy(policy)
    loss.slow_critic.load_state_dict(torch_state(tensors, "slowval"))

    def slowly(features):
        return critic.mean(loss.slow_critic.raw(features.detach())).squeeze(-1)

    terms = {
        "policy": actor_term(targets, value, log_prob, entropy, Reinforce(), loss.normalizer, 3e-4).mean(-1),
        "value": critic_term(critic, raw, targets, slowly(seen)).mean(-1),
    }
    real = model.features(filtered)  # with gradients into the world model
    replay = replay_targets(
        tensors["in/obs/reward"],
        tensors["in/obs/is_terminal"].bool(),
        tensors["in/obs/is_last"].bool(),
        targets.state_value[:, 0].reshape(2, 5),
        discount=1 - 1 / config["horizon"],
    )
    terms["repval"] = critic_term(critic, critic.raw(real), replay, slowly(real))
    parts = {"enc": model.encoder, "dyn": model.dynamics, "dec": model.decoder, "rew": model.reward_head}
    parts |= {"con": model.continue_head, "pol": actor, "val": critic}
    return meta, tensors, world, terms, loss.normalizer, parts


def test_the_terms_of_behaviour_are_the_official_ones():
    meta, tensors, _, terms, normalizer, _ = whole_agent()
    for name in ("policy", "value"):
        expected = tensors[f"out/loss/{name}"].flatten()
        torch.testing.assert_close(
            terms[name], expected, **meta["tolerance"], msg=lambda text, name=name: f"{name} {text}"
        )
    torch.testing.assert_close(terms["repval"], tensors["out/loss/repval"], **meta["tolerance"])
    assert isinstance(normalizer, PercentileNormalizer)
    torch.testing.assert_close(normalizer.first[None], tensors["out/new_retnorm_lo"], **meta["tolerance"])
    torch.testing.assert_close(normalizer.second[None], tensors["out/new_retnorm_hi"], **meta["tolerance"])


def test_the_total_and_the_gradient_norms_of_all_parts_are_the_official_ones():
    meta, tensors, world, terms, _, parts = whole_agent()
    scales = meta["config"]["loss_scales"]
    total = sum(value.mean() for value in world.values()) + sum(scales[name] * terms[name].mean() for name in terms)
    torch.testing.assert_close(total[None], tensors["out/total"], **meta["tolerance"])
    total.backward()
    for module, part in parts.items():
        official = torch_state(tensors, module, "out/gradnorm/")
        for name, parameter in part.named_parameters():
            torch.testing.assert_close(
                parameter.grad.norm().reshape(1),
                official[name].reshape(1),
                **meta["tolerance"],
                msg=lambda text, name=f"{module}.{name}": f"{name}: {text}",
            )
