"""Target networks: weights that follow those of a network in training, by copies or by an exponential average."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

Weights = TensorDictBase | nn.Module
"""Parameters and buffers: a module, or the parameters that a loss holds of one."""


@dataclass(frozen=True)
class PeriodicCopy:
    """A target network that becomes the network after every ``interval`` updates, and rests in between.

    It has no state of its own: a run that is resumed at a step goes on as one that was never stopped.

    Attributes:
        interval: updates between copies, at least 1.

    Raises:
        ValueError: if the interval is below 1.

    Reference: Mnih et al., Human-Level Control through Deep Reinforcement Learning (2015).

    Example:
        >>> network, target = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        >>> follow = PeriodicCopy(2)
        >>> follow.update(target, network, 0), bool(target.weight == network.weight)
        (None, False)
        >>> follow.update(target, network, 1), bool(target.weight == network.weight)
        (None, True)
    """

    interval: int

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"interval is the number of updates between copies, at least 1; got {self.interval}.")

    def update(self, target: Weights, network: Weights, step: int) -> None:
        """Copy, if it is time.

        Args:
            target: the weights that follow.
            network: the weights that are followed.
            step: the update that was just taken, from 0.

        Raises:
            ValueError: if the two do not have the same names.
        """
        if (step + 1) % self.interval == 0:
            copy_weights(target, network)


@dataclass(frozen=True)
class ExponentialAverage:
    r"""A target network, or a number, that is the running average of what it follows.

    .. math:: \bar\theta \leftarrow \bar\theta + \tau (\theta - \bar\theta)

    Elsewhere :math:`1 - \tau` is called decay or momentum. Like :class:`PeriodicCopy` it has no state of its own.

    Attributes:
        tau: share in [0, 1] by which the average moves at each update; or a schedule, a function of the update, from 0.

    Raises:
        ValueError: if tau lies outside [0, 1].

    Reference: Polyak and Juditsky (1992); Lillicrap et al., Continuous Control with Deep Reinforcement Learning (2016);
    with a schedule, Grill et al., Bootstrap Your Own Latent (2020).

    Example:
        >>> average = ExponentialAverage(lambda step: 0.5 if step < 10 else 0.1)
        >>> average.blend(torch.tensor(0.0), torch.tensor(1.0), step=3)
        tensor(0.5000)
        >>> average.blend(torch.tensor(0.0), torch.tensor(1.0), step=10)
        tensor(0.1000)
    """

    tau: float | Callable[[int], float]

    def __post_init__(self) -> None:
        if not callable(self.tau):
            _check_share(self.tau)

    def share(self, step: int) -> float:
        """Tau of an update, from 0.

        Raises:
            ValueError: if a schedule gives a number outside [0, 1].
        """
        return _check_share(self.tau(step)) if callable(self.tau) else self.tau

    def blend(self, average: Tensor, value: Tensor, step: int = 0) -> Tensor:
        """The average ``[...]`` after one more value ``[...]``; neither of them is changed.

        Args:
            average: the running average.
            value: what it follows.
            step: the update, from 0; a schedule reads it.
        """
        return torch.lerp(average, value, self.share(step))

    @torch.no_grad()
    def update(self, target: Weights, network: Weights, step: int) -> None:
        """Move every weight towards the network's; what cannot be averaged, such as a count or a flag, is copied.

        Args:
            target: the weights that follow.
            network: the weights that are followed.
            step: the update that was just taken, from 0.

        Raises:
            ValueError: if the two do not have the same names.
        """
        pairs = _pairs(target, network)
        averaged = [pair for pair in pairs if pair[0].is_floating_point() or pair[0].is_complex()]
        if averaged:
            averages, values = (list(tensors) for tensors in zip(*averaged, strict=True))
            # One call for all of them: hundreds of small ones would cost more than the arithmetic.
            torch._foreach_lerp_(averages, values, self.share(step))  # pyright: ignore[reportPrivateImportUsage]
        for average, value in pairs:
            if not (average.is_floating_point() or average.is_complex()):
                average.copy_(value)


@torch.no_grad()
def copy_weights(target: Weights, network: Weights) -> None:
    """Make a target network equal to the network, statistics and counts included.

    Args:
        target: receives the weights.
        network: gives them.

    Raises:
        ValueError: if the two do not have the same names.
    """
    for copied, value in _pairs(target, network):
        copied.copy_(value)


def _pairs(target: Weights, network: Weights) -> list[tuple[Tensor, Tensor]]:
    follower, followed = _named(target), _named(network)
    if follower.keys() != followed.keys():
        alone = sorted(follower.keys() ^ followed.keys())
        raise ValueError(
            f"a target network has the weights of the network it follows; {', '.join(alone[:3])}"
            f"{' ...' if alone[3:] else ''} {'is' if len(alone) == 1 else 'are'} in one of the two alone."
        )
    return [(follower[name].detach(), followed[name].detach()) for name in follower]


def _named(weights: Weights) -> dict[str, Tensor]:
    if isinstance(weights, TensorDictBase):
        return {str(name): value for name, value in weights.flatten_keys(".").items()}
    return {**dict(weights.named_parameters()), **dict(weights.named_buffers())}


def _check_share(tau: float) -> float:
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau is the share by which an average moves at each update, in [0, 1]; got {tau}.")
    return tau
