"""What the frames of a film of tokens pay, and whether they end the episode."""

from collections.abc import Sequence

from jaxtyping import Float
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.codecs.reward import RewardDistribution, SymlogReward
from wmcomponents.component import Component


class FilmOutcomeHead(Component):
    """Reward and end on arriving at each frame of a film, told from the tokens so far and from what led to them.

    A map of what led to a frame is added to a map of each of its tokens' codes. An encoder that does not look ahead
    makes a vector of each frame, and that gives the logits. Nothing is known to have led to a film's first frame: what
    is said of it is not learned.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "codes" | [*B, T, N, E] | float, of the tokens | read |
        | "action" | [*B, T, A] | float, of what led to each frame | read |
        | "reward_logits" | [*B, T, K] | float, of the rewards' classes | written |
        | "end_logits" | [*B, T, 2] | float, of going on and ending | written |

    Args:
        code: E.
        action: A.
        encoder: from ``[B, T, N, dim]`` to a vector for each frame, ``[B, T, features]``.
        dim: of a token that the encoder reads.
        features: of the encoder's vectors.
        rewards: classes of rewards; :class:`~wmcomponents.codecs.SymlogReward` if not given.
        in_keys: codes and actions.
        out_keys: logits of rewards and ends.

    Example:
        >>> import torch
        >>> from wmcomponents.tokenizers import FlattenedEncoder
        >>> head = FilmOutcomeHead(4, 3, FlattenedEncoder(nn.Identity(), 2, 8, 8), 8, 8)
        >>> reward, end = head(torch.randn(5, 7, 2, 4), torch.zeros(5, 7, 3))
        >>> reward.shape, end.shape
        (torch.Size([5, 7, 255]), torch.Size([5, 7, 2]))
    """

    def __init__(
        self,
        code: int,
        action: int,
        encoder: nn.Module,
        dim: int,
        features: int,
        rewards: RewardDistribution | None = None,
        *,
        in_keys: Sequence[NestedKey] = ("codes", "action"),
        out_keys: Sequence[NestedKey] = ("reward_logits", "end_logits"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.rewards = SymlogReward() if rewards is None else rewards
        self.embedding, self.action_map = nn.Linear(code, dim), nn.Linear(action, dim, bias=False)
        self.encoder = encoder
        self.out = nn.Linear(features, self.rewards.size + 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def compute(
        self, codes: Float[Tensor, "*batch t n e"], action: Float[Tensor, "*batch t a"]
    ) -> tuple[Float[Tensor, "*batch t k"], Float[Tensor, "*batch t 2"]]:
        """Logits of reward and end on arriving at each frame."""
        lead = codes.shape[:-3]
        x = self.embedding(codes) + self.action_map(action).unsqueeze(-2)
        y = self.out(self.encoder(x.reshape(-1, *x.shape[len(lead) :])))
        rewards, ends = y.reshape(*lead, *y.shape[1:]).split((self.rewards.size, 2), -1)
        return rewards.contiguous(), ends.contiguous()

    @staticmethod
    def cont(logits: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 1"]:
        """P(not terminated)."""
        return logits.softmax(-1)[..., :1].contiguous()
