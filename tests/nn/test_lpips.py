"""A perceptual distance around any network of features."""

import torch
from torch import nn

from wmcomponents.nn import LPIPS


def body():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, stride=2)

    def features(x):
        low = first(x)
        return [low, second(low.relu())]

    return features


def test_the_distance_is_none_to_oneself_symmetric_and_one_for_each_pair():
    part, x, y = LPIPS(body(), (4, 5)), torch.rand(3, 3, 8, 8) * 2 - 1, torch.rand(3, 3, 8, 8) * 2 - 1
    assert part(x, y).shape == (3,) and (part(x, y) > 0).all()
    torch.testing.assert_close(part(x, y), part(y, x))
    torch.testing.assert_close(part(x, x), torch.zeros(3))


def test_it_does_not_care_how_strong_features_are():
    f, g = [torch.rand(2, 4, 3, 3)], [torch.rand(2, 4, 3, 3)]
    part = LPIPS(lambda x: [x], (4,))
    torch.testing.assert_close(part.distance([3 * f[0]], g), part.distance(f, g))


def test_gradients_reach_the_pictures_and_nothing_else():
    part, x = LPIPS(body(), (4, 5)), torch.rand(1, 3, 8, 8, requires_grad=True)
    part(x, torch.zeros(1, 3, 8, 8)).sum().backward()
    assert x.grad.abs().sum() > 0 and not any(p.requires_grad for p in part.parameters())


def test_training_and_evaluation_are_the_same():
    part, x, y = LPIPS(body(), (4, 5)), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    assert torch.equal(part.train()(x, y), part.eval()(x, y))
