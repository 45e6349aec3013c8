"""The encoder of a variational autoencoder."""

import math
from collections.abc import Mapping, Sequence

from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.encoders.multi import MultiEncoder


class VAEEncoder(Component):
    """Observations to a latent vector: mean, logarithm of the variance, and a sample as a function of noise.

    Mean and variance are linear in the features that another encoder computes: World Models' four convolutions
    (``ConvEncoder`` with ``ValidStage``), or an MLP over numbers. Without layers there, they are linear in the numbers
    themselves, and the autoencoder is probabilistic principal component analysis.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | those of ``features`` | [*B, *shape] | its dtype | read |
        | ("noise", "z") | [*B, latent] | float, normal | read, may be absent: the mean |
        | "z" | [*B, latent] | float | written |
        | "mu" | [*B, latent] | float | written |
        | "logvar" | [*B, latent] | float | written |

    Args:
        features: from observations to their features.
        latent: size of z: 32 for CarRacing, 64 for Doom.
        init_std: standard deviation of z around which training begins; small where digits matter, so that what they say
            is not drowned in noise at first.
        in_keys: the observations in the order of the sorted spec keys, and the noise.
        out_keys: z, mu, logvar.

    Raises:
        ValueError: if there is not one key for each observation and one for the noise.

    Reference: Ha and Schmidhuber, World Models (2018), section 2.1 and appendix A.1.

    Example:
        >>> import torch
        >>> from torchrl.data import Composite, Unbounded
        >>> encoder = VAEEncoder(MultiEncoder(Composite(observation=Unbounded(4))), latent=8)
        >>> z, mu, logvar = encoder(observation=torch.zeros(5, 4))
        >>> z.shape, bool((z == mu).all())
        (torch.Size([5, 8]), True)
    """

    def __init__(
        self,
        features: MultiEncoder,
        latent: int = 32,
        init_std: float = 1.0,
        in_keys: Sequence[NestedKey] | None = None,
        out_keys: Sequence[NestedKey] = ("z", "mu", "logvar"),
    ) -> None:
        reads = (*features.in_keys, ("noise", "z")) if in_keys is None else tuple(in_keys)
        if len(reads) != len(features.groups.keys) + 1:
            keys = list(features.groups.keys)
            raise ValueError(f"Need one in_key for each of {keys} and one for the noise; got {in_keys}.")
        super().__init__(reads, out_keys, optional_keys=reads[-1:])
        self.features, self.latent = features, latent
        self.mu, self.logvar = nn.Linear(features.out_features, latent), nn.Linear(features.out_features, latent)
        nn.init.zeros_(self.mu.bias)
        nn.init.constant_(self.logvar.bias, 2.0 * math.log(init_std))

    def encode(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``{key: [*B, *shape]}`` to ``mu`` and ``logvar``, each ``[*B, latent]``."""
        return self._moments(self.features.embed(observation))

    @staticmethod
    def sample(mu: Tensor, logvar: Tensor, noise: Tensor | None) -> Tensor:
        """``mu + exp(logvar / 2) noise``, ``[*B, latent]``; without noise the mean, as a new tensor."""
        return mu.clone() if noise is None else mu + (0.5 * logvar).exp() * noise

    def compute(self, *tensors: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Observations in the order of the sorted spec keys, then the noise or ``None``, to three ``[*B, latent]``."""
        *observations, noise = tensors
        mu, logvar = self._moments(self.features.compute(*observations))  # pyright: ignore[reportArgumentType]
        return self.sample(mu, logvar, noise), mu, logvar

    def _moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu(features), self.logvar(features)
