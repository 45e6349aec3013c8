"""Attention over any number of batch dimensions is that over one, by the same kernels."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wmcomponents.nn import SequenceMask, dot_product_attention


class Called(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__.partition(".")[0])
        return func(*args, **(kwargs or {}))


MASKS = {
    "none": lambda: None,
    "rules": lambda: SequenceMask(1),
    "table": lambda: torch.ones(4, 4, dtype=torch.bool).tril(),
    "rows": lambda: torch.rand(3, 1, 4, 4) < 0.7,
    "bias": lambda: torch.randn(2, 3, 2, 4, 4),
}


@pytest.mark.parametrize("name", MASKS)
def test_several_batch_dimensions_are_as_one_and_take_the_fused_kernel(name):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 2, 4, 8).unbind(0)  # [2, 3] rows, 2 heads, 4 tokens
    mask = MASKS[name]()
    if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
        mask = mask | torch.eye(4, dtype=torch.bool)
    with Called() as called:
        out = dot_product_attention(q, k, v, mask)
    assert any("flash_attention" in one for one in called.names)
    full = mask.expand(2, 3, 2, 4, 4) if isinstance(mask, torch.Tensor) else mask
    for row in range(2):
        one = full[row] if isinstance(full, torch.Tensor) else full
        torch.testing.assert_close(out[row], dot_product_attention(q[row], k[row], v[row], one))
