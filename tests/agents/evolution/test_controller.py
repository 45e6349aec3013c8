"""A linear controller: its numbers, its actions, and a population of its kind at once."""

import pytest
import torch
from torchrl.data import Bounded, Categorical, MultiOneHot, OneHot

from wmcomponents.agents.evolution import LinearController

NUMBERS = Bounded(torch.tensor([-2.0, 0.0, 0.0]), torch.tensor([2.0, 1.0, 4.0]))


def test_it_has_the_paper_s_numbers():
    assert LinearController(32 + 256, NUMBERS).size == 867
    assert LinearController(64 + 512 + 512, Bounded(-1, 1, (1,)), bias=False).size == 1088


def test_numbers_are_squashed_between_their_bounds_and_the_highest_alternative_is_taken():
    controller = LinearController(2, NUMBERS)
    controller.genome.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.5]))
    (action,) = controller.compute(torch.tensor([0.3, 1.0]))
    expected = torch.stack([2 * torch.tensor(0.3).tanh(), torch.tensor(0.5), torch.tensor(4.0)])
    assert torch.allclose(action, expected)
    choices = LinearController(2, Categorical(3), bias=False)
    choices.genome.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 30.0]))
    assert choices.compute(torch.tensor([[9.0, 0.1], [3.0, 0.0], [-1.0, -1.0]]))[0].tolist() == [1, 1, 0]


def test_a_way_of_one_s_own_to_squash_takes_the_place_of_tanh():
    controller = LinearController(1, Bounded(0, 1, (1,)), squash=lambda raw: raw.clamp(-1, 1))
    controller.genome.copy_(torch.tensor([0.5, 0.0]))
    assert controller.compute(torch.ones(1))[0].item() == pytest.approx(0.75)


@pytest.mark.parametrize("spec", [NUMBERS, OneHot(3), Categorical(4), MultiOneHot([2, 3])])
@pytest.mark.parametrize("bias", [True, False])
def test_a_population_acts_as_each_of_it_alone(spec, bias):
    generator = torch.Generator().manual_seed(0)
    controller = LinearController(5, spec, bias=bias)
    genomes = torch.randn(4, controller.size, generator=generator)
    features = torch.randn(4, 7, 5, generator=generator)
    together = controller.act(features, genomes)
    for number in range(4):
        controller.genome.copy_(genomes[number])
        (alone,) = controller.compute(features[number])
        assert torch.allclose(together[number].float(), alone.float(), atol=1e-6) and spec.is_in(alone[0])
        assert torch.allclose(controller.compute(features[number, 0])[0].float(), alone[0].float(), atol=1e-6)
