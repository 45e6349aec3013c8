"""PlaNet's world model: what it does not share with Dreamer V1, above all its images."""

import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.layer_counts import DECODER, DENSE, ENCODER, count, layers
from wmcomponents.models import PlaNet, PlaNetConfig

VECTOR = Composite(observation=Unbounded(4))
IMAGE = Composite(image=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))


def test_official_planet_has_the_released_layers():
    model = PlaNet(PlaNetConfig.official(), IMAGE, Bounded(-1, 1, (6,)))
    gru = layers((400, 400), (400, 200))
    found = [count(part) for part in (model.encoder, model.decoder, model.dynamics)]
    assert found == [ENCODER, DECODER, DENSE + gru]
    assert count(model.reward_head) == layers((230, 300), (300, 300), (300, 300), (300, 1))
    assert model.continue_head is None


def test_the_gates_of_planet_begin_half_open_to_the_past():
    model = PlaNet(PlaNetConfig.tiny(), VECTOR, OneHot(2))
    assert model.dynamics.cell.gru.gates.bias.eq(1.0).all()
    assert not model.dynamics.cell.gru.candidate.bias.any()


def observed(model, image):
    begins = torch.ones(1, 1, dtype=torch.bool)
    return model.observe(model.initial_state((1,)), torch.zeros(1, 1), {"image": image}, begins, None)


def test_planets_filter_sees_five_bits():
    model = PlaNet(PlaNetConfig.tiny(), IMAGE, Bounded(-1, 1, (1,)))
    image = torch.randint(256, (1, 64, 64, 3), dtype=torch.uint8)
    seen, same, other = observed(model, image), observed(model, image // 8 * 8), observed(model, image // 16 * 16)
    assert torch.equal(seen["deter"], same["deter"]) and torch.equal(seen["stoch"], same["stoch"])
    assert not torch.equal(seen["stoch"], other["stoch"])


def test_planet_shows_images_of_five_bits():
    model = PlaNet(PlaNetConfig.tiny(), IMAGE, Bounded(-1, 1, (1,)))
    torch.nn.init.normal_(model.decoder.conv.out.weight, std=0.3)
    torch.nn.init.normal_(model.decoder.conv.map_in.bias)
    shown = model.decode(observed(model, torch.randint(256, (1, 64, 64, 3), dtype=torch.uint8)))["image"]
    assert shown.dtype == torch.uint8 and ((shown % 8 == 0) | (shown == 255)).all() and len(shown.unique()) > 2


def test_planets_noise_fills_the_levels():
    model = PlaNet(PlaNetConfig.tiny(), IMAGE, Bounded(-1, 1, (1,)))
    image = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    assert model.preprocessing_noise().keys() == {"image"}
    low, mid, high = (
        model.preprocessed({"image": image}, noise)["image"]
        for noise in ({"image": torch.zeros(2, 64, 64, 3)}, None, {"image": torch.ones(2, 64, 64, 3)})
    )
    torch.testing.assert_close(mid, (low + high) / 2)
    torch.testing.assert_close(high - low, torch.full_like(low, 255.0 / 32.0))
