"""What a transition between two frames pays, and whether it ends the episode: a CNN and an LSTM."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs.reward import SignReward
from wmcomponents.component import Component
from wmcomponents.nn.conv.conv3x3 import conv3x3
from wmcomponents.nn.conv.unet import AdaptiveResidualBlocks, StridedDownsample
from wmcomponents.nn.layers.lstm import EpisodicLSTM


class RewardEndHead(Component):
    """DIAMOND's model of reward and termination, which reads (x_t, a_t, x_{t+1}) and carries a memory.

    Two frames, stacked along the channels, pass residual blocks under the action's embedding, level by level, and two
    attending blocks; their output, flat, enters an LSTM; an MLP on its h gives the logits of the reward's sign and of
    going on or ending. Initial memory: zeros.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "frame" | [*B, H, W, C] | float in [-1, 1] | read |
        | "action" | [*B, A] | float | read |
        | ("next", "frame") | [*B, H, W, C] | float in [-1, 1] | read |
        | "h" | [*B, hidden] | float | read |
        | "c" | [*B, hidden] | float | read |
        | ("next", "reward_logits") | [*B, 3] | float, of -1, 0, 1 | written |
        | ("next", "end_logits") | [*B, 2] | float, of going on and ending | written |
        | ("next", "h") | [*B, hidden] | float | written |
        | ("next", "c") | [*B, hidden] | float | written |

    Args:
        shape: (H, W, C) of a frame.
        action: size of the action vector.
        hidden: size of h and c.
        cond: size of the action's embedding.
        depths: blocks of each level.
        channels: of each level.
        attends: whether a level's blocks attend.
        in_keys: frame, action, next frame, h, c.
        out_keys: reward logits, end logits, next h, next c.

    Reference: Alonso et al., DIAMOND (2024), section 3.2 and appendix.

    Example:
        >>> import torch
        >>> head = RewardEndHead((16, 16, 3), 4, hidden=8, cond=8, depths=(1,), channels=(8,), attends=(False,))
        >>> memory, frame = torch.zeros(2, 8), torch.zeros(2, 16, 16, 3)
        >>> reward, end, h, c = head(frame, torch.zeros(2, 4), frame, memory, memory)
        >>> reward.shape, end.shape, h.shape
        (torch.Size([2, 3]), torch.Size([2, 2]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        action: int,
        hidden: int = 512,
        cond: int = 128,
        depths: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (32, 32, 32, 32),
        attends: Sequence[bool] = (False, False, False, False),
        in_keys: Sequence[NestedKey] = ("frame", "action", ("next", "frame"), "h", "c"),
        out_keys: Sequence[NestedKey] = (
            ("next", "reward_logits"),
            ("next", "end_logits"),
            ("next", "h"),
            ("next", "c"),
        ),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if not len(depths) == len(channels) == len(attends) > 0:
            raise ValueError(
                f"depths, channels and attends have one entry for each level; got {depths}, {channels}, {attends}."
            )
        height, width, image_channels = shape
        self.hidden, self.rewards = hidden, SignReward()
        self.conv_in = conv3x3(2 * image_channels, channels[0])
        self.action_table = nn.Parameter(torch.randn(action, cond))
        self.blocks, self.downsamples = nn.ModuleList(), nn.ModuleList()
        before = (channels[0], *channels[:-1])
        for level, (depth, outer, inner, attend) in enumerate(zip(depths, before, channels, attends, strict=True)):
            self.downsamples.append(StridedDownsample(outer) if level else nn.Identity())
            self.blocks.append(AdaptiveResidualBlocks([outer, *[inner] * (depth - 1)], [inner] * depth, cond, attend))
            if level:
                height, width = -(-height // 2), -(-width // 2)
        self.downsamples.append(nn.Identity())
        self.blocks.append(AdaptiveResidualBlocks([channels[-1]] * 2, [channels[-1]] * 2, cond, True))
        self.lstm = EpisodicLSTM(channels[-1] * height * width, hidden, forget_bias=0.0, hidden_bias=True)
        self.out = nn.Sequential(
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, self.rewards.size + 2, bias=False)
        )
        nn.init.orthogonal_(self.lstm.weight_hh)
        nn.init.ones_(self.lstm.bias.data[hidden : 2 * hidden])

    def encode(
        self, frame: Float[Tensor, "n c h w"], action: Float[Tensor, "n a"], following: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n f"]:
        """What the memory reads of a transition, channels first, then rows, then columns."""
        cond = action @ self.action_table
        x = self.conv_in(torch.cat([frame, following], 1))
        for downsample, blocks in zip(self.downsamples, self.blocks, strict=True):
            x = blocks(downsample(x), cond)[-1]
        return x.flatten(1)

    def advance(self, code: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The memory after a transition ``[*B, F]``."""
        return self.lstm.step(code, h, c)

    def advance_sequence(
        self, code: Tensor, h: Tensor, c: Tensor, erase: Bool[Tensor, "*batch t 1"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The memory after each transition of a sequence ``[*B, T, F]``; zero where ``erase`` says so."""
        return self.lstm(code, h, c, erase)

    def unroll(self, code: Float[Tensor, "n t f"], begins: Bool[Tensor, "n t 1"]) -> Float[Tensor, "n t k"]:
        """The h after each transition of a sequence; zero at first, and before one that ``begins`` an episode."""
        h = c = code.new_zeros(len(code), self.hidden)
        hs = []
        for step, first in zip(code.unbind(1), begins.unbind(1), strict=True):
            h, c = self.advance(step, h.masked_fill(first, 0.0), c.masked_fill(first, 0.0))
            hs.append(h)
        return torch.stack(hs, 1)

    def raw(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of reward ``[*B, 3]`` and end ``[*B, 2]``."""
        rewards, ends = self.out(h).split((self.rewards.size, 2), -1)
        return rewards.contiguous(), ends.contiguous()

    @staticmethod
    def cont(logits: Tensor) -> Tensor:
        """P(not terminated), ``[*B, 1]``."""
        return logits.softmax(-1)[..., :1].contiguous()

    def compute(
        self, frame: Tensor, action: Tensor, following: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One transition between frames ``[*B, H, W, C]``: reward and end logits, h and c, each ``[*B, ...]``."""
        lead = frame.shape[:-3]
        before, after = (x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2) for x in (frame, following))
        code = self.encode(before, action.reshape(-1, action.shape[-1]), after)
        h, c = self.advance(code.reshape(*lead, -1), h, c)
        return *self.raw(h), h, c
