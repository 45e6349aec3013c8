"""Division by a running mean of magnitudes."""

import torch
from torch import Tensor, nn

from wmcomponents._global_batch import global_mean


class StreamNorm(nn.Module):
    r"""Divides a stream of numbers, rewards for example, by the running mean of their magnitude (DreamerV2).

    .. math:: m \leftarrow \beta m + (1 - \beta) \overline{|x|}, \qquad y = x / (m + \epsilon)

    The magnitude starts at 1. A module in training mode updates it by every batch it is given, before it divides; in
    evaluation mode it stays.

    Args:
        momentum: share that stays of the magnitude; 1, DreamerV2's default for rewards, divides by 1 for ever.
        eps: added to the magnitude.

    Raises:
        ValueError: if the momentum is outside [0, 1].

    Reference: the official code of Hafner et al., Mastering Atari with Discrete World Models (DreamerV2, 2021).

    Example:
        >>> import torch
        >>> norm = StreamNorm(momentum=0.5)
        >>> norm(torch.tensor([3.0, -3.0]))  # (1 + 3) / 2 = 2
        tensor([ 1.5000, -1.5000])
    """

    magnitude: Tensor

    def __init__(self, momentum: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is a share in [0, 1]; got {momentum}.")
        self.momentum, self.eps = momentum, eps
        self.register_buffer("magnitude", torch.ones(()))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take a batch ``[*B, *shape]`` into the running mean."""
        if self.momentum < 1:
            self.magnitude.lerp_(global_mean(x.abs().mean()).to(self.magnitude.dtype), 1.0 - self.momentum)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[*B, *shape]`` over the magnitude, which in training mode takes ``x`` in first."""
        if self.training:
            self.update(x)
        return x / (self.magnitude + self.eps)

    def extra_repr(self) -> str:
        """Momentum and epsilon."""
        return f"momentum={self.momentum}, eps={self.eps}"
