"""Head of numbers under squared error."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.codecs import Transform
from wmcomponents.codecs.reward_unit import ORDINARY, warn_beyond
from wmcomponents.component import Component
from wmcomponents.functional import squared_error
from wmcomponents.nn import MLP, Norm, linear
from wmcomponents.nn.layers.activation import Activation


class MSEHead(Component):
    """Numbers predicted under squared error (no factor 1/2), in plain or transformed space.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "feat" | [*B, in_features] | float | read |
        | "reward_raw" | [*B, out_features] | float, transformed space | written |
        | "reward" | [*B, out_features] | float, plain space | written |

    Args:
        in_features: size of the features.
        units: width of the hidden layers.
        layers: hidden layers.
        out_features: how many numbers.
        transform: for example ``Symlog()``; None for plain space.
        outscale: factor on the initial weight of the output layer.
        norm: normalisation.
        act: activation.
        bias: whether the hidden layers have biases.
        in_keys: the features.
        out_keys: raw output and its plain value.

    Reference: with ``Symlog()``, Hafner et al., Mastering Diverse Domains through World Models (DreamerV3), eq. 9.

    Example:
        >>> import torch
        >>> raw, reward = MSEHead(16, units=8)(feat=torch.randn(5, 16))
        >>> reward.shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        in_features: int,
        units: int = 1024,
        layers: int = 1,
        out_features: int = 1,
        transform: Transform | None = None,
        outscale: float = 1.0,
        norm: Norm = "rms",
        act: Activation = "silu",
        bias: bool = True,
        in_keys: Sequence[NestedKey] = ("feat",),
        out_keys: Sequence[NestedKey] = ("reward_raw", "reward"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.mlp = MLP(in_features, units, layers, norm, act, bias)
        self.out = linear(self.mlp.out_features, out_features, outscale)
        self.transform = transform

    def prepare(self, target: Tensor) -> None:
        """Fit the transform to data, once, where there is something to fit; warn of numbers that it cannot say well.

        Args:
            target: of the data, ``[*B, out_features]``.
        """
        if self.transform is None:
            drowned = "squared, the error of such numbers drowns all other losses"
            warn_beyond(target, ORDINARY, drowned, "Build the model with rewards='scaled' (or standardize=True)")
        elif target.numel():
            self.transform.prepare(target)
            cut = "they come back no larger than that"
            warn_beyond(target, self.transform.largest, cut, "Build the model with rewards='scaled'")

    def raw(self, feat: Tensor) -> Tensor:
        """Output in transformed space, ``[*B, out_features]``."""
        return self.out(self.mlp(feat))

    def mean(self, raw: Tensor) -> Tensor:
        """Value in plain space, ``[*B, out_features]``."""
        return raw if self.transform is None else self.transform.inverse(raw)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Squared error with the transformed target ``[*B, out_features]``, summed: ``[*B]``."""
        return squared_error(raw, target, squash=self.transform)

    def compute(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Raw output and plain value."""
        raw = self.raw(feat)
        return raw, self.mean(raw)
