"""Rewards of a latent: alone, or as the difference of sums that an LSTM keeps."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn
from torchrl.data import Bounded, TensorSpec, Unbounded

from wmcomponents.codecs.reward_unit import warn_beyond
from wmcomponents.codecs.support import Support
from wmcomponents.component import Component
from wmcomponents.nn.layers.perceptron import Perceptron, normalization

Memory = dict[str, Tensor]


class RewardHead(Component):
    """MuZero's reward of the latent that was arrived at, as a distribution over a support.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, *latent shape] | float | read |
        | "reward_logits" | [*B, bins] | float | written |
        | "reward" | [*B, 1] | float, env units | written |

    Args:
        net: latent to logits: a perceptron, or ``nn.ReducedHead`` for planes.
        support: of the reward.
        event_dims: dimensions of a latent: 1 for vectors, 3 for planes.
        in_keys: the latent.
        out_keys: logits and reward.

    Reference: Schrittwieser et al., MuZero (2020), appendix F.

    Example:
        >>> import torch
        >>> from wmcomponents.nn import Perceptron
        >>> from wmcomponents.codecs import Support
        >>> logits, reward = RewardHead(Perceptron(8, [], 21), Support.integers(10))(latent=torch.zeros(5, 8))
        >>> reward.shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        net: nn.Module,
        support: Support,
        event_dims: int = 1,
        in_keys: Sequence[NestedKey] = ("latent",),
        out_keys: Sequence[NestedKey] = ("reward_logits", "reward"),
    ) -> None:
        super().__init__(in_keys, out_keys)
        self.net, self.support, self.event_dims = net, support, event_dims

    def memory_specs(self) -> dict[str, TensorSpec]:
        """What passes from step to step: nothing."""
        return {}

    def prepare(self, reward: Tensor) -> None:
        """Find the unit of rewards, once, where there is one; warn of rewards beyond the support.

        Args:
            reward: of the data, in env units, ``[*B, 1]``.
        """
        _prepare(self.support, reward, reward)

    def advance(self, latent: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Memory]:
        """Logits ``[*B, bins]``, reward ``[*B, 1]``, and the memory after a step to ``[*B, *latent shape]``."""
        logits, reward = self.compute(latent)
        return logits, reward, {}

    def targets(self, reward: Tensor) -> Tensor:
        """What the logits of consecutive steps are to say, ``[*B, K]`` in env units: the rewards."""
        return reward

    def compute(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[*B, bins]`` and reward ``[*B, 1]`` of a latent ``[*B, *latent shape]``."""
        lead = latent.shape[: latent.ndim - self.event_dims]
        logits = self.net(latent.reshape(-1, *latent.shape[latent.ndim - self.event_dims :])).reshape(*lead, -1)
        return logits, self.support.mean(logits).unsqueeze(-1)


class ValuePrefixHead(Component):
    """EfficientZero's value prefix: the sum of rewards since the last reset, predicted by an LSTM along the dream.

    The reward is the difference to the prefix before; after every ``horizon`` steps the LSTM and the prefix begin
    anew, so that the prefix itself is the reward then.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "latent" | [*B, *latent shape] | float | read |
        | "lstm_h", "lstm_c" | [*B, lstm] | float | read |
        | "value_prefix" | [*B, 1] | float, env units, undiscounted | read |
        | "since_reset" | [*B, 1] | int64, in 0..horizon - 1 | read |
        | "reward_logits" | [*B, bins] | float, of the prefix | written |
        | "reward" | [*B, 1] | float, env units | written |
        | the four of the memory, under "next" | | | written |

    Args:
        entry: latent to the LSTM's input: ``nn.ReducedPlanes`` for planes, the identity for vectors.
        features: size of that input.
        support: of the prefix.
        lstm: size of the LSTM.
        hidden: widths of the layers behind it.
        horizon: steps between resets.
        norm: ``"batch"`` as in the paper, or another.
        zero: whether the last layer begins at zero, as in the paper.
        event_dims: dimensions of a latent: 1 for vectors, 3 for planes.
        in_keys: latent and memory.
        out_keys: logits, reward, memory.

    Reference: Ye et al., EfficientZero (2021), section 4.2 and appendix A.1.

    Example:
        >>> import torch
        >>> from wmcomponents.codecs import Support
        >>> head = ValuePrefixHead(torch.nn.Identity(), 8, Support.integers(10), lstm=16, hidden=[8]).eval()
        >>> memory = {k: torch.zeros(5, *s.shape, dtype=s.dtype) for k, s in head.memory_specs().items()}
        >>> head(latent=torch.zeros(5, 8), **memory)[1].shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        entry: nn.Module,
        features: int,
        support: Support,
        lstm: int = 512,
        hidden: Sequence[int] = (32,),
        horizon: int = 5,
        norm: str = "batch",
        zero: bool = True,
        event_dims: int = 1,
        in_keys: Sequence[NestedKey] = ("latent", "lstm_h", "lstm_c", "value_prefix", "since_reset"),
        out_keys: Sequence[NestedKey] = (
            "reward_logits",
            "reward",
            ("next", "lstm_h"),
            ("next", "lstm_c"),
            ("next", "value_prefix"),
            ("next", "since_reset"),
        ),
    ) -> None:
        super().__init__(in_keys, out_keys)
        if horizon < 1:
            raise ValueError(f"horizon is the number of steps between resets, at least 1; got {horizon}.")
        self.entry, self.support, self.horizon, self.event_dims = entry, support, horizon, event_dims
        self.lstm = nn.LSTMCell(features, lstm)
        self.norm = normalization(norm, lstm)
        self.fc = Perceptron(lstm, hidden, support.size, norm, "relu", zero)

    def memory_specs(self) -> dict[str, TensorSpec]:
        """What passes from step to step, for one row; zeros begin."""
        size = torch.Size([self.lstm.hidden_size])
        return {
            "lstm_h": Unbounded(size),
            "lstm_c": Unbounded(size),
            "value_prefix": Unbounded(torch.Size([1])),
            "since_reset": Bounded(0, self.horizon - 1, torch.Size([1]), dtype=torch.int64),
        }

    def prepare(self, reward: Tensor) -> None:
        """Find the unit of rewards, once, where there is one; warn of sums of rewards that may lie beyond the support.

        Args:
            reward: of the data, in env units, ``[*B, 1]``.
        """
        _prepare(self.support, reward, self.horizon * reward)

    def advance(self, latent: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Memory]:
        """Logits of the prefix ``[*B, bins]``, reward ``[*B, 1]``, and the memory after a step, each ``[*B, ...]``."""
        lead, event = latent.shape[: latent.ndim - self.event_dims], latent.shape[latent.ndim - self.event_dims :]
        size = self.lstm.hidden_size
        before = memory["lstm_h"].reshape(-1, size), memory["lstm_c"].reshape(-1, size)
        h, c = self.lstm(self.entry(latent.reshape(-1, *event)), before)
        logits = self.fc(self.norm(h).relu()).reshape(*lead, -1)
        h, c = h.reshape(*lead, -1), c.reshape(*lead, -1)
        prefix = self.support.mean(logits).unsqueeze(-1)
        count = memory["since_reset"] + 1
        is_reset = count >= self.horizon
        following = {"lstm_h": h, "lstm_c": c, "value_prefix": prefix, "since_reset": count}
        following = {key: torch.where(is_reset, torch.zeros_like(value), value) for key, value in following.items()}
        return logits, prefix - memory["value_prefix"], following

    def targets(self, reward: Tensor) -> Tensor:
        """Undiscounted sums of consecutive rewards ``[*B, K]`` since the last reset."""
        return torch.cat([part.cumsum(-1) for part in reward.split(self.horizon, -1)], -1)

    def compute(
        self, latent: Tensor, lstm_h: Tensor, lstm_c: Tensor, value_prefix: Tensor, since_reset: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits ``[*B, bins]``, reward ``[*B, 1]``, and the four of the memory afterwards."""
        memory = {"lstm_h": lstm_h, "lstm_c": lstm_c, "value_prefix": value_prefix, "since_reset": since_reset}
        logits, reward, following = self.advance(latent, memory)
        return logits, reward, *following.values()


def _prepare(support: Support, reward: Tensor, said: Tensor) -> None:
    support.prepare(reward)
    cut = "the support's last bin stands for all of them"
    warn_beyond(said, support.largest, cut, "Build the model with rewards='scaled', or a larger reward_support")
