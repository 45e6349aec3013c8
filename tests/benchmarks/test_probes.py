"""The linear map of the probe benchmark finds what is linear, and nothing where there is nothing."""

import torch

from benchmarks.probes import Kernels, ridge_r2, whole_clips, windows


def test_what_is_linear_is_found_and_noise_is_not():
    torch.manual_seed(0)
    x, noise = torch.randn(300, 20), torch.randn(300, 2)
    y = x @ torch.randn(20, 2) + 1
    kernels = Kernels.of(x[:200], x[200:])
    assert (ridge_r2(kernels, y[:200], y[200:]) > 0.999).all()
    assert (ridge_r2(kernels.first(100), y[:100], y[200:]) > 0.99).all()
    assert (ridge_r2(kernels, noise[:200], noise[200:]) < 0.1).all()


def test_a_clip_lies_in_one_episode():
    is_init = torch.zeros(1, 8, 1, dtype=torch.bool).index_fill(1, torch.tensor([2]), True)
    whole = whole_clips(is_init)
    assert whole.tolist() == [[False, False, True, True, True]]
    assert windows(torch.arange(8).view(1, 8), whole).tolist() == [[2, 3, 4, 5], [3, 4, 5, 6], [4, 5, 6, 7]]
