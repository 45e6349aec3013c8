"""SimSiam's projector and predictor, by which EfficientZero keeps imagined latents like encoded ones."""

from collections.abc import Sequence

from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.functional.cosine import negative_cosine
from wmcomponents.nn.layers.batch_norm import BatchNorm1d
from wmcomponents.nn.layers.perceptron import Perceptron


class SimSiamProjection(Component):
    """A projection of latents, and a prediction of one projection from another.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, *latent shape] | float | read |
        | "projection" | [*B, units] | float | written |
        | "predicted_projection" | [*B, units] | float | written |

    Args:
        in_features: size of a flat latent.
        hidden: width of the projector's two hidden layers.
        units: size of a projection.
        bottleneck: width of the predictor's hidden layer.
        event_dims: dimensions of a latent: 1 for vectors, 3 for planes.
        in_keys: the latent.
        out_keys: its projection, and the prediction made from it.

    Reference: Chen and He, Exploring Simple Siamese Representation Learning (2021); Ye et al., EfficientZero (2021),
    section 4.1 and appendix A.1.

    Example:
        >>> import torch
        >>> part = SimSiamProjection(8, hidden=16, units=16, bottleneck=4).eval()
        >>> part(latent=torch.zeros(5, 8))[0].shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        in_features: int,
        hidden: int = 1024,
        units: int = 1024,
        bottleneck: int = 512,
        event_dims: int = 1,
        in_keys: Sequence[NestedKey] = ("latent",),
        out_keys: Sequence[NestedKey] = ("projection", "predicted_projection"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.event_dims = event_dims
        self.projector = Perceptron(in_features, [hidden, hidden], units, "batch", "relu")
        self.out_norm = BatchNorm1d(units)
        self.predictor = Perceptron(units, [bottleneck], units, "batch", "relu")

    def project(self, latent: Tensor) -> Tensor:
        """The projection, ``[*B, units]``."""
        flat = latent.flatten(-self.event_dims)
        lead = flat.shape[:-1]
        return self.out_norm(self.projector(flat.reshape(-1, flat.shape[-1]))).reshape(*lead, -1)

    def loss(self, imagined: Tensor, encoded: Tensor) -> Tensor:
        """Negative cosine between what is predicted from the imagined latent and the encoded one's projection.

        Args:
            imagined: latents of the dynamics, ``[*B, *latent shape]``.
            encoded: latents of the representation of the same steps; they get no gradient.

        Returns:
            ``[*B]``, in [-1, 1].
        """
        return negative_cosine(self.predictor(self.project(imagined)), self.project(encoded).detach())

    def compute(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Projection and prediction, each ``[*B, units]``, of a latent ``[*B, *latent shape]``."""
        projection = self.project(latent)
        return projection, self.predictor(projection)
