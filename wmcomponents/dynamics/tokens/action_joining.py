"""How an action enters a film's transformer: added to the tokens of the frame it led to, before them, beside them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class ActionJoining(nn.Module):
    """Base of ways in which actions meet tokens.

    Attributes:
        dim: size of a token behind it.
        extra: tokens that stand before those of a frame.
    """

    dim: int
    extra: int = 0

    def forward(
        self, x: Float[Tensor, "b t n d"], action: Float[Tensor, "b t a"], known: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t m e"]:
        """Tokens with what led to their frames.

        Args:
            x: embedded tokens.
            action: vector of what led to each frame.
            known: whether anything did; nothing led to a film's first frame.
        """
        raise NotImplementedError


class AddedActions(ActionJoining):
    """A map of the action is added to every token of the frame that it led to.

    Args:
        dim: size of a token.
        action_dim: size of an action's vector.

    Reference: Bruce et al., Genie (2024), section 2; GenieRedux (2024).
    """

    def __init__(self, dim: int, action_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.map = nn.Linear(action_dim, dim)

    def forward(
        self, x: Float[Tensor, "b t n d"], action: Float[Tensor, "b t a"], known: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t n d"]:
        """Tokens with the action added."""
        return x + (self.map(action) * known.unsqueeze(-1)).unsqueeze(-2)


class PrependedActions(ActionJoining):
    """A map of the action is a token of its own before those of the frame that it led to; zeros before the first.

    Args:
        dim: size of a token.
        action_dim: size of an action's vector.

    Reference: p-doom/jasmine.
    """

    extra = 1

    def __init__(self, dim: int, action_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.map = nn.Linear(action_dim, dim)

    def forward(
        self, x: Float[Tensor, "b t n d"], action: Float[Tensor, "b t a"], known: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t m d"]:
        """Tokens with the action before them."""
        return torch.cat([(self.map(action) * known.unsqueeze(-1)).unsqueeze(-2), x], -2)


class ConcatenatedActions(ActionJoining):
    """The action's numbers stand beside those of every token of the frame that it led to.

    Args:
        dim: size of a token before it.
        action_dim: size of an action's vector.

    Reference: GenieRedux-G (Kazemi et al., 2024), whose actions are the environment's, one-hot.
    """

    def __init__(self, dim: int, action_dim: int) -> None:
        super().__init__()
        self.dim = dim + action_dim

    def forward(
        self, x: Float[Tensor, "b t n d"], action: Float[Tensor, "b t a"], known: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t n e"]:
        """Tokens with the action beside them."""
        beside = (action * known.unsqueeze(-1)).unsqueeze(-2).expand(*x.shape[:-1], -1)
        return torch.cat([x, beside.to(x.dtype)], -1)
