"""A learned vector for each task."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class TaskEmbedding(nn.Module):
    """A vector for each task, no longer than ``max_norm``.

    Unlike ``torch.nn.Embedding(max_norm=...)``, looking a vector up changes no weight: it is shortened on the way out.
    A training step shortens the weights themselves (:meth:`renormalize_`), so that gradients are those of the shortened
    vectors, as in torch.

    Args:
        tasks: number of tasks.
        size: of a vector.
        max_norm: largest length.

    Reference: Hansen et al., TD-MPC2 (2024), section 3.2.
    """

    def __init__(self, tasks: int, size: int, max_norm: float = 1.0) -> None:
        super().__init__()
        self.max_norm = max_norm
        self.weight = nn.Parameter(torch.empty(tasks, size).uniform_(-0.02, 0.02))

    def forward(self, task: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch size"]:
        """Vectors of tasks by their index."""
        vector = F.embedding(task, self.weight)
        norm = vector.detach().norm(dim=-1, keepdim=True)
        # The 1e-7 is torch's.
        return torch.where(norm > self.max_norm, vector * (self.max_norm / (norm + 1e-7)), vector)

    @torch.no_grad()
    def renormalize_(self, task: Int[Tensor, "*batch"]) -> None:
        """Shorten the weights of these tasks, in place."""
        torch.embedding_renorm_(self.weight.detach(), task.reshape(-1), self.max_norm, 2.0)

    def extra_repr(self) -> str:
        """Tasks and size."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
