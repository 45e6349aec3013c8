import json

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("google.protobuf")
record_writer = pytest.importorskip("tensorboard.summary.writer.record_writer")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.support.films import frames, png
from tests.support.recorded import Known, check, read
from wmcomponents.data import BadDataError
from wmcomponents.data.datasets import open_source
from wmcomponents.data.datasets.tfrecord import example, records


@pytest.fixture(scope="module")
def message():
    """``tf.train.Example`` as Google's own library writes it, from its published definition."""
    file = descriptor_pb2.FileDescriptorProto(name="wmc_example.proto", package="wmc", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def add(name, *fields):
        kind = file.message_type.add(name=name)
        for number, (label, type_, type_name) in enumerate(fields, 1):
            kind.field.add(name=f"f{number}", number=number, label=label, type=type_, type_name=type_name)
        return kind

    many, one = field.LABEL_REPEATED, field.LABEL_OPTIONAL
    add("BytesList", (many, field.TYPE_BYTES, None))
    add("FloatList", (many, field.TYPE_FLOAT, None))
    add("Int64List", (many, field.TYPE_INT64, None))
    lists = (".wmc.BytesList", ".wmc.FloatList", ".wmc.Int64List")
    add("Feature", *((one, field.TYPE_MESSAGE, each) for each in lists))
    features = add("Features", (many, field.TYPE_MESSAGE, ".wmc.Features.Entry"))
    entry = features.nested_type.add(name="Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=field.TYPE_MESSAGE, type_name=".wmc.Feature")
    add("Example", (one, field.TYPE_MESSAGE, ".wmc.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("wmc.Example"))


def serialised(message, **features):
    made = message()
    for name, values in features.items():
        feature = made.f1.f1[name.replace("__", "/")]
        kind = (
            feature.f1 if isinstance(values[0], bytes) else feature.f2 if isinstance(values[0], float) else feature.f3
        )
        kind.f1.extend(values)
    return made.SerializeToString()


TENSOR = {
    "pythonClassName": "Tensor",
    "tensor": {"shape": {"dimensions": ["2"]}, "dtype": "float32", "encoding": "none"},
}
SCALAR = {"pythonClassName": "Scalar", "tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}}
IMAGE = {"pythonClassName": "Image", "image": {"shape": {"dimensions": ["16", "16", "3"]}, "dtype": "uint8"}}


def features_json(**observations):
    steps = {
        "observation": {"featuresDict": {"features": observations}},
        "action": {"featuresDict": {"features": {"move": TENSOR, "grip": SCALAR}}},
        "language_instruction": {"pythonClassName": "Text", "text": {}},
        "is_first": SCALAR, "is_last": SCALAR, "is_terminal": SCALAR,
        "reward": {"tensor": {"shape": {}, "dtype": "float32"}},
    }  # fmt: skip
    step = {"sequence": {"feature": {"featuresDict": {"features": steps}}, "length": "-1"}}
    return json.dumps(
        {"featuresDict": {"features": {"steps": step, "episode_metadata": {"featuresDict": {"features": {}}}}}}
    )


def write(folder, message, known):
    (folder / "features.json").write_text(features_json(state=TENSOR, image=IMAGE, note={"text": {}}))
    with (folder / "set-train.tfrecord-00000-of-00001").open("wb") as file:
        writer = record_writer.RecordWriter(file)
        for each in known:
            count = len(each.actions) + 1
            last = [int(n == count - 1) for n in range(count)]
            acts = np.concatenate([each.actions, np.full((1, 3), 9)])  # of the last step, it means nothing
            writer.write(
                serialised(
                    message,
                    steps__observation__state=[float(v) for v in each.observations["state"].reshape(-1)],
                    steps__observation__image=[png(image) for image in each.observations["image"]],
                    steps__observation__note=[b"go"] * count,
                    steps__action__move=[float(value) for value in acts[:, :2].reshape(-1)],
                    steps__action__grip=[int(value > 0) for value in acts[:, 2]],
                    steps__reward=[float(value) for value in (*each.rewards, 9)],
                    steps__is_first=[int(n == 0) for n in range(count)],
                    steps__is_last=last,
                    steps__is_terminal=[value * each.terminated for value in last],
                )
            )
    return folder


def episode(count, died, seed):
    rng = np.random.default_rng(seed)
    acts = np.concatenate([rng.uniform(-1, 1, (count, 2)), rng.integers(0, 2, (count, 1))], 1).astype(np.float32)
    seen = {"state": rng.normal(size=(count + 1, 2)).astype(np.float32), "image": frames(count + 1, seed=seed)}
    return Known(seen, acts, rng.normal(size=count).astype(np.float32), died)


def test_episodes_of_a_tfds_folder_come_back_exactly(tmp_path, message):
    known = [episode(4, True, 0), episode(1, False, 1), episode(6, False, 2)]
    folder = write(tmp_path, message, known)
    check(open_source("rlds", folder, actions="action/move,action/grip"), known)
    steps = read(open_source("rlds", folder, observations="image", actions="action/grip"))
    assert steps["pixels"].shape == (11, 16, 16, 3) and steps["action"].shape == (11, 1)


def test_numbers_of_any_size_and_sign_are_read_as_googles_library_writes_them(message):
    numbers = [0, 1, 127, 128, 300, 2**40, -1, -(2**62), 2**63 - 1]
    found = example(serialised(message, ints=numbers, floats=[0.5, -1e30], texts=[b"", b"a\x00b"]))
    assert found["ints"].tolist() == numbers and found["floats"].tolist() == [0.5, np.float32(-1e30)]
    assert found["texts"] == [b"", b"a\x00b"]


def test_what_is_damaged_or_of_another_format_is_named(tmp_path, message):
    folder = write(tmp_path, message, [episode(3, True, 0)])
    file = next(folder.glob("*.tfrecord*"))
    data = file.read_bytes()
    for said, bad in {"cut off": data[:-9], "the length is not": b"\xff" + data[1:], "cut off in": data[:40]}.items():
        file.write_bytes(bad)
        with pytest.raises(BadDataError, match=said):
            open_source("rlds", folder)
    with pytest.raises(BadDataError, match="split=NAME.*convert_format"):
        open_source("rlds", folder, split="test")
    with pytest.raises(BadDataError, match="has no numbers or images in"):
        open_source("rlds", folder, observations="depth")
    file.write_bytes(data)
    assert len(list(records(file))) == 1
    (folder / "features.json").write_text("[]")
    with pytest.raises(BadDataError, match="describes no data set of TFDS"):
        open_source("rlds", folder)
