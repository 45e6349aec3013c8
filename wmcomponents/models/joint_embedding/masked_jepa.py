"""What I-JEPA and V-JEPA share: predicted features of hidden patches, held to a slow average of the encoder."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.nn.functional import layer_norm
from torch.optim import Optimizer

from wmcomponents.functional.collapse_probes import channel_std
from wmcomponents.functional.patch_masks import Masks
from wmcomponents.functional.patches import take_tokens
from wmcomponents.models.joint_embedding.masked import MaskedLoss, MaskedModel
from wmcomponents.models.joint_embedding.masked_optimizer import MaskedJEPAOptimizerConfig
from wmcomponents.nn import MaskedPredictor, VisionTransformer
from wmcomponents.objectives import Terms, check_model
from wmcomponents.objectives.weights import placed
from wmcomponents.optim import ScheduledAdamW, decay_groups


class MaskedJEPA(MaskedModel):
    """An encoder of what is seen, and a predictor of the features of what is not.

    Args:
        encoder: sees the context; its average sees everything.
        predictor: of hidden tokens.
        image_size: (height, width).
        **options: of :class:`MaskedModel`.
    """

    def __init__(
        self, encoder: VisionTransformer, predictor: MaskedPredictor, image_size: Sequence[int], **options: Any
    ) -> None:
        super().__init__(encoder, image_size, **options)
        self.predictor = predictor

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis of what the predictor tells places of."""
        return self.predictor.grid

    def targets(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n d"]:
        """Features of all patches behind a layer norm without weights: what predictions are held to.

        Args:
            x: images or clips, normalised.
        """
        tokens = self.encoder(x)
        return layer_norm(tokens, tokens.shape[-1:])

    def predictions(self, x: Float[Tensor, "b c *size"], masks: Masks, kind: int = 0) -> Float[Tensor, "b m l d"]:
        """Predicted features of each set of hidden patches, which are predicted set by set.

        Args:
            x: images or clips, normalised.
            masks: what is seen and hidden, context ``[B, K]`` and target ``[B, M, L]``.
            kind: of the masks, which have a token of their own.
        """
        seen = self.encoder(x, masks.context)
        sets = masks.target.shape[1]
        context, index = (one.repeat_interleave(sets, 0) for one in (seen, masks.context))
        predicted = self.predictor(context, index, masks.target.flatten(0, 1), kind)
        return predicted.unflatten(0, (-1, sets))


M = TypeVar("M", bound=MaskedJEPA)


class MaskedJEPALoss(MaskedLoss[M]):
    """Base of the losses of predicted features: the target is the average of the encoder, and gets no gradient.

    Keys written: ``loss_prediction``, or ``loss_prediction_0``, ... where there are several kinds of masks; detached
    diagnostic ``target_std``: the spread of the targets over patches and images, near 0 where the encoder has
    collapsed, which the loss does not show.

    Args:
        world_model: the model.
        optimizer: numbers of :meth:`make_optimizer` and of the average.
        kinds: how many kinds of masks there are.
        seed: of the noise, of which there is none.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (``[B, M L]``).

    Raises:
        TypeError: if the model is of another kind.
    """

    def __init__(
        self,
        world_model: M,
        *,
        optimizer: MaskedJEPAOptimizerConfig,
        kinds: int = 1,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, MaskedJEPA, type(self))
        self.optimizer_config, self.average = optimizer, optimizer.average
        super().__init__(world_model, kinds=kinds, seed=seed, reduction=reduction, create_target_params=True)

    @abstractmethod
    def errors(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Of each hidden patch ``[..., D]``, ``[...]``."""

    @abstractmethod
    def _inputs(self, pixels: Tensor, masks: list[Masks]) -> tuple[Tensor, list[Masks]]:
        """What the encoder reads, ``[N, C, ...]``, and the masks, one for each of N, out of ``[B, T, ...]``."""

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """See :class:`MaskedLoss`."""
        pixels, masks = self.read(tensordict)
        x, masks = self._inputs(pixels, masks)
        model = self.world_model
        with torch.no_grad(), placed(self.target_world_model_params, model):
            target = model.targets(x)
        losses: dict[str, Tensor] = {}
        for kind, mask in enumerate(masks):
            predicted = model.predictions(x, mask, kind)
            wanted = take_tokens(target, mask.target.flatten(1)).view_as(predicted)
            errors = self.errors(predicted, wanted) / self.kinds
            losses[self._loss_names[kind]] = errors.reshape(len(pixels), -1)
        info = {"target_std": channel_std(target.flatten(0, 1)).view(1, 1)}
        return Terms(losses, info, {name: torch.ones_like(value) for name, value in (losses | info).items()})

    @property
    def _loss_names(self) -> list[str]:
        return ["prediction"] if self.kinds == 1 else [f"prediction_{kind}" for kind in range(self.kinds)]

    def _written(self) -> list[NestedKey]:
        return [*(f"loss_{name}" for name in self._loss_names), "target_std"]

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """AdamW with the paper's schedules; see :meth:`ModelLoss.make_optimizer`."""
        c = self.optimizer_config
        groups = [
            group
            for part in ("encoder", "predictor")
            for group in decay_groups(self.world_model_params.get(part).flatten_keys(".").items(), part)
        ]
        return ScheduledAdamW(
            groups,
            c.rate(lr, warmup),
            c.decay,
            max_norm=c.max_norm or None,
            clip_after=c.warmup if warmup is None else warmup,
        )

    def after_update(self, step: int) -> None:
        """The average follows."""
        self.average.update(self.target_world_model_params, self.world_model_params, step)
