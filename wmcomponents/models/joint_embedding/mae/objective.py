"""What MAE minimises: squared errors of the pixels of hidden patches."""

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional.patches import patchify, take_tokens
from wmcomponents.functional.schedules import WarmupCosine
from wmcomponents.models.joint_embedding.mae.config import MAEOptimizerConfig
from wmcomponents.models.joint_embedding.mae.model import MAE
from wmcomponents.models.joint_embedding.masked import MaskedLoss
from wmcomponents.objectives import Terms, check_model
from wmcomponents.optim import ScheduledAdamW, decay_groups


def patch_targets(patches: Float[Tensor, "*b n p"], eps: float = 1e-6) -> Float[Tensor, "*b n p"]:
    """Pixels of each patch around their mean, in units of their deviation.

    Args:
        patches: numbers of each patch.
        eps: added to the unbiased variance.

    Reference: He et al., MAE (2022), section 3, and its code.
    """
    variance, mean = torch.var_mean(patches, -1, keepdim=True)
    return (patches - mean) / (variance + eps).sqrt()


def hidden_patch_errors(
    predicted: Float[Tensor, "b n p"], target: Float[Tensor, "b n p"], hidden: Int[Tensor, "b l"]
) -> Float[Tensor, "b l"]:
    """Mean squared error of each hidden patch.

    Args:
        predicted: numbers of every patch.
        target: what they should be.
        hidden: the patches that count.
    """
    return (take_tokens(predicted, hidden) - take_tokens(target, hidden)).square().mean(-1)


class MAELoss(MaskedLoss[MAE]):
    r"""MAE's loss: the squared error of pixels, over hidden patches alone.

    Keys written: ``loss_reconstruction``.

    Args:
        world_model: the model.
        optimizer: numbers of :meth:`make_optimizer`.
        normalize: whether each patch's pixels are normalised by its own mean and deviation.
        seed: of the noise, of which there is none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (``[B, T L]``).

    Raises:
        TypeError: if the model is no MAE.

    Reference: He et al., MAE (2022), section 3.
    """

    def __init__(
        self,
        world_model: MAE,
        *,
        optimizer: MAEOptimizerConfig | None = None,
        normalize: bool = True,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, MAE, type(self))
        self.normalize = normalize
        self.optimizer_config = MAEOptimizerConfig() if optimizer is None else optimizer
        super().__init__(world_model, seed=seed, reduction=reduction)

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """See :class:`MaskedLoss`."""
        pixels, (masks,) = self.read(tensordict)
        model = self.world_model
        images = self.images(pixels)
        context, target = masks.context.flatten(0, 1), masks.target.flatten(0, 1).flatten(1)
        patches = patchify(images, model.patch)
        wanted = patch_targets(patches) if self.normalize else patches
        errors = hidden_patch_errors(model(images, context), wanted, target).view(len(pixels), -1)
        return Terms({"reconstruction": errors}, {}, torch.ones_like(errors))

    def _written(self) -> list[NestedKey]:
        return ["loss_reconstruction"]

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW with half a cosine behind a rise; see :meth:`ModelLoss.make_optimizer`."""
        c = self.optimizer_config
        rate = WarmupCosine(0.0, c.lr if lr is None else lr, 0.0, c.warmup if warmup is None else warmup, c.steps)
        return ScheduledAdamW(decay_groups(self.named_parameters()), rate, c.weight_decay, betas=(0.9, c.beta2))
