"""The MDN-RNN: a long short-term memory that ends in a mixture over the next latent vector."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor, nn

from wmcomponents.component import Component
from wmcomponents.dynamics.mixture import Mixture
from wmcomponents.nn.layers.lstm import EpisodicLSTM


class MDNRNN(Component):
    r"""Predicts the next latent vector from the last one and the action taken: M of a V-M-C world model.

    .. math:: h_{t+1}, c_{t+1} = \text{LSTM}([z_t, a_t], h_t, c_t), \qquad z_{t+1} \sim \text{mixture}(W h_{t+1} + b)

    What it is a mixture of is a part: :class:`~wmcomponents.dynamics.DimensionMixture` in the paper's own code,
    :class:`~wmcomponents.dynamics.VectorMixture` in its best known port. Initial state: zeros.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "z" | [*B, mixture.size] | float | read |
        | "h" | [*B, hidden] | float | read |
        | "c" | [*B, hidden] | float | read |
        | "action" | [*B, A] | float | read |
        | ("noise", "component") | [*B, mixture.choices] | float in [0, 1) | read, may be absent: the likeliest |
        | ("noise", "value") | [*B, mixture.size] | float, normal | read, may be absent: the mean |
        | ("next", "z") | [*B, mixture.size] | float | written |
        | ("next", "h") | [*B, hidden] | float | written |
        | ("next", "c") | [*B, hidden] | float | written |
        | ("next", "mixture") | [*B, mixture.params] | float, raw | written |

    Args:
        mixture: the distribution of the next latent vector.
        action: size of the action vector.
        hidden: size of h and c: 256 for CarRacing, 512 for Doom.
        forget_bias: constant on the forget gate; 1 in the paper's code, 0 in torch's own cells.
        temperature: of the samples; above 1 the dream is less certain, which is harder to exploit.
        in_keys: z, h, c, action, both noises.
        out_keys: next z, h, c, raw mixture.

    Raises:
        ValueError: if the temperature is not above 0.

    Reference: Ha and Schmidhuber, World Models (2018), section 2.2 and appendix A.2.

    Example:
        >>> import torch
        >>> from wmcomponents.dynamics import DimensionMixture
        >>> rnn = MDNRNN(DimensionMixture(4), action=2, hidden=8)
        >>> z, h, c, raw = rnn(z=torch.zeros(3, 4), h=torch.zeros(3, 8), c=torch.zeros(3, 8), action=torch.zeros(3, 2))
        >>> z.shape, h.shape, raw.shape
        (torch.Size([3, 4]), torch.Size([3, 8]), torch.Size([3, 60]))
    """

    def __init__(
        self,
        mixture: Mixture,
        action: int,
        hidden: int = 256,
        forget_bias: float = 1.0,
        temperature: float = 1.0,
        in_keys: Sequence[NestedKey] = ("z", "h", "c", "action", ("noise", "component"), ("noise", "value")),
        out_keys: Sequence[NestedKey] = (("next", "z"), ("next", "h"), ("next", "c"), ("next", "mixture")),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[4:])
        self.mixture, self.hidden = mixture, hidden
        self.temperature = temperature
        self.lstm = EpisodicLSTM(mixture.size + action, hidden, forget_bias)
        self.out = nn.Linear(hidden, mixture.params)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def temperature(self) -> float:
        """Of the samples, above 0: divides the mixture's logits; its root multiplies the noise."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not value > 0:
            raise ValueError(f"temperature is above 0 (the mode of a step is noise=None); got {value}.")
        self._temperature = float(value)

    def initial_state(
        self, batch_size: Sequence[int] = (), device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Zeros: h and c, ``[*batch_size, hidden]``."""
        h = torch.zeros(*batch_size, self.hidden, device=device)
        return h, h.clone()

    def advance(self, z: Tensor, h: Tensor, c: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """h_{t+1} and c_{t+1} from z_t ``[*B, Z]``, h_t, c_t and a_t ``[*B, A]``."""
        return self.lstm.step(torch.cat([z, action], -1), h, c)

    def advance_sequence(
        self, z: Tensor, h: Tensor, c: Tensor, action: Tensor, is_init: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The states along a sequence.

        Args:
            z: z_{t-1} at index t, ``[*B, T, Z]``.
            h: before the sequence, ``[*B, hidden]``.
            c: likewise.
            action: a_{t-1} at index t, ``[*B, T, A]``.
            is_init: whether index t begins an episode, where h and c are zero: bool ``[*B, T, 1]``.

        Returns:
            h_t and c_t at index t, ``[*B, T, hidden]``.
        """
        return self.lstm(torch.cat([z, action], -1), h, c, is_init)

    def raw(self, h: Tensor) -> Tensor:
        """Parameters ``[*B, mixture.params]`` of the distribution of z_t, from h_t."""
        return self.out(h)

    def compute(
        self,
        z: Tensor,
        h: Tensor,
        c: Tensor,
        action: Tensor,
        component: Tensor | None = None,
        value: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step of the dream: next z, h, c, and the raw mixture that z was drawn from."""
        h, c = self.advance(z, h, c, action)
        raw = self.raw(h)
        return self.mixture.sample(raw, component, value, self.temperature), h, c, raw
