"""The world-model losses of the official agent, on the official weights."""

import torch

from tests.support.golden_dreamerv3 import torch_state
from tests.support.golden_dreamerv3_agent import reference


def test_every_term_equals_the_official_one():
    meta, tensors, _, objective, arrivals, state = reference()
    losses, _ = objective.terms(arrivals, state, None)
    official = {"dyn": "dyn", "rep": "rep", "reward": "rew", "continue": "con", "reconstruction": "image"}
    scales = meta["config"]["loss_scales"]
    for ours, theirs in official.items():
        scale = scales.get(theirs, scales["rec"])
        torch.testing.assert_close(losses[ours], scale * tensors[f"out/loss/{theirs}"], **meta["tolerance"])


def test_the_filter_reaches_the_official_states():
    meta, tensors, model, _, arrivals, state = reference()
    states = model.observe_sequence(state, arrivals.action, arrivals.observation, arrivals.is_init, None)
    for key in ("deter", "stoch"):
        torch.testing.assert_close(states[key], tensors[f"out/feat/{key}"], **meta["tolerance"])


def test_gradient_norms_of_the_decoder_equal_the_official_ones():
    # Only the decoder and these heads are trained by the world-model losses alone; the rest also by the replay value.
    meta, tensors, model, objective, arrivals, state = reference()
    losses, _ = objective.terms(arrivals, state, None)
    sum(value.mean() for value in losses.values()).backward()
    official = torch_state(tensors, "dec", "out/gradnorm/")
    for name, parameter in model.decoder.named_parameters():
        torch.testing.assert_close(parameter.grad.norm().reshape(1), official[name].reshape(1), **meta["tolerance"])
    for module, part in (("con", model.continue_head), ("rew", model.reward_head)):
        official = torch_state(tensors, module, "out/gradnorm/")
        for name, parameter in part.named_parameters():
            torch.testing.assert_close(parameter.grad.norm().reshape(1), official[name].reshape(1), **meta["tolerance"])
