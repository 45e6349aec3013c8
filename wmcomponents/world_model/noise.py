"""The z of a step, drawn from a caller's own generator."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite

from wmcomponents.world_model.spec_checks import items_of

Noise = dict[str, Tensor]


class NoiseSource:
    """Draws the z of a step as a dict of tensors from a caller's own ``torch.Generator``.

    Args:
        spec: flat ``Composite`` whose leaves are ``Bounded(0, 1)`` or ``Unbounded``.
    """

    def __init__(self, spec: Composite) -> None:
        self._plan: list[tuple[str, tuple[int, ...], Callable[..., Tensor], torch.dtype]] = []
        for key, leaf in items_of(spec):
            draw = torch.rand if isinstance(leaf, Bounded) else torch.randn
            self._plan.append((key, tuple(leaf.shape), draw, leaf.dtype))

    @property
    def empty(self) -> bool:
        """Whether nothing is random."""
        return not self._plan

    def __call__(
        self, batch_size: Sequence[int], generator: torch.Generator, device: torch.device | None = None
    ) -> Noise:
        """Base noise ``[*batch_size, ...]``, on the generator's device unless another is named."""
        device = generator.device if device is None else device
        return {
            key: draw((*batch_size, *shape), generator=generator, dtype=dtype, device=device)
            for key, shape, draw, dtype in self._plan
        }
