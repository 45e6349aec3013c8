"""DINO-WM's folders, made by hand: frames as tensors and as films, PushT's extra files, what is missing or damaged."""

import pickle

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from tests.support.films import film, frames
from tests.support.recorded import Known, check, cut_short, read
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source

LENGTHS = (5, 3)


def folder_of(place, *, push=False, films=False, lengths="pth"):
    """Two episodes, padded to the longer one; gives back what they hold."""
    rng = np.random.default_rng(0)
    states, actions, moving = (rng.uniform(-0.9, 0.9, (2, 5, size)).astype(np.float32) for size in (5, 2, 2))
    (place / "obses").mkdir(parents=True)
    torch.save(torch.from_numpy(states), place / "states.pth")
    torch.save(torch.from_numpy(actions * (100 if push else 1)), place / f"{'rel_' * push}actions.pth")
    if push:
        torch.save(torch.from_numpy(moving), place / "velocities.pth")
        actions = actions * 100 / 100  # as they come back, to the bit
    if lengths == "pth":
        torch.save(torch.tensor(LENGTHS), place / "seq_lengths.pth")
    elif lengths == "pkl":
        (place / "seq_lengths.pkl").write_bytes(pickle.dumps(list(LENGTHS)))
    known = []
    for number, length in enumerate(LENGTHS if lengths else (5, 5)):
        images = frames(length, seed=number)
        if films:
            film(place / "obses" / f"episode_{number:03d}.mp4", images)
        else:
            torch.save(torch.from_numpy(images), place / "obses" / f"episode_{number:03d}.pth")
        felt = np.concatenate([states[number, :, :2], moving[number]], -1) if push else states[number]
        seen = {"pixels": images, "proprioception": felt[:length]}
        known.append(
            cut_short(Known(seen_with_one_more(seen), actions[number, :length], np.zeros(length, "f4"), False))
        )
    return known


def seen_with_one_more(seen):
    """What ``cut_short`` takes away again: what followed the last action was never recorded."""
    return {key: np.concatenate([value, value[-1:]]) for key, value in seen.items()}


@pytest.mark.parametrize("lengths", ["pth", "pkl", None])
def test_the_action_of_a_frame_led_to_the_next_one(tmp_path, lengths):
    known = folder_of(tmp_path, lengths=lengths)
    recording = open_source("dino_wm", tmp_path)
    check(recording, known)
    assert recording.name == f"dino_wm/{tmp_path.name}" and recording.episodes == 2


def test_of_push_t_the_pusher_feels_its_place_and_velocity_and_its_moves_are_hundredths(tmp_path):
    known = folder_of(tmp_path, push=True, films=True, lengths="pkl")
    recording = open_source("dino_wm", tmp_path)
    check(recording, known)
    assert recording.action_spec.space.low.tolist() == [-1, -1] and "divided by 100" in recording.notes[0]
    whole = read(open_source("dino_wm", tmp_path, state=True, image_size=8, action_scale=1.0))
    assert whole["state"].shape[1:] == (7,) and whole["pixels"].shape[1:] == (8, 8, 3)
    assert torch.equal(whole["state"][:, [0, 1, 5, 6]], whole["proprioception"])
    assert whole["action"].abs().max() > 1


def test_one_of_several_files_of_actions_is_chosen_by_name(tmp_path):
    folder_of(tmp_path, push=True)
    torch.save(torch.full((2, 5, 2), 50.0), tmp_path / "abs_actions.pth")
    steps = read(open_source("dino_wm", tmp_path, actions="abs_actions"))
    assert (steps["action"] == 0.5).all()
    with pytest.raises(BadDataError, match="no mine.pth, but .*abs_actions"):
        open_source("dino_wm", tmp_path, actions="mine")


def damage(place, what):
    if what == "split":
        folder_of(place / "train")
        return
    folder_of(place, push=what == "velocities")
    if what == "longer":
        torch.save(torch.tensor([5, 6]), place / "seq_lengths.pth")
    elif what == "code":
        (place / "seq_lengths.pth").unlink()
        (place / "seq_lengths.pkl").write_bytes(pickle.dumps([np.int64(5), np.int64(3)]))
    elif what == "fewer frames":
        torch.save(torch.from_numpy(frames(2)), place / "obses" / "episode_001.pth")
    elif what == "no frames":
        (place / "obses" / "episode_001.pth").unlink()
    elif what == "floats":
        torch.save(torch.zeros(3, 16, 16, 3), place / "obses" / "episode_001.pth")
    elif what == "cut":
        data = (place / "states.pth").read_bytes()
        (place / "states.pth").write_bytes(data[: len(data) // 2])
    elif what == "expanded":
        torch.save(torch.zeros(1).expand(2, 5, 5), place / "states.pth")
    elif what == "axes":
        torch.save(torch.zeros(2, 5), place / "actions.pth")
    elif what == "velocities":
        torch.save(torch.zeros(2, 4, 2), place / "velocities.pth")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("split", "holds no states.pth.*Name one of its splits, .*train"),
        ("longer", "expected 2 lengths between 1 and 5"),
        ("code", "may run code: save the lengths as a list"),
        ("fewer frames", "episode 1 has 2 frames, and seq_lengths says 3"),
        ("no frames", "no episode_001.mp4 and no episode_001.pth"),
        ("floats", "expected frames of bytes"),
        ("cut", "states.pth holds no tensor that can be read"),
        ("expanded", "damaged or cut off"),
        ("axes", "expected a tensor of numbers with 3 axes"),
        ("velocities", "expected as many episodes and steps in both"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(tmp_path, what, said):
    damage(tmp_path, what)
    with pytest.raises(BadDataError, match=f"(?s){said}"):
        read(open_source("dino_wm", tmp_path))


def test_a_scale_is_positive(tmp_path):
    folder_of(tmp_path)
    with pytest.raises(BadDataError, match="action_scale is positive"):
        open_source("dino_wm", tmp_path, action_scale=0)
