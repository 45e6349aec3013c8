"""What filters remember, and how it reaches a network."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.codecs import (
    ActionVector,
    FractionPlanes,
    FrameActionHistory,
    FrameHistory,
    Frames,
    NoHistory,
    OneHotPlanes,
    SquashedGaussianPolicy,
    Standardize,
    make_action_planes,
    policy_distribution,
    with_planes,
)

IMAGE = Bounded(0, 255, (16, 20, 3), dtype=torch.uint8)
OFF, ON = torch.tensor([[False]]), torch.tensor([[True]])


def fresh(history, rows=1):
    return {key: torch.zeros(rows, *spec.shape, dtype=spec.dtype) for key, spec in history.specs().items()}


def shown(history, values, inits, space=1):
    memory, seen = fresh(history), []
    for value, is_init in zip(values, inits, strict=True):
        frame = torch.full((1, 1, 2), value)
        frames, numbers, memory = history.step(memory, torch.tensor([[0.0, 1.0]]), frame, is_init)
        seen.append(with_planes(frames, numbers, space)[0, :, 0].tolist())
    return seen


def test_the_first_frame_stands_for_those_before_it_oldest_first():
    history = FrameHistory((1, 2), 3)
    assert history.channels == 3 and history.past == 2
    assert shown(history, [1.0, 2.0, 3.0, 9.0], [ON, OFF, OFF, ON]) == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [9, 9, 9]]


def test_past_frames_come_newest_first_each_with_the_action_taken_there():
    history = FrameActionHistory((1, 2), 2, FractionPlanes(2), 2)
    assert history.channels == 5
    seen = shown(history, [1.0, 2.0, 3.0, 9.0], [ON, OFF, OFF, ON])
    assert seen == [[1, 0, 0, 0, 0], [2, 1, 0.5, 0, 0], [3, 2, 0.5, 1, 0.5], [9, 0, 0, 0, 0]]


def test_a_one_hot_action_fills_a_plane_for_each_entry():
    history = FrameActionHistory((1, 2), 1, OneHotPlanes(2), 2)
    assert history.channels == 4
    assert shown(history, [1.0, 2.0], [ON, OFF]) == [[1, 0, 0, 0], [2, 1, 0, 1]]


def test_without_a_history_nothing_is_kept():
    history = NoHistory((1, 2))
    assert not history.specs() and history.channels == 1
    assert shown(history, [1.0, 2.0], [ON, OFF]) == [[1], [2]]


def test_images_alone_are_kept_in_eight_bits():
    frames = Frames(Composite(pixels=IMAGE))
    frame = frames({"pixels": torch.full((2, 16, 20, 3), 255, dtype=torch.uint8)})
    assert frame.shape == (2, 3, 16, 20) and frame.dtype == torch.uint8 == frames.dtype
    assert frames.floats(frame).max() == 1.0


def test_numbers_beside_a_image_are_constant_planes():
    frames = Frames(Composite(camera=IMAGE, position=Unbounded(2)))
    frame = frames({"camera": torch.zeros(16, 20, 3, dtype=torch.uint8), "position": torch.tensor([7.0, 8.0])})
    assert frames.shape == frame.shape == (5, 16, 20) and frame.dtype == torch.float32
    assert (frame[3] == 7).all() and (frame[4] == 8).all()


def test_numbers_alone_are_one_row_and_may_be_standardised():
    frames = Frames(Composite(a=Unbounded(2), b=OneHot(3)), Standardize(2))
    frames.transform.fit(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
    frame = frames({"a": torch.tensor([2.0, 10.0]), "b": torch.tensor([0, 1, 0])})
    assert frames.shape == (1, 5) and frame.tolist() == [[1, -1, 0, 1, 0]]


def test_images_of_two_sizes_are_refused():
    other = Bounded(0, 255, (24, 24, 3), dtype=torch.uint8)
    with pytest.raises(ValueError, match="one size"):
        Frames(Composite(a=IMAGE, b=other))


def test_only_a_single_choice_is_a_fraction():
    assert make_action_planes(ActionVector(OneHot(4)), "fraction")(torch.eye(4)).flatten().tolist() == [
        0,
        0.25,
        0.5,
        0.75,
    ]
    with pytest.raises(ValueError, match="one_hot"):
        make_action_planes(ActionVector(Bounded(-1, 1, (2,))), "fraction")


def test_a_squashed_gaussian_is_a_density_over_actions():
    policy = policy_distribution(ActionVector(Bounded(-2, 2, (1,))))
    assert isinstance(policy, SquashedGaussianPolicy)
    grid = torch.linspace(-0.999, 0.999, 20001)[:, None]
    raw = torch.tensor([0.3, -0.5]).expand(20001, 2)
    mass = torch.trapezoid((-policy.loss(raw, grid)).exp(), grid.squeeze(-1))
    assert float(mass) == pytest.approx(1.0, abs=2e-3)


def test_random_actions_are_actions():
    generator = torch.Generator().manual_seed(0)
    choice = policy_distribution(ActionVector(OneHot(3))).random((100,), generator)
    assert (choice.sum(-1) == 1).all() and (choice.mean(0) > 0.2).all()
    number = policy_distribution(ActionVector(Bounded(-2, 2, (2,)))).random((100,), generator)
    assert number.abs().max() <= 1 and number.min() < -0.8
