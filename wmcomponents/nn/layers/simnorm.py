"""TD-MPC2's layers: simplicial normalisation, normed linear layers, and ensembles of them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.functional.distributions.categorical import softmax
from wmcomponents.functional.mish import mish, mish_

EPS = 1e-5
STD = 0.02
"""Of initial weights; truncated at 2, which is a hundred deviations away."""


class SimNorm(nn.Module):
    """Split the last dimension into groups and take the softmax of each: every group is a point of a simplex.

    Args:
        group: size V of a group.

    Reference: Lavoie et al., Simplicial Embeddings (2022); Hansen et al., TD-MPC2 (2024), eq. 5.

    Example:
        >>> import torch
        >>> SimNorm(4)(torch.zeros(2, 8)).sum(-1)
        tensor([2., 2.])
    """

    def __init__(self, group: int = 8) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Normalise; the last dimension is a multiple of the group's size."""
        return softmax(x.unflatten(-1, (-1, self.group))).flatten(-2)

    def extra_repr(self) -> str:
        """Size of a group."""
        return f"{self.group}"


class Mish(nn.Module):
    """Mish; in place where no gradient is recorded: for tensors that nothing else reads."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply it to every number."""
        return mish(x) if x.requires_grad else mish_(x)


def small_linear(in_features: int, out_features: int) -> nn.Linear:
    """A ``Linear`` with weights from a truncated normal of deviation 0.02 and zero bias."""
    return small_init_(nn.Linear(in_features, out_features))


def small_init_(layer: nn.Linear) -> nn.Linear:
    """Fill a layer as :func:`small_linear` does."""
    nn.init.trunc_normal_(layer.weight, std=STD)
    nn.init.zeros_(layer.bias)
    return layer


class NormedLinear(nn.Linear):
    """Linear, layer normalisation (epsilon 1e-5), Mish.

    Args:
        in_features: size of the input.
        out_features: size of the output.
        act: in the place of Mish.

    Reference: Hansen et al., TD-MPC2 (2024), section 3.1.
    """

    def __init__(self, in_features: int, out_features: int, act: nn.Module | None = None) -> None:
        super().__init__(in_features, out_features)
        self.ln = nn.LayerNorm(out_features, EPS)
        self.act = Mish() if act is None else act
        small_init_(self)

    def forward(self, input: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Apply the layer to the last dimension."""
        return self.act(self.ln(super().forward(input)))


class NormedMLP(nn.Sequential):
    """A chain of :class:`NormedLinear`.

    Args:
        sizes: of the input, of each layer.
        act: of the last layer, in the place of Mish.
    """

    def __init__(self, *sizes: int, act: nn.Module | None = None) -> None:
        acts = [None] * (len(sizes) - 2) + [act]
        super().__init__(*(NormedLinear(*pair) for pair in zip(sizes[:-1], sizes[1:], acts, strict=True)))
        self.in_features, self.out_features = sizes[0], sizes[-1]


class EnsembleLinear(nn.Module):
    """Several linear layers of one shape, computed together.

    Args:
        members: number M of layers.
        in_features: size of the input.
        out_features: size of the output.
        outscale: factor on the initial weight; 0 gives zeros.
    """

    def __init__(self, members: int, in_features: int, out_features: int, outscale: float = 1.0) -> None:
        super().__init__()
        self.members, self.in_features, self.out_features = members, in_features, out_features
        self.weight = nn.Parameter(torch.empty(members, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(members, out_features))
        if outscale == 0:
            nn.init.zeros_(self.weight)
        else:
            nn.init.trunc_normal_(self.weight, std=STD * outscale)

    def forward(
        self, x: Float[Tensor, "m n i"], members: Int[Tensor, " m"] | None = None, detach: bool = False
    ) -> Float[Tensor, "m n o"]:
        """Each member on its own input.

        Args:
            x: inputs; one for all may be expanded.
            members: those wanted, in their order; all if not given.
            detach: leave the weights out of the gradient.
        """
        weight, bias = chosen(self.weight, members, detach), chosen(self.bias, members, detach)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    def extra_repr(self) -> str:
        """Members and sizes."""
        return f"{self.members}, {self.in_features}, {self.out_features}"


class EnsembleLayerNorm(nn.Module):
    """Layer normalisation with a scale and shift for each member.

    Args:
        members: number M of members.
        dim: size of the last dimension.
    """

    def __init__(self, members: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.ones(members, dim))
        self.bias = nn.Parameter(torch.zeros(members, dim))

    def forward(
        self, x: Float[Tensor, "m n d"], members: Int[Tensor, " m"] | None = None, detach: bool = False
    ) -> Float[Tensor, "m n d"]:
        """Normalise the last dimension."""
        weight, bias = chosen(self.weight, members, detach), chosen(self.bias, members, detach)
        return torch.addcmul(bias.unsqueeze(1), F.layer_norm(x, (self.dim,), eps=EPS), weight.unsqueeze(1))


class EnsembleNormedLinear(EnsembleLinear):
    """Several :class:`NormedLinear` of one shape, computed together, with room for dropout before the normalisation.

    Args:
        members: number M of layers.
        in_features: size of the input.
        out_features: size of the output.
    """

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__(members, in_features, out_features)
        self.ln, self.act = EnsembleLayerNorm(members, out_features), Mish()

    def forward(
        self,
        x: Float[Tensor, "m n i"],
        members: Int[Tensor, " m"] | None = None,
        detach: bool = False,
        keep: Float[Tensor, "m n o"] | None = None,
    ) -> Float[Tensor, "m n o"]:
        """Apply the layers.

        Args:
            x: inputs; one for all may be expanded.
            members: those wanted, in their order; all if not given.
            detach: leave the weights out of the gradient.
            keep: dropout: 0 where an output is dropped, ``1 / (1 - p)`` where it is kept; none if not given.
        """
        x = super().forward(x, members, detach)
        return self.act(self.ln(x if keep is None else x * keep, members, detach))


def chosen(weight: Tensor, members: Tensor | None, detach: bool) -> Tensor:
    """The weights ``[M, *shape]`` of some members, within the gradient or outside it."""
    if members is not None:
        weight = weight.index_select(0, members)  # copies whole members, which indexing does number by number
    return weight.detach() if detach else weight
