"""AVID: a small network beside a model whose weights nobody needs to see, mixed with its output."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.denoisers.film_unet import FilmUNet


class MaskedMixture(nn.Module):
    r"""A learned mask chooses, pixel by pixel: :math:`m \cdot base + (1 - m) \cdot adapted`, m = 1/2 at first.

    The mask is made from one further channel of the adapter's output.

    Reference: Rigter et al., AVID (2024), section 4.
    """

    further = 1
    """Channels of the adapter's output beside those of a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(
        self, base: Float[Tensor, "*batch c h w"], adapted: Float[Tensor, "*batch c1 h w"]
    ) -> tuple[Float[Tensor, "*batch c h w"], Float[Tensor, "*batch 1 h w"]]:
        """The mixture, and the mask: 1 keeps the base.

        Args:
            base: of the frozen model.
            adapted: of the adapter, the mask's channel last.
        """
        adapted, mask = adapted.split([base.shape[-3], 1], -3)
        mask = (mask * self.weight + self.bias).sigmoid()
        return mask * base + (1 - mask) * adapted, mask


class AddedMixture(nn.Module):
    """A map of the adapter's output is added, nothing at first. The mask says that the base is kept everywhere.

    Args:
        channels: of a frame.

    Reference: Rigter et al., AVID (2024), the form without a mask.
    """

    further = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.map = nn.Linear(channels, channels)
        for parameter in self.map.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, base: Float[Tensor, "*batch c h w"], adapted: Float[Tensor, "*batch c h w"]
    ) -> tuple[Float[Tensor, "*batch c h w"], Float[Tensor, "*batch 1 h w"]]:
        """The sum, and ones.

        Args:
            base: of the frozen model.
            adapted: of the adapter.
        """
        return base + self.map(adapted.movedim(-3, -1)).movedim(-1, -3), torch.ones_like(base[..., :1, :, :])


class OutputAdapter(Component):
    """What a frozen video model says, corrected by a network that knows the actions.

    Only the frozen model's output is read, not its weights: it may run anywhere. What it predicts, noise, data or
    velocity, is what the mixture predicts, and what the loss compares; the loss trains this part alone.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "base_output" | [*B, T, C, H, W] | float, of the frozen model, told no action | read |
        | "noisy" | [*B, T, C, H, W] | float | read |
        | "level" | [*B, T] | int or float | read |
        | "context" | [*B, M, C, H, W] | float, oldest first | read |
        | "action" | [*B, T, A] | float, what leads TO each frame | read, may be absent: a learned none |
        | "network_output" | [*B, T, C, H, W] | float | written |
        | "mask" | [*B, T, 1, H, W] | float, 1 where the base is kept | written |

    Args:
        network: the adapter: of a film beside past frames and the base's output, along the channels, to a frame's
            channels and those that the mixture reads besides; see :meth:`beside`.
        channels: C.
        context: M.
        mixture: of both outputs; :class:`MaskedMixture` if not given.
        in_keys: in the order of the table.
        out_keys: the output, the mask.

    Raises:
        ValueError: if the network's channels are not those of film, past frames, base and mixture. On call, if what
            goes with the film does not fit.

    Reference: Rigter et al., AVID: Adapting Video Diffusion Models to World Models (2024).

    Example:
        >>> part = OutputAdapter.beside((3, 8, 8), 5, context=2, dim=8, multiples=(1, 2), heads=2, head_dim=8)
        >>> film, level, past = torch.zeros(1, 3, 3, 8, 8), torch.zeros(1, 3), torch.zeros(1, 2, 3, 8, 8)
        >>> output, mask = part(film, film, level, past, torch.zeros(1, 3, 5))
        >>> output.shape, mask.mean().item()
        (torch.Size([1, 3, 3, 8, 8]), 0.5)
    """

    def __init__(
        self,
        network: FilmUNet,
        channels: int,
        context: int = 2,
        mixture: MaskedMixture | AddedMixture | None = None,
        *,
        in_keys: Sequence[NestedKey] = ("base_output", "noisy", "level", "context", "action"),
        out_keys: Sequence[NestedKey] = ("network_output", "mask"),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[4:])
        self.network, self.mixture = network, MaskedMixture() if mixture is None else mixture
        self.channels, self.context = channels, context
        read, written = (context + 2) * channels, channels + self.mixture.further
        found = network.shape[0], network.conv_out.out_channels
        if found != (read, written):
            raise ValueError(
                f"an adapter reads {context} past frames, a film and the base's output, {read} channels, and gives "
                f"{written}; got a network from {found[0]} to {found[1]}: take OutputAdapter.beside."
            )

    @classmethod
    def beside(
        cls,
        shape: Sequence[int],
        action: int,
        dim: int = 50,
        multiples: Sequence[int] = (1, 2, 4, 8),
        heads: int = 8,
        head_dim: int = 32,
        *,
        context: int = 2,
        frames: int = 16,
    ) -> "OutputAdapter":
        """An adapter with a mask for films of such frames; the sizes are those of the paper's smaller one.

        Args:
            shape: (C, H, W) of a frame.
            action: A.
            dim: see :class:`FilmUNet`.
            multiples: see :class:`FilmUNet`.
            heads: see :class:`FilmUNet`.
            head_dim: see :class:`FilmUNet`.
            context: M.
            frames: most frames of a film.
        """
        channels, *sides = shape
        network = FilmUNet(
            ((context + 2) * channels, *sides),
            action,
            dim,
            multiples,
            heads,
            head_dim,
            frames=frames,
            is_causal=False,
            relative=True,
            out_channels=channels + MaskedMixture.further,
        )
        return cls(network, channels, context)

    def compute(
        self,
        base_output: Float[Tensor, "*batch t c h w"],
        noisy: Float[Tensor, "*batch t c h w"],
        level: Float[Tensor, "*batch t"] | Int[Tensor, "*batch t"],
        context: Float[Tensor, "*batch m c h w"],
        action: Float[Tensor, "*batch t a"] | None = None,
    ) -> tuple[Float[Tensor, "*batch t c h w"], Float[Tensor, "*batch t 1 h w"]]:
        """See the table of keys."""
        if base_output.shape != noisy.shape:
            raise ValueError(f"the base says something of every frame {[*noisy.shape]}; got {[*base_output.shape]}.")
        expected = (*noisy.shape[:-4], self.context, *noisy.shape[-3:])
        if context.shape != expected:
            raise ValueError(f"{self.context} past frames are expected, {[*expected]}; got {[*context.shape]}.")
        film = torch.cat([beside_context(noisy, context), base_output], -3)
        return self.mixture(base_output, self.network.compute(film, level, action))


def beside_context(
    film: Float[Tensor, "*batch t c h w"], context: Float[Tensor, "*batch m c h w"]
) -> Float[Tensor, "*batch t mc_c h w"]:
    """Each frame of a film behind the same past frames, along the channels: the first channel of all of them first.

    Args:
        film: the frames.
        context: past frames, oldest first.
    """
    past = context.transpose(-4, -3).flatten(-4, -3).unsqueeze(-4)
    return torch.cat([past.expand(*film.shape[:-3], *past.shape[-3:]), film], -3)
