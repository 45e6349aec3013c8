"""The benchmark of planning in a Navigation World Model: its rivals and its distance; nothing is fitted here."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from benchmarks import video_nwm
from wmcomponents.data.two_rooms import LONGEST_STEP, Rooms, picture

GOAL = np.array([[50.0, 40.0], [12.0, 20.0]])


def shown(at):
    rooms = Rooms(np.asarray(at, dtype=float), GOAL, np.full(2, 31.5), np.full(2, 30.0))
    return torch.from_numpy(picture(rooms))


def test_the_straight_line_leads_from_dot_to_dot():
    here = np.array([[20.0, 40.0], [12.0, 50.0]])
    acted = video_nwm.straight(TensorDict({"pixels": shown(here), "desired_goal": shown(GOAL)}, [2]))
    expected = torch.tensor([[LONGEST_STEP, 0.0], [0.0, -LONGEST_STEP]])
    torch.testing.assert_close(acted["action"], expected, atol=1e-4, rtol=0)


def test_frames_are_the_more_alike_the_nearer_their_dots(monkeypatch):
    monkeypatch.setattr(video_nwm, "BLUR", 15)
    places = [GOAL - shift for shift in (0.0, 3.0, 8.0)]
    goal, *flat = (shown(at).flatten(1).float() for at in (GOAL, *places))
    apart = torch.stack([video_nwm.blurred_difference(at, goal) for at in flat])
    assert apart.shape == (3, 2, 1) and bool((apart.diff(dim=0) > 0).all()) and bool((apart[0] == 0).all())


def test_the_page_tells_what_was_reached():
    one = {"name": "lines", "seed": 0, "rate": 0.5, "interval": [0.3, 0.7], "mean_length_reached": None}
    facts = {"runs": [{**one, "playing_cpu_seconds": 3.0}], "command": "it", "torch": "2"}
    assert "| NWM, straight lines (the paper's planner) | 0 | 50% | 30% to 70% |  | 3 |" in video_nwm.page(facts)


@pytest.mark.parametrize(
    "planned, straight, says",
    [
        ((0.9, [0.8, 0.95]), (0.4, [0.3, 0.5]), "the intervals do not overlap"),
        ((0.5, [0.4, 0.6]), (0.4, [0.3, 0.5]), "but the intervals overlap"),
        ((0.2, [0.1, 0.3]), (0.4, [0.3, 0.5]), "no more than going straight"),
        ((0.1, [0.0, 0.2]), (0.4, [0.3, 0.5]), "does not navigate"),
    ],
)
def test_the_page_says_no_more_than_the_numbers(planned, straight, says):
    found = {"sequences": planned, "straight": straight, "random": (0.1, [0.0, 0.2])}
    runs = {name: {"name": name, "rate": rate, "interval": interval} for name, (rate, interval) in found.items()}
    assert says in video_nwm.verdict(runs)
    assert video_nwm.verdict({"random": runs["random"]}) == "No plan was played."
