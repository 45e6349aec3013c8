"""A tokenizer of images whose codes also tell what a trained backbone sees."""

from collections.abc import Sequence

from jaxtyping import Float
from tensordict import NestedKey
from torch import Tensor, nn
from torch.nn import functional as F

from wmcomponents.functional.cosine import negative_cosine
from wmcomponents.nn import LearnedCosineQuantizer
from wmcomponents.tokenizers import ImageTokenizer


class DistilledTokenizer(ImageTokenizer[LearnedCosineQuantizer]):
    """An :class:`~wmcomponents.tokenizers.ImageTokenizer` with a linear map from a code's vector to features.

    Args:
        shape: (H, W, C) of an image.
        encoder: images in [-1, 1] ``[N, C, H, W]`` to a grid of features ``[N, F, h, w]``.
        decoder: the way back.
        quantizer: vectors to codes.
        features: F.
        grid: (h, w).
        distilled: size of the backbone's features; 0 for no such map.
        in_keys: key of the image.
        out_keys: keys of tokens and codes.

    Reference: Hu et al., GAIA-1 (2023), section 2.2: the inductive bias loss.
    """

    def __init__(
        self,
        shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: LearnedCosineQuantizer,
        *,
        features: int,
        grid: tuple[int, int],
        distilled: int = 0,
        in_keys: Sequence[NestedKey] = ("pixels",),
        out_keys: Sequence[NestedKey] = ("tokens", "codes"),
    ) -> None:
        super().__init__(
            shape, encoder, decoder, quantizer, features=features, grid=grid, in_keys=in_keys, out_keys=out_keys
        )
        self.distilled = distilled
        self.to_features = nn.Linear(quantizer.dim, distilled) if distilled else None

    def distillation(self, codes: Float[Tensor, "n k e"], patches: Float[Tensor, "n p d"]) -> Float[Tensor, " n"]:
        """How far what codes tell points away from a backbone's features: one minus the cosine, a mean over the grid.

        The backbone's grid is brought to that of the codes, between whose points it is linear.

        Args:
            codes: vectors of codes, ``[N, K, E]``.
            patches: the backbone's features, row by row of a grid of the image's proportions, ``[N, P, D]``.

        Raises:
            ValueError: if features are of another size than the tokenizer was built for, or make no such grid.
        """
        if self.to_features is None or patches.shape[-1] != self.distilled:
            raise ValueError(
                f"the backbone gives features of size {patches.shape[-1]}, and codes tell {self.distilled}: build the "
                f"model with distilled={patches.shape[-1]}."
            )
        height, width = self._grid_of(patches.shape[1])
        maps = patches.transpose(1, 2).unflatten(2, (height, width))
        target = F.interpolate(maps, self.grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
        return 1.0 + negative_cosine(self.to_features(codes), target.detach()).mean(-1)

    def _grid_of(self, patches: int) -> tuple[int, int]:
        height = round((patches * self.shape[0] / self.shape[1]) ** 0.5)
        if height < 1 or patches % height or height * self.shape[1] != patches // height * self.shape[0]:
            raise ValueError(
                f"{patches} patches make no grid of an image of {self.shape[0]} x {self.shape[1]}: let the backbone "
                f"see the whole image, and give the tokens of its patches alone (patches=)."
            )
        return height, patches // height
