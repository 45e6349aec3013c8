import numpy as np
import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.worlds import Counter, PointMass, counting_sequences, point_mass_sequences
from wmcomponents.evaluation import compare, longest, open_loop
from wmcomponents.testing.toy import ToyWorldModel


def test_an_exact_model_dreams_reality():
    sequences = point_mass_sequences()
    for step in open_loop(PointMass(), sequences, burn_in=3, horizon=18):
        torch.testing.assert_close(step.observation["observation"], step.transition["next", "observation"])
        torch.testing.assert_close(step.reward, step.transition["next", "reward"])


def test_step_k_imitates_the_kth_transition_after_the_prefix():
    sequences = counting_sequences()
    steps = list(open_loop(Counter(), sequences, burn_in=3, horizon=4))
    assert [step.k for step in steps] == [1, 2, 3, 4]
    assert [float(step.transition["observation"][0]) for step in steps] == [2, 3, 4, 5]
    assert [float(step.observation["observation"][0]) for step in steps] == [3, 4, 5, 6]


def test_the_prefix_may_be_a_single_observation_and_the_horizon_use_the_last_transition():
    steps = list(open_loop(Counter(), counting_sequences(), burn_in=1, horizon=8))
    assert float(steps[-1].transition["next", "observation"][0]) == 8


def test_a_row_is_alive_in_the_step_that_ends_it_and_not_after():
    sequences = counting_sequences(end_of_first=3)
    alive = [step.alive.tolist() for step in open_loop(Counter(), sequences, burn_in=2, horizon=5)]
    assert [row[0] for row in alive] == [True, True, True, False, False]
    assert all(row[1] for row in alive)


def test_an_unmarked_restart_ends_a_row_too():
    sequences = counting_sequences()
    sequences["is_init"][0, 4] = True
    alive = [bool(step.alive[0]) for step in open_loop(Counter(), sequences, burn_in=2, horizon=5)]
    assert alive == [True, True, True, False, False]


def test_samples_of_a_sequence_lie_side_by_side_and_differ():
    generator = torch.Generator().manual_seed(0)
    step = next(open_loop(Counter(), counting_sequences(), burn_in=2, horizon=1, samples=3, generator=generator))
    shown = step.observation["observation"].reshape(2, 3)
    assert step.alive.shape == (2,)
    assert shown[0].unique().numel() == 3


def test_the_same_generator_state_gives_the_same_dream():
    sequences = counting_sequences()

    def dreamt(seed):
        generator = torch.Generator().manual_seed(seed)
        return [
            step.observation["observation"]
            for step in open_loop(Counter(), sequences, burn_in=2, horizon=3, generator=generator)
        ]

    assert torch.equal(torch.stack(dreamt(1)), torch.stack(dreamt(1)))
    assert not torch.equal(torch.stack(dreamt(1)), torch.stack(dreamt(2)))


def test_a_model_in_training_is_put_back_in_training():
    model = Counter().train()
    list(open_loop(model, counting_sequences(), burn_in=2, horizon=2))
    assert model.training


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"burn_in": 0, "horizon": 2}, "burn_in is at least 1"),
        ({"burn_in": 2, "horizon": 0}, "horizon is at least 1"),
        ({"burn_in": 2, "horizon": 2, "samples": 0}, "samples is at least 1"),
        ({"burn_in": 4, "horizon": 6}, "need sequences of 9 steps; these have 8"),
    ],
)
def test_counts_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        list(open_loop(Counter(), counting_sequences(), **options))


def test_sequences_without_batch_or_keys_are_refused():
    sequences = counting_sequences()
    with pytest.raises(ValueError, match=r"batch size \[B, T\]"):
        list(open_loop(Counter(), sequences[0], burn_in=2, horizon=2))
    with pytest.raises(KeyError, match="is_init"):
        list(open_loop(Counter(), sequences.exclude("is_init"), burn_in=2, horizon=2))


def test_a_comparison_holds_the_prefix_the_start_and_the_steps():
    sequence = counting_sequences()[0]
    comparison = compare(Counter(), sequence, burn_in=3, horizon=4, samples=2)
    assert comparison.steps == 4
    assert comparison.real["observation"][:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert comparison.dream["observation"][1, :, 0].tolist() == [2, 3, 4, 5, 6]
    assert comparison.real_reward.tolist() == [3, 4, 5, 6]
    assert comparison.dream_reward.shape == comparison.dream_cont.shape == (2, 4)
    assert not comparison.terminated


def test_a_comparison_stops_where_the_episode_ends():
    comparison = compare(Counter(), counting_sequences(end_of_first=3)[0], burn_in=2, horizon=6)
    assert comparison.steps == 3
    assert comparison.terminated


def test_a_dream_ends_where_its_end_is_more_likely_than_not():
    sequence = counting_sequences()[0]
    assert compare(Counter(cont=0.4), sequence, burn_in=2, horizon=3).dream_end() == 1
    assert compare(Counter(cont=0.6), sequence, burn_in=2, horizon=3).dream_end() is None


def test_a_model_without_decoder_reward_and_continuation_gives_empty_halves():
    model = ToyWorldModel(Composite(observation=Unbounded(1)), OneHot(2), parts=("features",))
    comparison = compare(model, counting_sequences()[0], burn_in=2, horizon=3)
    assert comparison.dream == {} and comparison.dream_reward is None and comparison.dream_cont is None
    assert comparison.dream_end() is None


def test_a_comparison_takes_one_sequence():
    with pytest.raises(ValueError, match="one sequence"):
        compare(Counter(), counting_sequences(), burn_in=2, horizon=3)


def test_the_longest_row_is_the_one_that_is_not_broken():
    sequences = counting_sequences(lengths=(8, 8, 8), end_of_first=4)
    sequences["is_init"][1, 2] = True
    assert longest(sequences, burn_in=2, horizon=6) == 2


def test_images_keep_their_dtype():
    spec = Composite(pixels=Bounded(0, 255, torch.Size([16, 16, 3]), dtype=torch.uint8))
    from tests.support.worlds import transitions

    pixels = torch.randint(0, 256, (1, 6, 16, 16, 3), dtype=torch.uint8)
    action = torch.nn.functional.one_hot(torch.zeros(1, 6).long(), 2)
    sequences = transitions({"pixels": pixels}, {"pixels": pixels}, action, torch.zeros(1, 6, 1))
    comparison = compare(ToyWorldModel(spec, OneHot(2)), sequences[0], burn_in=2, horizon=3)
    assert comparison.real["pixels"].dtype == comparison.dream["pixels"].dtype == np.uint8
