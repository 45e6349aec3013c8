"""How weights lie in memory."""

import copy

import torch
from torch import nn

from wmcomponents.nn import CachedTransformer
from wmcomponents.nn.memory_format import keep_channels_last


def test_convolutions_lie_channels_last_before_and_after_loading():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(3, 2))
    keep_channels_last(net)
    plain = {key: value.clone(memory_format=torch.contiguous_format) for key, value in net.state_dict().items()}
    for loaded in (net, copy.deepcopy(net)):
        loaded.load_state_dict(plain, assign=True)
        assert loaded[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_transformers_maps_lie_by_input_and_mean_the_same():
    torch.manual_seed(0)
    net, x = CachedTransformer(2, dim=8, heads=2).eval(), torch.randn(2, 3, 8)
    expected = net(x)
    plain = {key: value.contiguous() for key, value in net.state_dict().items()}
    for loaded in (net, copy.deepcopy(net)):
        loaded.load_state_dict(plain, assign=True)
        maps = [part for part in loaded.modules() if isinstance(part, nn.Linear)]
        assert len(maps) == 8 and all(part.weight.stride(0) == 1 for part in maps)
        torch.testing.assert_close(loaded(x), expected)
