"""Leading dimensions of what networks of latents read: as many as one likes outside, one inside."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


def one_batch(lead: Sequence[int], **parts: Tensor | None) -> list[Any]:
    """Everything that goes with the rows, ``[*B, ...]``, with one batch dimension.

    Args:
        lead: ``*B``.
        parts: by their names; may be absent.

    Returns:
        The parts, ``[B, ...]``, in their order; None for those that are absent.

    Raises:
        ValueError: if one has other leading dimensions.
    """
    lead, flat = tuple(lead), []
    for name, part in parts.items():
        if part is not None and tuple(part.shape[: len(lead)]) != lead:
            raise ValueError(
                f"{name} goes with each row of what is denoised, [{', '.join(map(str, (*lead, '...')))}]; got "
                f"{[*part.shape]}."
            )
        flat.append(None if part is None else part.reshape(-1, *part.shape[len(lead) :]))
    return flat


def check_latent(latent: Tensor, axes: int, shape: Sequence[int]) -> None:
    """Refuse latents of another kind.

    Args:
        latent: ``[*B, C, H, W]``, or ``[*B, T, C, H, W]``.
        axes: how many dimensions it has at least.
        shape: (C, H, W) that is expected.

    Raises:
        ValueError: if it has fewer dimensions, or other channels or sizes.
    """
    if latent.ndim < axes or tuple(latent.shape[-3:]) != tuple(shape):
        what = "[..., T, C, H, W]" if axes == 4 else "[..., C, H, W]"
        raise ValueError(
            f"expected latents {what} of {shape[0]} channels and {shape[1]} x {shape[2]} places, channels before "
            f"height and width; got {[*latent.shape]}."
        )


def unsaid_actions(action: int, dim: int) -> nn.Linear | None:
    """A map of actions that says nothing yet, so that a network which knew none begins as it was; a zero stays one.

    Args:
        action: numbers of an action; 0 for no map.
        dim: size of what it gives.
    """
    if not action:
        return None
    made = nn.Linear(action, dim, bias=False)
    nn.init.zeros_(made.weight)
    return made


def said_by_actions(net: nn.Linear | None, action: Float[Tensor, "b t a"], frames: int) -> Float[Tensor, "b t d"]:
    """What the actions that lead to frames say.

    Args:
        net: of :func:`unsaid_actions`.
        action: of each frame.
        frames: how many there are.

    Raises:
        ValueError: if the network has no such map, or there are others of them.
    """
    if net is None or tuple(action.shape[1:]) != (frames, net.in_features):
        size = 0 if net is None else net.in_features
        raise ValueError(
            f"to each of {frames} frames an action of {size} numbers leads; got {[*action.shape[1:]]}: build the "
            f"network with action={action.shape[-1]}."
        )
    return net(action)
