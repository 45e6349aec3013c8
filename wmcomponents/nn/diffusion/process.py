"""A variance-preserving process of K levels, as tables that follow a model to its device."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wmcomponents.functional.diffusion.betas import alphas_cumprod
from wmcomponents.functional.diffusion.path import AlphaSigma, ReverseSteps, diffused, reverse_steps


class DiffusionProcess(nn.Module):
    """Levels 0 (hardly noisy) to K - 1 (noise) of diffusion, and -1, which is clean, each looked up by its number.

    A level may be one of each row, ``[N]``, or of each frame of each row, ``[N, T]``: one level for all frames is the
    ordinary process. Nothing is learned and nothing is saved; the tables are worked out in double precision.

    Args:
        betas: of the levels, ``[K]``, such as :func:`~wmcomponents.functional.sigmoid_betas` gives.

    Attributes:
        levels: K.
        betas: as they came, in double precision.

    Raises:
        ValueError: unless there is a level, and every beta is above 0 and at most 1.

    Example:
        >>> import torch
        >>> from wmcomponents.functional import linear_betas
        >>> process = DiffusionProcess(linear_betas(1000))
        >>> film, level = torch.zeros(2, 3, 4), torch.tensor([[-1, 10, 999], [-1, -1, 500]])
        >>> process.diffuse(film, torch.ones(2, 3, 4), level)[..., 0]
        tensor([[0.0000, 0.0468, 1.0000],
                [0.0000, 0.0000, 0.9603]])
    """

    alpha: Tensor
    sigma: Tensor
    of_noisy: Tensor
    of_clean: Tensor
    log_small: Tensor
    log_large: Tensor

    def __init__(self, betas: Float[Tensor, " levels"]) -> None:
        super().__init__()
        if betas.ndim != 1 or not len(betas) or not bool(((betas > 0.0) & (betas <= 1.0)).all()):
            raise ValueError(f"betas are a list of numbers above 0 and at most 1; got {betas}.")
        betas = betas.detach().double().cpu()
        self.levels, self.betas = len(betas), betas
        share = torch.cat([betas.new_ones(1), alphas_cumprod(betas)])
        tables = {"alpha": share.sqrt(), "sigma": (1.0 - share).sqrt(), **reverse_steps(betas)._asdict()}
        for name, table in tables.items():
            self.register_buffer(name, table.to(torch.get_default_dtype()), persistent=False)

    def at(self, level: Int[Tensor, "*batch"]) -> AlphaSigma:
        """Alpha and sigma of levels.

        Args:
            level: from -1 to K - 1.
        """
        return AlphaSigma(self.alpha[level + 1], self.sigma[level + 1])

    def snr(self, level: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Signal to noise ratio of levels from 0 to K - 1."""
        at = self.at(level)
        assert isinstance(at.alpha, Tensor)
        return at.alpha**2 / at.sigma**2

    def steps_from(self, level: Int[Tensor, "*batch"]) -> ReverseSteps:
        """The reverse steps from levels, each to the one below it."""
        tables = (self.of_noisy, self.of_clean, self.log_small, self.log_large)
        return ReverseSteps(*(table[level] for table in tables))

    def diffuse(
        self, clean: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], level: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*shape"]:
        """Data with the noise of levels.

        Args:
            clean: x_0, ``[*B, ...]``.
            noise: standard normal.
            level: ``[*B]``.
        """
        return diffused(clean, noise, self.at(level))
