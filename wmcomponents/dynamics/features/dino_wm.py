"""DINO-WM's predictor: features of patches, proprioception and actions of a few frames."""

from collections.abc import Callable, Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.dynamics.features.joining import FrameParts, InChannels, Joining
from wmcomponents.dynamics.features.window import one_batch
from wmcomponents.nn import FrameCausalTransformer


class DINOWMPredictor(Component):
    """The next frame's features and proprioception, at every frame of a window (Zhou et al., DINO-WM, 2025).

    The action of a frame leads from it to the next. Action and proprioception are embedded by a linear map each.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "embed" | [*B, T, N, D] | float | read |
        | "proprio" | [*B, T, P] | float | read; of no numbers where P is 0 |
        | "action" | [*B, T, A] | float | read |
        | "predicted" | [*B, T, N, D] | float | written: at t, the features of t + 1 |
        | "predicted_proprio" | [*B, T, E] | float | written: the embedded proprioception of t + 1 |

    Args:
        patches: N, of a frame.
        features: D.
        proprio: P, numbers of proprioception; 0 where there is none, and E of it is 0 then.
        action: A, numbers of an action: of all environment steps that a step of the model spans.
        embedded: E, size of the embedded action, and of the embedded proprioception.
        frames: most frames of a window.
        joining: how the three stand beside each other, of the sizes of features, embedded proprioception and action.
        depth: number of blocks.
        heads: number of attention heads.
        head_dim: size of a head.
        hidden: width of the feed-forward.
        dropout: in every block.
        in_keys: features, proprioception, action.
        out_keys: predicted features and embedded proprioception.

    Raises:
        ValueError: on call, for more frames than a window has, or frames that do not fit together.

    Example:
        >>> net = DINOWMPredictor(4, 8, 3, 2, embedded=2, depth=1, heads=2, head_dim=4, hidden=16)
        >>> predicted, proprio = net(torch.zeros(5, 3, 4, 8), torch.zeros(5, 3, 3), torch.zeros(5, 3, 2))
        >>> predicted.shape, proprio.shape
        (torch.Size([5, 3, 4, 8]), torch.Size([5, 3, 2]))
    """

    def __init__(
        self,
        patches: int,
        features: int,
        proprio: int,
        action: int,
        *,
        embedded: int = 10,
        frames: int = 3,
        joining: Callable[[int, int, int], Joining] = InChannels,
        depth: int = 6,
        heads: int = 16,
        head_dim: int = 64,
        hidden: int = 2048,
        dropout: float = 0.1,
        in_keys: Sequence[NestedKey] = ("embed", "proprio", "action"),
        out_keys: Sequence[NestedKey] = ("predicted", "predicted_proprio"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.joining, self.frames = joining(features, embedded if proprio else 0, embedded), frames
        self.proprio_encoder = nn.Linear(proprio, embedded) if proprio else nn.Identity()
        self.action_encoder = nn.Linear(action, embedded)
        self.transformer = FrameCausalTransformer(
            frames,
            self.joining.count(patches),
            self.joining.dim,
            depth=depth,
            heads=heads,
            head_dim=head_dim,
            hidden=hidden,
            dropout=dropout,
        )

    def tokens(self, embed: Tensor, proprio: Tensor, action: Tensor) -> Tensor:
        """The frames' tokens ``[..., T, M, K]``.

        Args:
            embed: features of patches, ``[..., T, N, D]``.
            proprio: proprioception, ``[..., T, P]``.
            action: actions, ``[..., T, A]``.
        """
        return self.joining.join(FrameParts(embed, self.proprio_encoder(proprio), self.action_encoder(action)))

    def compute(self, embed: Tensor, proprio: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """See the table of keys."""
        lead, flat = one_batch(embed, proprio, action)
        parts = self.joining.part(self.transformer(self.tokens(*flat)))  # pyright: ignore[reportArgumentType]
        return parts.visual.reshape(embed.shape), parts.proprio.reshape(*lead, -1, parts.proprio.shape[-1])

    def rollout(self, embed: Tensor, proprio: Tensor, action: Tensor) -> Tensor:
        """Tokens of the frames that are given and of those that the actions lead to, ``[B, n + t + 1, M, K]``.

        A predicted frame keeps the proprioception that was predicted with it, and gets the real action; the last one
        has none, and keeps what the predictor made of its place.

        Args:
            embed: features of the first n frames, ``[B, n, N, D]``.
            proprio: their proprioception, ``[B, n, P]``.
            action: of them and of t frames that follow, ``[B, n + t, A]``.

        Raises:
            ValueError: for fewer actions than frames.
        """
        given = embed.shape[1]
        if action.shape[1] < given:
            raise ValueError(f"each of {given} frames has an action; got {action.shape[1]}.")
        embedded = self.action_encoder(action)
        tokens = self.tokens(embed, proprio, action[:, :given])
        for time in range(given, action.shape[1]):
            following = self.transformer(tokens[:, -self.frames :])[:, -1:]
            tokens = torch.cat([tokens, self.joining.with_action(following, embedded[:, time : time + 1])], 1)
        return torch.cat([tokens, self.transformer(tokens[:, -self.frames :])[:, -1:]], 1)
