"""The last layer of a diffusion transformer, and how its weights begin."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.diffusion.embeddings import LabelEmbedding, NumberEmbedding


class AdaptiveOutput(nn.Module):
    """A layer norm that a condition shifts and scales, and a linear map; zero at first, whatever comes.

    Args:
        dim: size of inputs.
        out: size of outputs.
        condition_dim: size of the condition; ``dim`` if not given.

    Reference: Peebles and Xie, DiT (2023), section 3.2.
    """

    def __init__(self, dim: int, out: int, condition_dim: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, 1e-6, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition_dim or dim, 2 * dim))
        self.linear = nn.Linear(dim, out)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, x: Float[Tensor, "*batch n d"], condition: Float[Tensor, "*#batch #n c"]
    ) -> Float[Tensor, "*batch n o"]:
        """The output of each token.

        Args:
            x: the tokens.
            condition: for each token, or one for all of them.
        """
        shift, scale = self.modulation(condition).chunk(2, -1)
        return self.linear(self.norm(x) * (1 + scale) + shift)


@torch.no_grad()
def dit_init_(net: nn.Module) -> None:
    """DiT's first weights: maps by Xavier with biases 0, embeddings small, every modulation and the last map 0.

    Args:
        net: whose weights are set IN PLACE; what sets norms is told by its name, ``modulation``.

    Reference: Peebles and Xie, DiT (2023), and its code.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            if "modulation" in name:
                nn.init.zeros_(module.weight)
            else:
                nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, NumberEmbedding):
            for layer in (module.mlp[0], module.mlp[2]):
                nn.init.normal_(layer.weight, std=0.02)  # pyright: ignore[reportArgumentType]
        elif isinstance(module, LabelEmbedding):
            nn.init.normal_(module.table.weight, std=0.02)
        elif isinstance(module, AdaptiveOutput):
            nn.init.zeros_(module.linear.weight)
