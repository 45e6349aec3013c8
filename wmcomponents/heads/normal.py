"""Head of numbers under a normal distribution."""

from torch import Tensor

from wmcomponents.functional import unit_normal_nll
from wmcomponents.heads.mse import MSEHead


class NormalHead(MSEHead):
    """The mean of numbers under a normal distribution of standard deviation 1, in plain or transformed space.

    An :class:`MSEHead`, arguments and keys included, whose loss is the negative log density: half the squared error,
    and a constant. PlaNet, Dreamer and DreamerV2 predict rewards so; DreamerV2 on Atari with ``transform=Tanh()``.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (PlaNet, 2019), eq. 3.

    Example:
        >>> import torch
        >>> head = NormalHead(16, units=8, layers=2, norm="none", act="elu")
        >>> raw, reward = head(feat=torch.randn(5, 16))
        >>> head.loss(raw, torch.zeros(5, 1)).shape
        torch.Size([5])
    """

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Negative log density of the transformed target ``[*B, out_features]``, summed: ``[*B]``."""
        target = target.detach()
        return unit_normal_nll(raw, target if self.transform is None else self.transform(target))
