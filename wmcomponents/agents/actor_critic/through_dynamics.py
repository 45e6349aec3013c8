"""Whether a gradient passes from what a world model dreams back into the action before."""

import torch

from wmcomponents.codecs import ActionVector
from wmcomponents.dream.starts import model_device
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import CapabilityError, WorldModel


def check_gradient_through(model: WorldModel, actions: ActionVector) -> None:
    """Refuse a world model whose dreams do not follow the action differentiably, before an actor learns nothing there.

    A model of tokens reads the index of a choice, and what it dreams is drawn: no graph leads from there to the action.
    One dreamed step of one row is tried.

    Args:
        model: offers ``features``.
        actions: its action as numbers.

    Raises:
        CapabilityError: if no gradient arrives.
        ValueError: if the action itself has none (the index of a choice).
    """
    device = model_device(model)
    vector = torch.zeros(1, actions.size, device=device, requires_grad=True)
    with torch.enable_grad(), EvalMode(model):
        step = model.imagine(model.initial_state((1,), device), actions.relaxed(vector), None)
        dreamt = model.features(step.state).sum()
        if step.reward is not None:
            dreamt = dreamt + step.reward.sum()
        found = torch.autograd.grad(dreamt, vector, allow_unused=True)[0] if dreamt.requires_grad else None
    if found is None:
        name = type(model).__name__
        raise CapabilityError(
            f"this actor learns by the dream's gradient with respect to its actions, and no gradient passes through "
            f"the dreams of {name}: choose the score function (estimator=Reinforce(), DreamerV2's and V3's for "
            f"choices), or a model that is differentiable."
        )
