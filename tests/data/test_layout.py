import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict

from wmcomponents.data.episodes import equal_steps
from wmcomponents.data.layout import DTYPES, Layout

IMAGE = (2, 3, 3)


@st.composite
def some_steps(draw):
    rows, streams = draw(st.integers(1, 9)), draw(st.sampled_from([None, 1, 3]))
    batch = [rows] if streams is None else [rows, streams]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))

    def values(dtype, *shape):
        return torch.randint(0, 2, (*batch, *shape), generator=generator).to(dtype)

    shapes = st.lists(st.integers(0, 3), max_size=2)
    chosen = draw(st.lists(st.tuples(st.sampled_from(sorted(DTYPES.values(), key=str)), shapes), max_size=4))
    leaves = {f"leaf {i}": values(dtype, *shape) for i, (dtype, shape) in enumerate(chosen)}
    steps = TensorDict({**leaves, "next": {"reward": values(torch.float32, 1)}}, batch)
    for name in draw(st.sets(st.sampled_from(["pixels", "depth"]))):
        dtype = torch.uint8 if name == "pixels" else torch.int16
        steps[name], shown = values(dtype, *IMAGE), values(dtype, *IMAGE)
        follows = torch.rand(batch[:1], generator=generator) < 0.6
        follows[-1] = False
        steps["next", name] = torch.where(follows.reshape(-1, *[1] * (shown.ndim - 1)), steps[name].roll(-1, 0), shown)
    return steps


@given(some_steps())
def test_what_is_unpacked_is_what_was_packed(steps):
    layout = Layout.of(steps, steps.ndim)
    assert Layout.from_json(layout.to_json(), list(layout.batch)) == layout
    pieces, loose = layout.pack(steps)
    data = bytearray(b"".join(pieces))
    assert len(data) == layout.file_bytes(len(steps), loose)
    again = layout.unpack(data, len(steps), loose)
    assert equal_steps(again, steps) and again.batch_size == steps.batch_size


def test_a_image_that_the_next_row_shows_is_written_once():
    shown = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 8, 8, 3)
    steps = TensorDict({"pixels": shown, "next": {"pixels": shown + 1, "reward": torch.ones(5, 1)}}, [5])
    layout = Layout.of(steps, 1)
    pieces, loose = layout.pack(steps)
    assert loose == 1 and sum(map(len, pieces)) == 8 + 5 * 4 + (5 + 1) * 192


@pytest.mark.parametrize(
    ("leaves", "batch"),
    [
        ([], []),
        ({}, []),
        ([[["x"], "float32", [1]]], [2, 2]),
        ([[["x"], "float32", [1]]], [0]),
        ([[["x"], "float32", [-1]]], []),
        ([[["x"], "float32", [True]]], []),
        ([[["x"], "complex64", [1]]], []),
        ([[["x"], ["float32"], [1]]], []),
        ([[[], "float32", [1]]], []),
        ([[["x", ""], "float32", [1]]], []),
        ([["x", "float32", [1]]], []),
        ([[["x"], "float32"]], []),
        ([[["x"], "float32", [1]], [["x"], "float32", [1]]], []),
        ([[["x"], "float32", [1]], [["x", "y"], "float32", [1]]], []),
        ([[["x"], "uint8", [1]], [["y"], "float32", [1]]], []),
        ([[["x"], "float32", [2**40, 2**40]]], []),
    ],
)
def test_a_layout_that_cannot_be_is_refused(leaves, batch):
    with pytest.raises(ValueError, match=r"."):
        Layout.from_json(leaves, batch)


@pytest.mark.parametrize(
    ("places", "said"), [([0, 0], "places"), ([0], "places"), ([], "places"), ([1, 2], "places"), ([-1, 1], "places")]
)
def test_places_of_images_that_cannot_be_are_refused(places, said):
    leaf = (("p",), torch.uint8, (2, 2, 3))
    layout = Layout((leaf, (("next", "p"), *leaf[1:])))
    data = bytearray(torch.tensor(places, dtype=torch.int64).numpy().tobytes() + bytes(12 * (2 + len(places))))
    with pytest.raises(ValueError, match=said):
        layout.unpack(data, 2, len(places))


def test_a_flag_is_true_or_false():
    layout = Layout(((("done",), torch.bool, (1,)),))
    assert layout.unpack(bytearray(b"\0\1"), 2, 0)["done"].flatten().tolist() == [False, True]
    with pytest.raises(ValueError, match="neither true nor false"):
        layout.unpack(bytearray(b"\0\2"), 2, 0)
