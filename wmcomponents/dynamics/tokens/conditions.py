"""Conditions of a world as tokens of its transformer: texts and actions, each of which may be missing."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TextTokens(nn.Module):
    """The vectors of an encoded text, each mapped to one token; a learned token stands for each that says nothing.

    A vector of zeros says nothing. Where a world has no texts there is one token, the one that says nothing.

    Args:
        dim: size of the tokens.
        count: M, vectors of a text.
        width: W, size of a vector, the text encoder's; 0 where there are no texts.

    Attributes:
        count: M, tokens of a text; 1 where there are no texts.

    Raises:
        ValueError: for texts without vectors.

    Reference: Hu et al., GAIA-1 (2023), section 2.1. The token that says nothing is ours.
    """

    def __init__(self, dim: int, *, count: int = 0, width: int = 0) -> None:
        super().__init__()
        if width and count < 1:
            raise ValueError(f"a text has at least one vector; got {count}.")
        self.count, self.width = count if width else 1, width
        self.embedding = nn.Linear(width, dim) if width else None
        self.nothing = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, text: Float[Tensor, "*batch m w"] | None, lead: Sequence[int]) -> Float[Tensor, "*batch m dim"]:
        """The tokens of texts.

        Args:
            text: ``[*B, M, W]``; ``None`` says nothing.
            lead: ``*B``.

        Raises:
            ValueError: if the texts are of another encoder.
        """
        if self.embedding is None or text is None:
            return self.nothing.expand(*lead, self.count, -1)
        if text.shape[-2:] != (self.count, self.width):
            raise ValueError(
                f"a text is {self.count} vectors of {self.width} numbers; got {list(text.shape[-2:])}: take the "
                f"encoder that the model was built for, and pad or cut its texts."
            )
        says = (text != 0).any(-1, keepdim=True)
        return torch.where(says, self.embedding(text), self.nothing)


class ActionTokens(nn.Module):
    """An action's vector as tokens: one for each number, or for each choice; a learned token where it is missing.

    A number is missing where it is NaN, a choice where nothing is chosen.

    Args:
        dim: size of the tokens.
        sizes: of the parts of the vector that are a token each: 1 for a number, the alternatives of a choice.
        are_choices: whether the parts are one-hot.

    Attributes:
        count: L, tokens of an action.

    Reference: Hu et al., GAIA-1 (2023), section 2.1, for numbers. Choices, and the token of what is missing, are ours.

    Example:
        >>> ActionTokens(8, sizes=(1, 1), are_choices=False)(torch.tensor([[0.5, float("nan")]])).shape
        torch.Size([1, 2, 8])
    """

    def __init__(self, dim: int, sizes: Sequence[int], *, are_choices: bool) -> None:
        super().__init__()
        self.sizes, self.count, self.are_choices = tuple(sizes), len(sizes), are_choices
        self.embeddings = nn.ModuleList(nn.Linear(size, dim) for size in sizes)
        self.nothing = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, vector: Float[Tensor, "*batch a"]) -> Float[Tensor, "*batch l dim"]:
        """The tokens of actions.

        Args:
            vector: ``[*B, A]``.
        """
        parts = vector.nan_to_num().split(self.sizes, -1)
        tokens = torch.stack([embed(part) for embed, part in zip(self.embeddings, parts, strict=True)], -2)
        if self.are_choices:
            is_missing = [~part.any(-1) for part in parts]
        else:
            is_missing = [part.isnan().any(-1) for part in vector.split(self.sizes, -1)]
        return torch.where(torch.stack(is_missing, -1).unsqueeze(-1), self.nothing, tokens)
