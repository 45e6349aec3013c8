"""The long short-term memory, with episodes that begin inside a sequence."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class EpisodicLSTM(nn.Module):
    r"""One layer of long short-term memory with one bias, and a constant added to the forget gate.

    .. math::
        i, f, g, o &= W x + U h + b, \quad c' = \sigma(f + b_f) c + \sigma(i) \tanh(g) \\
        h' &= \sigma(o) \tanh(c')

    Weights begin Glorot-uniform, the bias at zero.

    Args:
        in_features: size of x.
        hidden: size of h and c.
        forget_bias: :math:`b_f`, not learned: 1 keeps the memory alive at the start of training.
        hidden_bias: whether there is a second bias beside U h, as torch's and cuDNN's cells have it: no other function,
            but under Adam its sum with the first learns twice as fast.

    Reference: Gers, Schmidhuber and Cummins, Learning to Forget (2000).

    Example:
        >>> import torch
        >>> lstm = EpisodicLSTM(3, 8)
        >>> h, c = lstm(torch.zeros(2, 5, 3), torch.zeros(2, 8), torch.zeros(2, 8))
        >>> h.shape, c.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5, 8]))
    """

    def __init__(self, in_features: int, hidden: int, forget_bias: float = 1.0, hidden_bias: bool = False) -> None:
        super().__init__()
        self.in_features, self.hidden, self.forget_bias = in_features, hidden, forget_bias
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, in_features))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.bias_hh = nn.Parameter(torch.zeros(4 * hidden)) if hidden_bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.xavier_uniform_(self.weight_hh)

    def step(
        self, x: Float[Tensor, "*batch i"], h: Float[Tensor, "*batch n"], c: Float[Tensor, "*batch n"]
    ) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
        """The next h and c."""
        lead = h.shape[:-1]
        h, c = self._step(
            self._prepare(x).reshape(-1, 4 * self.hidden), h.reshape(-1, self.hidden), c.reshape(-1, self.hidden)
        )
        return h.reshape(*lead, self.hidden), c.reshape(*lead, self.hidden)

    def forward(
        self,
        x: Float[Tensor, "*batch t i"],
        h: Float[Tensor, "*batch n"],
        c: Float[Tensor, "*batch n"],
        erase: Bool[Tensor, "*batch t 1"] | None = None,
    ) -> tuple[Float[Tensor, "*batch t n"], Float[Tensor, "*batch t n"]]:
        """The states after each step of a sequence.

        Args:
            x: inputs.
            h: hidden state before the sequence.
            c: cell state before the sequence.
            erase: where the state AFTER a step is zero instead, whatever led there.
        """
        lead, n = h.shape[:-1], self.hidden
        inputs = self._prepare(x).reshape(-1, x.shape[-2], 4 * n).unbind(1)
        erased = [None] * len(inputs) if erase is None else erase.reshape(-1, len(inputs), 1).unbind(1)
        h, c = h.reshape(-1, n), c.reshape(-1, n)
        zero = h.new_zeros(())
        hs, cs = [], []
        for prepared, gone in zip(inputs, erased, strict=True):
            h, c = self._step(prepared, h, c)
            if gone is not None:
                h, c = torch.where(gone, zero, h), torch.where(gone, zero, c)
            hs.append(h)
            cs.append(c)
        return torch.stack(hs, 1).reshape(*lead, -1, n), torch.stack(cs, 1).reshape(*lead, -1, n)

    def _prepare(self, x: Tensor) -> Tensor:
        """The input's share of the gates, bias included."""
        n, bias = self.hidden, self.bias if self.bias_hh is None else self.bias + self.bias_hh
        if self.forget_bias:
            bias = torch.cat([bias[:n], bias[n : 2 * n] + self.forget_bias, bias[2 * n :]])
        return nn.functional.linear(x, self.weight_ih, bias)

    def _step(self, prepared: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = torch.addmm(prepared, h, self.weight_hh.t())
        candidate = gates[:, 2 * self.hidden : 3 * self.hidden].tanh()
        enter, forget, _, out = gates.sigmoid().chunk(4, -1)
        c = torch.addcmul(forget * c, enter, candidate)
        return out * c.tanh(), c

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, {self.hidden}, forget_bias={self.forget_bias}"
