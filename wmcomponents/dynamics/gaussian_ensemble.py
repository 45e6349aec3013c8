"""Ensembles of probabilistic networks: each member says a mean and a variance of what comes next (PETS, MBPO, MOPO)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.functional import ensemble_variance
from wmcomponents.nn import EnsembleLinear, make_activation
from wmcomponents.nn.layers.activation import Activation


class GaussianMLPEnsemble(nn.Module):
    r"""M perceptrons, computed together, that each predict a diagonal Gaussian.

    The logarithm of the variance is bounded softly from both sides, by bounds that may be learned:

    .. math:: \ell \leftarrow b_{max} - \mathrm{softplus}(b_{max} - \ell), \qquad
        \ell \leftarrow b_{min} + \mathrm{softplus}(\ell - b_{min})

    Args:
        in_features: size of the input.
        out_features: size D of what is predicted.
        members: M.
        units: width of the hidden layers.
        layers: hidden layers.
        act: activation.
        bounds: initial bounds of the logarithm of the variance.
        learn_bounds: whether the loss moves them.

    Reference: Chua et al., Deep Reinforcement Learning in a Handful of Trials (PETS, 2018), section 4.

    Example:
        >>> ensemble = GaussianMLPEnsemble(5, 3, members=4, units=8)
        >>> mean, log_var = ensemble(torch.zeros(10, 5))
        >>> mean.shape, ensemble.disagreement(mean).shape
        (torch.Size([4, 10, 3]), torch.Size([10]))
    """

    min_log_var: Tensor
    max_log_var: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        members: int = 7,
        units: int = 200,
        layers: int = 4,
        act: Activation = "silu",
        bounds: tuple[float, float] = (-10.0, 0.5),
        learn_bounds: bool = False,
    ) -> None:
        super().__init__()
        sizes = [in_features] + [units] * layers
        self.members, self.out_features = members, out_features
        self.hidden = nn.ModuleList(EnsembleLinear(members, i, o) for i, o in zip(sizes, sizes[1:], strict=False))
        self.out = EnsembleLinear(members, sizes[-1], 2 * out_features)
        self.act = make_activation(act)
        for layer in (*self.hidden, self.out):
            std = 1.0 / (2.0 * layer.in_features**0.5)  # pyright: ignore[reportOperatorIssue]
            nn.init.trunc_normal_(layer.weight, std=std, a=-2.0 * std, b=2.0 * std)  # pyright: ignore[reportArgumentType]
        for name, bound in (("min_log_var", bounds[0]), ("max_log_var", bounds[1])):
            value = torch.full((out_features,), bound)
            self.register_parameter(name, nn.Parameter(value, requires_grad=learn_bounds))

    def forward(
        self, x: Float[Tensor, "*members n i"], members: Int[Tensor, " m"] | None = None
    ) -> tuple[Float[Tensor, "m n d"], Float[Tensor, "m n d"]]:
        """Mean and logarithm of the variance.

        Args:
            x: the same inputs ``[N, in_features]`` for all members, or each member's own ``[M, N, in_features]``.
            members: those asked, in their order; all if not given.
        """
        count = self.members if members is None else len(members)
        x = x.expand(count, *x.shape) if x.ndim == 2 else x
        for layer in self.hidden:
            x = self.act(layer(x, members))
        mean, log_var = self.out(x, members).split(self.out_features, -1)
        log_var = self.max_log_var - F.softplus(self.max_log_var - log_var)
        return mean, self.min_log_var + F.softplus(log_var - self.min_log_var)

    def assigned(
        self, x: Float[Tensor, "n i"], member: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Each row's own member's answer: one fixed for a whole rollout (TSinf), or drawn anew at each step (TS1).

        Args:
            x: inputs.
            member: which member each row asks.
        """
        mean, log_var = self(x)
        index = member.view(1, -1, 1).expand(1, len(x), self.out_features)
        return mean.gather(0, index)[0], log_var.gather(0, index)[0]

    def expected(
        self, x: Float[Tensor, "n i"], members: Int[Tensor, " m"] | None = None
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Mean and logarithm of the variance, averaged over members.

        Args:
            x: inputs.
            members: those asked; all if not given.
        """
        mean, log_var = self(x, members)
        return mean.mean(0), log_var.mean(0)

    def loss(self, x: Float[Tensor, "*members n i"], target: Float[Tensor, "*members n d"]) -> Float[Tensor, ""]:
        r"""The negative log likelihood, without its constants and its half, and the price of wide bounds.

        .. math:: \sum_m \overline{(\mu_m - y)^2 e^{-\ell_m} + \ell_m} + 0.01 \sum_d (b_{max} - b_{min})

        Args:
            x: the same inputs for all members, or each member's own.
            target: what is to be predicted, likewise.
        """
        mean, log_var = self(x)
        error = (mean - target).square() * (-log_var).exp() + log_var
        return error.mean((1, 2)).sum() + 0.01 * (self.max_log_var.sum() - self.min_log_var.sum())

    @torch.no_grad()
    def errors(self, x: Float[Tensor, "n i"], target: Float[Tensor, "n d"]) -> Float[Tensor, " m"]:
        """Mean squared error of each member: the lowest are the elite.

        Args:
            x: inputs that no member was trained on.
            target: what is to be predicted.
        """
        return (self(x)[0] - target).square().mean((1, 2))

    def elite(self, x: Float[Tensor, "n i"], target: Float[Tensor, "n d"], count: int) -> Int[Tensor, " k"]:
        """The ``count`` members that predict held-out data best, best first.

        Args:
            x: inputs that no member was trained on.
            target: what is to be predicted.
            count: of members.

        Raises:
            ValueError: if there are not so many.
        """
        if not 1 <= count <= self.members:
            raise ValueError(f"count is a number of members, 1 to {self.members}; got {count}.")
        return self.errors(x, target).argsort()[:count]

    @staticmethod
    def disagreement(mean: Float[Tensor, "m n d"], members: Sequence[int] | None = None) -> Float[Tensor, " n"]:
        """How far members' means lie apart: the variance over members, averaged over dimensions; 0 where all agree.

        Args:
            mean: of each member.
            members: those that count; all if not given.

        Reference: Pathak et al., Self-Supervised Exploration via Disagreement (2019), eq. 1; Plan2Explore (2020).
        """
        chosen = mean if members is None else mean[list(members)]
        return ensemble_variance(chosen.movedim(0, -2))
