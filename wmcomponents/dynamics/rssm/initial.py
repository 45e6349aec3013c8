"""Where episodes begin, if not at zeros."""

import torch
from torch import Tensor, nn

from wmcomponents.dynamics.rssm.latent import Latent


class LearnedInitialState(nn.Module):
    r"""A learned start: ``h_0 = tanh(w)``, and ``z_0`` the mode of the prior there (DreamerV3 of 2023).

    Args:
        deter: size of the recurrent state. The weight starts at zero.
    """

    def __init__(self, deter: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(deter))

    def forward(self, prior: nn.Module, latent: Latent) -> tuple[Tensor, Tensor]:
        """The state of one row: ``deter [D]`` and ``stoch [*latent.shape]``, both with gradient."""
        deter = self.weight.tanh()
        return deter, latent.mode(prior(deter))
