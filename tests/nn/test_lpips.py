"""A perceptual distance around any network of features."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from wmcomponents._extras import MissingExtraError
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


def test_gradients_reach_the_images_and_nothing_else():
    part, x = LPIPS(body(), (4, 5)), torch.rand(1, 3, 8, 8, requires_grad=True)
    part(x, torch.zeros(1, 3, 8, 8)).sum().backward()
    assert x.grad.abs().sum() > 0 and not any(p.requires_grad for p in part.parameters())


def test_training_and_evaluation_are_the_same():
    part, x, y = LPIPS(body(), (4, 5)), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    assert torch.equal(part.train()(x, y), part.eval()(x, y))


class Published(nn.Module):
    """The layout of the distance in ``lpips`` and in ``torchmetrics``, and its value by their formula."""

    def __init__(self):
        super().__init__()
        self.net, self.chns = body(), [4, 5]
        linear = [nn.Conv2d(size, 1, 1, bias=False) for size in self.chns]
        self.lins = nn.ModuleList(SimpleModel(each) for each in linear)

    def forward(self, x, y):
        shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        f, g = (self.net((each - shift) / scale) for each in (x, y))
        unit = [[each / (each.norm(dim=1, keepdim=True) + 1e-10) for each in levels] for levels in (f, g)]
        levels = zip(self.lins, *unit, strict=True)
        return sum(linear.model((a - b) ** 2).mean((2, 3)) for linear, a, b in levels).squeeze(1)


class SimpleModel(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), linear).eval()


def absent(monkeypatch, *names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("package", ["lpips", "torchmetrics"])
def test_the_published_weights_come_from_an_installed_package(package, monkeypatch):
    torch.manual_seed(0)
    theirs, asked = Published().eval(), []
    absent(monkeypatch, "lpips", "torchmetrics.image.lpip")
    module = ModuleType(package)
    if package == "lpips":
        module.LPIPS = lambda net, verbose: asked.append((net, verbose)) or theirs
        monkeypatch.setitem(sys.modules, "lpips", module)
    else:
        module.LearnedPerceptualImagePatchSimilarity = lambda net: (
            asked.append((net, False)) or SimpleNamespace(net=theirs)
        )
        monkeypatch.setitem(sys.modules, "torchmetrics", ModuleType("torchmetrics"))
        monkeypatch.setitem(sys.modules, "torchmetrics.image", ModuleType("torchmetrics.image"))
        monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", module)
    part = LPIPS.trained("alex")
    x, y = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(part(x, y), theirs(x, y))
    assert asked == [("alex", False)] and not any(p.requires_grad for p in part.parameters())


def test_without_the_packages_the_error_names_them_and_the_other_way(monkeypatch):
    absent(monkeypatch, "lpips", "torchmetrics", "torchmetrics.image.lpip")
    with pytest.raises(MissingExtraError, match=r"pip install lpips torchvision.*LPIPS\(backbone\)"):
        LPIPS.trained()
    with pytest.raises(ValueError, match="vgg, alex, squeeze; got 'resnet'"):
        LPIPS.trained("resnet")
