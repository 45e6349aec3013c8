"""Where the weights of nicklashansen/tdmpc2 go, in the layouts of 2023 and of today."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded

from wmcomponents.pretrained import BadModelError, Rule, section, shape_of

FAMILY = "TD-MPC2"
LOG_STD_LOW, LOG_STD_RANGE = -10.0, 12.0
"""Bounds that checkpoints hold as buffers; the policy prior's defaults."""

FIELDS = ("weight", "bias", "ln.weight", "ln.bias")
"""Of a layer of the value functions, in the order in which files of 2023 number them."""

RULES = (
    Rule(r"_encoder\.state\.(.+)", r"encoder.head.\1"),
    Rule(r"_encoder\.rgb\.([2468])\.(\w+)", lambda match: f"encoder.conv.conv.{int(match[1]) // 2 - 1}.{match[2]}"),
    Rule(r"_dynamics\.(.+)", r"dynamics.mlp.\1"),
    Rule(r"_(reward|termination)\.2\.(.+)", r"\1_head.out.\2"),
    Rule(r"_(reward|termination)\.(.+)", r"\1_head.mlp.\2"),
    Rule(r"_pi\.2\.(.+)", r"policy.out.\1"),
    Rule(r"_pi\.(.+)", r"policy.mlp.\1"),
    Rule(r"_Qs\.params\.2\.(.+)", r"q.out.\1"),
    Rule(r"_Qs\.params\.(.+)", r"q.mlp.\1"),
    Rule(r"_target_Qs_params\.2\.(.+)", r"target_q.out.\1"),
    Rule(r"_target_Qs_params\.(.+)", r"target_q.mlp.\1"),
    Rule(r"_task_emb\.weight", "task_embedding.weight"),
    Rule(r"_detach_Qs_params\..+|log_std_(min|dif)|_action_masks", None),  # checked by `plain_state`
)
"""From keys of today's layout to ours."""


def plain_state(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights by the keys of today's layout, without placeholders, and with what is there twice compared.

    Args:
        weights: ``{"model": state_dict}``, or the ``state_dict``.

    Raises:
        BadModelError: if copies of the value functions differ, or bounds are not the ones that the family has.
    """
    found = section(weights, "model", optional=True)
    # tensordict's notes on batch size and device; modules without numbers, whose parameters stand under "params".
    placeholder = re.compile(r"(.*\.)?__\w+|_(target_|detach_)?Qs\.module\..+")
    state = {_key_of_today(key): value for key, value in found.items() if not placeholder.fullmatch(key)}
    _check_copies(state)
    for key, expected in (("log_std_min", LOG_STD_LOW), ("log_std_dif", LOG_STD_RANGE)):
        if key in state and float(state[key]) != expected:
            raise BadModelError(f"{key} of the checkpoint is {float(state[key])}; this family has {expected}.")
    return state


def _key_of_today(key: str) -> str:
    """Files of 2023 number the parameters of the value functions."""
    numbered = re.fullmatch(r"_(target_)?Qs\.params\.(\d+)", key)
    if numbered is None:
        return key
    layer, field = divmod(int(numbered[2]), len(FIELDS))
    return f"{'_target_Qs_params' if numbered[1] else '_Qs.params'}.{layer}.{FIELDS[field]}"


def _check_copies(state: Mapping[str, Any]) -> None:
    for key, value in state.items():
        trained = state.get(key.replace("_detach_Qs_params", "_Qs.params"))
        if not isinstance(value, Tensor) or not isinstance(trained, Tensor) or value is trained:
            continue
        if value.shape != trained.shape or not torch.equal(value, trained):
            raise BadModelError(f"{key} of the checkpoint is a copy of the trained value functions, and differs.")


def sizes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a config that the shapes of weights tell.

    Args:
        state: as :func:`plain_state` gives it.

    Raises:
        BadModelError: if a weight is missing, or tasks' actions are not padded at their end.
    """
    latent, units = shape_of(state, "_dynamics.2.weight", 2, FAMILY)
    members, bins, _ = shape_of(state, "_Qs.params.2.weight", 3, FAMILY)
    found: dict[str, Any] = {
        **{"latent": latent, "units": units, "members": members, "bins": bins},
        "episodic": "_termination.0.weight" in state,
    }
    layers = len([key for key in state if re.fullmatch(r"_encoder\.state\.\d+\.weight", key)])
    if layers:
        found.update(encoder_layers=layers, encoder_units=shape_of(state, "_encoder.state.0.weight", 2, FAMILY)[0])
    else:
        found["channels"] = shape_of(state, "_encoder.rgb.2.weight", 4, FAMILY)[0]
    if "_task_emb.weight" in state:
        tasks, task_size = shape_of(state, "_task_emb.weight", 2, FAMILY)
        _, size = shape_of(state, "_action_masks", 2, FAMILY)
        masks = state["_action_masks"].cpu().float()
        counts = masks.sum(-1)
        if not torch.equal(masks, (torch.arange(size) < counts[:, None]).float()):
            raise BadModelError("_action_masks of the checkpoint do not begin with ones and end with zeros.")
        found.update(task_size=task_size, action_sizes=tuple(int(n) for n in counts), episode_lengths=(500,) * tasks)
    return found


def specs(state: Mapping[str, Any]) -> tuple[Composite, TensorSpec]:
    """The specs of observation and action, as far as the shapes of weights tell them.

    Args:
        state: as :func:`plain_state` gives it.

    Raises:
        BadModelError: if a weight is missing.
    """
    tasks, task_size = shape_of(state, "_task_emb.weight", 2, FAMILY) if "_task_emb.weight" in state else (0, 0)
    if "_encoder.rgb.2.weight" in state:
        image_channels = shape_of(state, "_encoder.rgb.2.weight", 4, FAMILY)[1]
        observed = Composite(pixels=Bounded(0, 255, torch.Size([64, 64, image_channels]), dtype=torch.uint8))
    else:
        inputs = shape_of(state, "_encoder.state.0.weight", 2, FAMILY)[1]
        observed = Composite(observation=Unbounded(inputs - task_size))
    if tasks:
        observed["task"] = Categorical(tasks)
    return observed, Bounded(-1.0, 1.0, torch.Size([shape_of(state, "_pi.2.bias", 1, FAMILY)[0] // 2]))
