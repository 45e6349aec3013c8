"""The simulator of a played dream: one row, as much shown and told as the model can."""

from typing import Any

import torch

from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.uncertainty import Disagreement, Uncertainty
from wmcomponents.world_model import CapabilityError, WorldModel


def played_simulator(model: WorldModel) -> Simulator:
    """A dream of one row: decoded where there is a decoder, with the members' disagreement where there are members.

    Args:
        model: the world model; without a reward its dream pays nothing, without a continuation it never ends.

    Raises:
        CapabilityError: if it has neither a decoder nor features.
    """
    options: dict[str, Any] = {"termination": "sample" if "continue" in model.capabilities else "off"}
    options["view"] = "decoded" if "decode" in model.capabilities else "latent"
    if "reward" not in model.capabilities:
        width = len(model.action_spec.shape)
        options["reward"] = lambda state, action, after: action.new_zeros(
            (*action.shape[: action.ndim - width], 1), dtype=torch.float32
        )
    if "members" in model.capabilities:
        options["uncertainty"] = _measure(model)
    return Simulator(model, **options)


def _measure(model: WorldModel) -> Uncertainty | None:
    """How far the members disagree on what they can all predict."""
    for of in ("observation", "features", "reward"):
        measured = Uncertainty(Disagreement(of=of))
        try:
            measured.try_out(model)
        except CapabilityError:
            continue
        return measured
    return None
