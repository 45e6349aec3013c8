"""A frame denoiser under EDM's preconditioning."""

from collections.abc import Sequence

from jaxtyping import Float
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.denoisers.network import FrameNetwork
from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.edm import EDMCoefficients, edm_coefficients, on_byte_grid


class EDMDenoiser(Component):
    r"""From a noisy frame, past frames and actions to the frame without noise (DIAMOND).

    .. math:: D = c_{skip} \tilde x + c_{out} F(c_{in} \tilde x, c_{noise}, \text{context} / \sigma_{data},
        \text{actions})

    The result is cut down to the 256 levels of a byte; no gradient goes through it: training compares F.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "noisy" | [*B, H, W, C] | float, data in [-1, 1] | read |
        | "sigma" | [*B, 1] | float | read |
        | "context" | [*B, T, H, W, C] | float in [-1, 1], oldest first | read |
        | "actions" | [*B, T', A] | float, oldest first | read, may be absent where there are none |
        | "sigma_context" | [*B, 1] | float, noise of the context | read, may be absent: 0 |
        | "network_output" | [*B, H, W, C] | float | written |
        | "denoised" | [*B, H, W, C] | float on the grid of bytes | written |

    Args:
        network: F.
        sigma_data: standard deviation of the data.
        sigma_offset: standard deviation of the noise that a channel shares: 0.3 for Atari, 0.1 for CS:GO.
        in_keys: noisy, sigma, context, actions, sigma_context.
        out_keys: the network's output, the denoised frame.

    Reference: Karras et al., EDM (2022); Alonso et al., DIAMOND (2024), section 3.

    Example:
        >>> import torch
        >>> small = {"cond": 8, "depths": (1,), "channels": (8,), "attends": (False,)}
        >>> denoiser = EDMDenoiser(FrameNetwork(context=2, action=3, action_steps=2, **small))
        >>> frame, past = torch.zeros(5, 16, 16, 3), torch.zeros(5, 2, 16, 16, 3)
        >>> _, denoised = denoiser(noisy=frame, sigma=torch.ones(5, 1), context=past, actions=torch.zeros(5, 2, 3))
        >>> denoised.shape
        torch.Size([5, 16, 16, 3])
    """

    def __init__(
        self,
        network: FrameNetwork,
        sigma_data: float = 0.5,
        sigma_offset: float = 0.3,
        in_keys: Sequence[NestedKey] = ("noisy", "sigma", "context", "actions", "sigma_context"),
        out_keys: Sequence[NestedKey] = ("network_output", "denoised"),
    ) -> None:
        optional = in_keys[4:] if network.action_table is not None else in_keys[3:]
        super().__init__(in_keys, out_keys, optional_keys=optional)
        self.network, self.sigma_data, self.sigma_offset = network, sigma_data, sigma_offset

    def coefficients(self, sigma: Float[Tensor, " n"]) -> EDMCoefficients:
        """The preconditioning of each row."""
        return edm_coefficients(sigma, self.sigma_data, self.sigma_offset)

    def raw(
        self,
        noisy: Float[Tensor, "n c h w"],
        coefficients: EDMCoefficients,
        context: Float[Tensor, "n tc h w"],
        actions: Float[Tensor, "n t a"] | None = None,
        sigma_context: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """F of images, channels first, the context stacked along the channels; the context's noise has no offset."""
        c_noise_context = None if sigma_context is None else sigma_context.log() / 4.0
        scaled = noisy * aligned(coefficients.c_in, noisy)
        return self.network(scaled, coefficients.c_noise, context / self.sigma_data, actions, c_noise_context)

    @staticmethod
    def mean(
        raw: Float[Tensor, "n c h w"], noisy: Float[Tensor, "n c h w"], coefficients: EDMCoefficients
    ) -> Float[Tensor, "n c h w"]:
        """D from F, not quantised."""
        return aligned(coefficients.c_skip, noisy) * noisy + aligned(coefficients.c_out, raw) * raw

    def denoise(
        self,
        noisy: Float[Tensor, "n c h w"],
        sigma: Float[Tensor, " n"],
        context: Float[Tensor, "n tc h w"],
        actions: Float[Tensor, "n t a"] | None = None,
        sigma_context: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """D of images, channels first, on the grid of bytes."""
        coefficients = self.coefficients(sigma)
        raw = self.raw(noisy, coefficients, context, actions, sigma_context)
        return on_byte_grid(self.mean(raw, noisy, coefficients).detach())

    def compute(
        self,
        noisy: Tensor,
        sigma: Tensor,
        context: Tensor,
        actions: Tensor | None = None,
        sigma_context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """F and D of images as environments lay them out, ``[*B, H, W, C]``."""
        lead = noisy.shape[:-3]
        x = noisy.reshape(-1, *noisy.shape[-3:]).permute(0, 3, 1, 2)
        coefficients = self.coefficients(sigma.reshape(-1))
        raw = self.raw(
            x,
            coefficients,
            frames_as_channels(context.reshape(-1, *context.shape[-4:])),
            None if actions is None else actions.reshape(-1, *actions.shape[-2:]),
            None if sigma_context is None else sigma_context.reshape(-1),
        )
        denoised = on_byte_grid(self.mean(raw, x, coefficients).detach())
        raw, denoised = (y.permute(0, 2, 3, 1).reshape(*lead, *noisy.shape[-3:]) for y in (raw, denoised))
        return raw, denoised


def frames_as_channels(frames: Float[Tensor, "n t h w c"]) -> Float[Tensor, "n tc h w"]:
    """Frames as channels, oldest first; in memory they lie last."""
    n, t, h, w, c = frames.shape
    return frames.permute(0, 2, 3, 1, 4).reshape(n, h, w, t * c).permute(0, 3, 1, 2)
