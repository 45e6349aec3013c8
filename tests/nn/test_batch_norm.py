import torch

from tests.support.ranks import run_ranks
from wmcomponents._global_batch import average_gradients, spread_over_processes
from wmcomponents.nn.layers.batch_norm import BatchNorm1d, BatchNorm2d
from wmcomponents.training import Ranks


def learned(norm, x):
    """Outputs, gradients and running statistics of two updates."""
    outs = []
    for scale in (1.0, 2.0):
        norm.zero_grad()
        leaf = (scale * x).requires_grad_()
        y = norm(leaf)
        (y**3).mean().backward()
        average_gradients(norm.parameters())
        outs += [y.detach(), leaf.grad]
    return outs, [p.grad.clone() for p in norm.parameters()] + [b.clone() for b in norm.buffers()]


def test_a_spread_batch_is_normalised_as_a_whole_one():
    torch.manual_seed(0)
    flat, images = torch.randn(12, 3), torch.randn(12, 3, 2, 2) + 1.0

    def work(rank):
        Ranks.joined()
        with spread_over_processes():
            return [learned(kind(3), x[rank * 6 :][:6]) for kind, x in ((BatchNorm1d, flat), (BatchNorm2d, images))]

    shares = run_ranks(work)
    for number, (kind, x) in enumerate(((torch.nn.BatchNorm1d, flat), (torch.nn.BatchNorm2d, images))):
        outs, kept = learned(kind(3), x)
        for place, whole in enumerate(outs):
            halves = torch.cat([share[number][0][place] for share in shares])
            # A loss that is a mean over half of the rows has twice the gradient in each of them.
            torch.testing.assert_close(halves / (2.0 if place % 2 else 1.0), whole, rtol=1e-4, atol=1e-5)
        for share in shares:
            for one, other in zip(share[number][1], kept, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
