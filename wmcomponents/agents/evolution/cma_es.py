"""Covariance matrix adaptation, by the ``cma`` package, with a state of plain tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents._extras import require

ARRAYS = ("mean", "pc", "sm.C", "sm.B", "sm.D", "adapt_sigma.ps")
NUMBERS = ("sigma", "countiter", "countevals")
COUNTS = ("sm.last_update", "sm.count_tell", "sm.count_eigen", "adapt_sigma._ps_updated_iteration", "itereigenupdated")
"""Of ``cma``'s strategy, all that decides how it goes on between two generations."""

MOST_NUMBERS = 5_000
"""Of a solution: beyond, a covariance takes gigabytes, and minutes to be decomposed."""


class CMAES:
    """CMA-ES that maximises (Hansen, The CMA Evolution Strategy: A Tutorial), from a generator of its own.

    Args:
        size: N, numbers of a solution.
        population: P, solutions of a generation.
        sigma: initial standard deviation of each number.
        seed: of what is drawn.

    Raises:
        MissingExtraError: if ``cma`` is not installed.
        ValueError: if a number is out of range.

    Example:
        >>> search = CMAES(3, population=12, sigma=0.5)
        >>> for _ in range(60):
        ...     solutions = search.ask()
        ...     search.tell(solutions, -(solutions - 1.0).square().sum(-1))
        >>> bool((search.mean - 1.0).abs().max() < 1e-3)
        True
    """

    def __init__(self, size: int, *, population: int = 64, sigma: float = 0.1, seed: int = 0) -> None:
        whole("size", size, 2, "numbers to adapt, at least 2: a covariance is between numbers")
        if size > MOST_NUMBERS:
            raise ValueError(
                f"CMA-ES keeps the covariance of all pairs of numbers, and of {size} that takes "
                f"{size**2 * 8 / 1e9:.1f} GB: choose a model with smaller features."
            )
        whole("population", population, 4, "solutions of a generation, at least 4")
        if not 0.0 < sigma < float("inf"):
            raise ValueError(f"sigma is a standard deviation above 0; got {sigma}.")
        cma: Any = require("cma", extra="evolution")
        self._new_clock: Any = cma.utilities.utils.ElapsedWCTime
        self._generator = torch.Generator().manual_seed(seed)
        options = {
            "popsize": population, "seed": np.nan, "randn": self._normal, "verbose": -9, "verb_log": 0,
            "CMA_mirrors": False, "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA,
        }  # fmt: skip
        self._strategy: Any = cma.CMAEvolutionStrategy(np.zeros(size), sigma, options)

    def _normal(self, *shape: int) -> np.ndarray:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64).numpy()

    @property
    def mean(self) -> Tensor:
        """Where the next generation is centred, float64 ``[N]``: what the noise of single evaluations moved least."""
        return torch.from_numpy(np.array(self._strategy.mean))

    @property
    def sigma(self) -> float:
        """The step size."""
        return float(self._strategy.sigma)

    @property
    def generations(self) -> int:
        """Generations so far."""
        return int(self._strategy.countiter)

    def ask(self) -> Tensor:
        """A generation of solutions, float64 ``[P, N]``."""
        return torch.from_numpy(np.stack(self._strategy.ask()))

    def tell(self, solutions: Tensor, fitness: Tensor) -> None:
        """Adapt to how good the solutions of :meth:`ask` are.

        Args:
            solutions: ``[P, N]``.
            fitness: ``[P]``; the larger, the better.
        """
        costs = (-fitness.detach().double().cpu()).tolist()
        self._strategy.tell(list(solutions.numpy()), costs)

    def state_dict(self) -> dict[str, Any]:
        """Distribution, evolution paths, counts and the generator; taken between two generations."""
        arrays = {name: torch.tensor(np.array(_part(self._strategy, name))) for name in ARRAYS}
        # The order in memory decides the last bits of a product.
        columns = [name for name in ARRAYS if not _part(self._strategy, name).flags.c_contiguous]
        numbers = {name: _plain(_part(self._strategy, name)) for name in (*NUMBERS, *COUNTS)}
        return {**arrays, **numbers, "columns": columns, "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken: to the bit.

        Raises:
            ValueError: if it is of another number of numbers.
        """
        size = self._strategy.N
        if tuple(state["mean"].shape) != (size,):
            raise ValueError(f"this state is of {state['mean'].shape[0]} numbers, and there are {size} here.")
        for name in ARRAYS:
            order = "F" if name in state["columns"] else "C"
            _put(self._strategy, name, np.array(state[name].numpy(), order=order))
        for name in (*NUMBERS, *COUNTS):
            _put(self._strategy, name, state[name])
        # What the strategy makes in its first generation, and does not read again before it is made anew.
        self._strategy.timer = self._new_clock()
        self._strategy.mean_old = self._strategy.mean_after_tell = np.array(self._strategy.mean)
        for name in ("B", "C", "D"):  # the strategy's own names of the sampler's
            setattr(self._strategy, name, getattr(self._strategy.sm, name))
        self._generator.set_state(state["generator"])


def _part(strategy: Any, name: str) -> Any:
    for each in name.split("."):
        strategy = getattr(strategy, each)
    return strategy


def _put(strategy: Any, name: str, value: Any) -> None:
    *owners, last = name.split(".")
    setattr(_part(strategy, ".".join(owners)) if owners else strategy, last, value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
