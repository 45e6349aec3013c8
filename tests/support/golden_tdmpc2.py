"""TD-MPC2's golden vectors as this library's windows and noise."""

from typing import Any

import torch
from torch import Tensor

from tests.support.golden_vectors import load
from wmcomponents.models import TDMPC2
from wmcomponents.models.value_equivalent.tdmpc2.draws import Draws
from wmcomponents.models.value_equivalent.tdmpc2.official import RULES
from wmcomponents.objectives.windows import Windows
from wmcomponents.pretrained import map_keys

UPDATES = ("tdmpc2_update_single", "tdmpc2_update_multitask")


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose key begins with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def ours(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same, by this library's names of weights."""
    return map_keys(under(tensors, prefix), RULES)


def recorded(name: str) -> tuple[dict[str, Any], dict[str, Tensor], TDMPC2]:
    """A vector, and the model with the weights in it."""
    meta, tensors = load(name)
    config = meta["config"]
    prefix = "before." if "before._pi.0.weight" in tensors else "state_dict."
    changes = {"dropout": config["dropout"], "horizon": config["horizon"], "rho": config["rho"]}
    if config["multitask"]:
        changes["episode_lengths"] = tuple(config["episode_lengths"])
    weights = under(tensors, prefix)
    if not under(weights, "_target_Qs_params."):  # a vector of planning leaves them out
        online = under(weights, "_Qs.params.")
        weights.update({f"_target_Qs_params.{key}": value for key, value in online.items()})
    return meta, tensors, TDMPC2.from_official(weights, **changes)


def update(tensors: dict[str, Tensor]) -> tuple[Windows, Draws]:
    """The batch of a recorded update: the authors' time comes first, ours second."""
    seen, task = tensors["in.obs"].transpose(0, 1), tensors.get("in.task")
    rows, time = seen.shape[0], seen.shape[1] - 1
    before, after = {"observation": seen[:, :-1]}, {"observation": seen[:, 1:]}
    if task is not None:
        before["task"] = after["task"] = task[:, None].expand(-1, time)
    begins = torch.zeros(rows, time, dtype=torch.bool)
    begins[:, 0] = True
    windows = Windows(
        observation=before,
        begins=begins,
        following=after,
        action=tensors["in.action"].transpose(0, 1),
        reward=tensors["in.reward"].transpose(0, 1),
        terminated=tensors["in.terminated"].transpose(0, 1).bool(),
        weight=torch.ones(rows, time),
    )
    draws = Draws(
        target_noise=tensors["noise.td_pi_eps"].transpose(0, 1),
        target_members=tensors["noise.td_qidx"],
        policy_noise=tensors["noise.pi_loss_eps"].transpose(0, 1),
        policy_members=tensors["noise.pi_loss_qidx"],
    )
    return windows, draws
