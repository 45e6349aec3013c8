"""What a GPU would wait for, found without one: on the device "meta" there are no numbers that a host could ask for.

A verb that reads a number on the host, copies to it, or mixes in a tensor of another device fails there.
"""

import torch
from torch import Tensor

from tests.support.drive import actions, sequences


def numberless(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.to("meta") for key, value in tensors.items()}


def test_no_verb_asks_for_a_number_or_leaves_its_device(model):
    model.eval()
    data, generator = sequences(model), torch.Generator().manual_seed(0)
    seen = numberless({str(key): data[key][:, 0] for key in model.observation_spec.keys()})
    action, is_init = actions(model, 3).to("meta"), data["is_init"][:, 0].to("meta")
    noise = {verb: numberless(model.noise_source(verb)((3,), generator)) for verb in ("observe", "imagine")}
    model.to("meta")
    verbs = [verb for verb in ("features", "decode", "value") if verb in model.capabilities]
    with torch.no_grad():
        state = model.initial_state((3,), "meta")
        for base in (noise["observe"], None):
            state = model.observe(state, action, seen, is_init, base)
        made = [model.imagine(state, action, base).state for base in (noise["imagine"], None)]
        for verb in verbs:
            out = getattr(model, verb)(made[0])
            made.append(out if isinstance(out, dict) else {verb: out})
    assert all(value.is_meta for tensors in made for value in tensors.values())
