"""The network inside DIAMOND's denoiser: a U-Net told of the noise level, the actions and past frames."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.conv.unet import EPS, UNet, groups_of
from wmcomponents.nn.layers.activation import silu
from wmcomponents.nn.layers.fourier import FourierFeatures


class FrameNetwork(nn.Module):
    """F(scaled noisy frame, noise level, context, actions): what is to be added to a noisy frame.

    The context is stacked before the noisy frame along the channels. The condition of all blocks is an MLP of the sum
    of Fourier features of the noise level and of the embeddings of the actions, side by side, oldest first.

    Args:
        image_channels: of a frame.
        context: frames in the context.
        action: size of an action vector; 0 where nothing is conditioned on actions (an upsampler).
        action_steps: how many actions; they must divide ``cond``.
        noised_context: whether the network is told a noise level of the context too (CS:GO).
        cond: size of the condition.
        depths: blocks of each level.
        channels: of each level.
        attends: whether a level's blocks attend.

    Raises:
        ValueError: if the actions do not divide the condition.

    Reference: Alonso et al., DIAMOND (2024), appendix; github.com/eloialonso/diamond.
    """

    def __init__(
        self,
        image_channels: int = 3,
        context: int = 4,
        action: int = 4,
        action_steps: int = 4,
        noised_context: bool = False,
        cond: int = 256,
        depths: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 64, 64, 64),
        attends: Sequence[bool] = (False, False, False, False),
    ) -> None:
        super().__init__()
        if action and cond % action_steps:
            raise ValueError(f"the embeddings of {action_steps} actions fill the condition; {cond} is no multiple.")
        self.noise_features = FourierFeatures(cond)
        self.context_noise_features = FourierFeatures(cond) if noised_context else None
        # A table whose rows are the embeddings; a vector of several ones gets the sum of theirs.
        self.action_table = nn.Parameter(torch.randn(action, cond // action_steps)) if action else None
        self.cond_mlp = nn.Sequential(nn.Linear(cond, cond), nn.SiLU(), nn.Linear(cond, cond))
        self.conv_in = conv3x3((context + 1) * image_channels, channels[0])
        self.unet = UNet(cond, depths, channels, attends)
        self.norm_out = nn.GroupNorm(groups_of(channels[0]), channels[0], eps=EPS)
        self.conv_out = conv3x3(channels[0], image_channels)
        nn.init.zeros_(self.conv_out.weight)

    def embed_actions(self, actions: Float[Tensor, "n t a"]) -> Float[Tensor, "n k"]:
        """Embeddings of actions, side by side."""
        if self.action_table is None:
            raise ValueError("this network is not conditioned on actions; leave them out.")
        return (actions @ self.action_table).flatten(1)

    def condition(
        self,
        c_noise: Float[Tensor, " n"],
        actions: Float[Tensor, "n t a"] | None = None,
        c_noise_context: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n k"]:
        """The condition of all blocks; a context without noise counts as the level 0.

        Raises:
            ValueError: if actions are missing, or given where there are none.
        """
        cond = self.noise_features(c_noise)
        if self.context_noise_features is not None:
            level = torch.zeros_like(c_noise) if c_noise_context is None else c_noise_context
            cond = cond + self.context_noise_features(level)
        if actions is not None:
            cond = cond + self.embed_actions(actions)
        elif self.action_table is not None:
            raise ValueError(f"this network needs the last actions, [n, t, {len(self.action_table)}]; got none.")
        return self.cond_mlp(cond)

    def forward(
        self,
        noisy: Float[Tensor, "n c h w"],
        c_noise: Float[Tensor, " n"],
        context: Float[Tensor, "n tc h w"],
        actions: Float[Tensor, "n t a"] | None = None,
        c_noise_context: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Apply the network to a noisy frame and a context that are scaled already."""
        cond = self.condition(c_noise, actions, c_noise_context)
        x = self.unet(self.conv_in(torch.cat([context, noisy], 1)), cond)
        return self.conv_out(silu(self.norm_out(x)))
