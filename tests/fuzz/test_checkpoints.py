"""Forged training checkpoints: each is refused with one class and changes nothing, or could have been written.

Some seeds run in the suite; ``python -m tests.fuzz.test_checkpoints COUNT [FIRST]`` tries as many as wanted.
"""

import collections
import hashlib
import json
import random
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.support import corridor
from wmcomponents.models import WorldModels, WorldModelsConfig
from wmcomponents.training import BadCheckpointError, Trainer, checkpoint

ODD = [
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    [1, 2, 3],
    {},
    {"a": 1},
    [[]],
    "../x",
    "\0",
]
STRANGERS = [
    "x",
    "model/",
    "optimizer/9999/step",
    "optimizer/-1/x",
    "optimizer/x",
    "optimizer/0/extra",
    "optimizer/٣/a",
    "rng/x",
]
DTYPES = [torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]


def runs(folder):
    """Trainers of three kinds, each with a checkpoint: the library's optimiser, torch's, an objective with stages."""
    example = corridor.model()
    options = {"progress": False, "lr": 1e-3, "warmup": 5}
    yield Trainer(example, corridor.replay(), out=folder / "laprop", **options)
    model = corridor.model()
    adam = torch.optim.AdamW(model.parameters(), 1e-3, amsgrad=True)
    yield Trainer(model, corridor.replay(), out=folder / "adam", progress=False, optimizer=adam)
    config = WorldModelsConfig.tiny(vision_steps=2, latent=4, hidden=8, units=8)
    staged = WorldModels(config, example.observation_spec, example.action_spec)
    yield Trainer(staged, corridor.replay(), out=folder / "stages", progress=False, lr=1e-3)


def state(trainer):
    """Everything that a checkpoint decides, as one hash."""
    digest = hashlib.sha256()
    for module in (trainer.model, trainer.objective):
        for key, value in module.state_dict().items():
            digest.update(key.encode() + value.detach().numpy().tobytes())
    kept = trainer.optimizer.state_dict()
    for index, entries in sorted(kept["state"].items()):
        for key, value in sorted(entries.items()):
            digest.update(f"{index} {key}".encode())
            digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    digest.update(repr(kept["param_groups"]).encode())
    for generator in trainer._generators().values():
        digest.update(generator.get_state().numpy().tobytes())
    digest.update(torch.get_rng_state().numpy().tobytes())
    stages = getattr(trainer.objective, "stage_steps", None)
    digest.update(repr((trainer.steps, trainer.losses, trainer._planned, stages)).encode())
    return digest.hexdigest()


# -- forging ---------------------------------------------------------------------------------------------------------


def bytes_changed(data, chance):
    """Cut, flipped, repeated, or with odd ends: the seal is broken."""
    data = bytearray(data)
    how = chance.randrange(6)
    if how == 0:
        return bytes(data[: chance.randrange(len(data))])
    if how == 1:
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif how == 2:
        place = chance.randrange(len(data))
        data[place:place] = chance.randbytes(chance.randint(1, 100))
    elif how == 3:
        data[:8] = struct.pack("<Q", chance.choice([0, 1, len(data), 2**32, 2**63, 2**64 - 1]))
    elif how == 4:
        data = bytearray(chance.randbytes(chance.randint(0, 200)))
    else:
        place = chance.randrange(len(data))
        del data[place : place + chance.randint(1, 1000)]
    return bytes(data)


def header_changed(data, chance):
    """Another header before the same numbers."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    name = chance.choice(names)
    how = chance.randrange(6)
    if how == 0:
        del header[name]
    elif how == 1:
        header[name]["shape"] = chance.choice([[-1], [2**40], [], [0], [2**62, 2**62], ["a"], None])
    elif how == 2:
        header[name]["dtype"] = chance.choice(["F64", "I8", "X", None, 3])
    elif how == 3:
        header[name]["data_offsets"] = chance.choice([[0, 0], [0, 2**50], [-4, 4], [8, 0], [0], None])
    elif how == 4:
        header["../../x" if chance.random() < 0.5 else name + "\u0000"] = header.pop(name)
    else:
        header["__metadata__"][chance.choice(list(header["__metadata__"]))] = chance.choice(ODD)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def changed_tensors(tensors, chance):
    name = chance.choice(list(tensors))
    value = tensors[name]
    how = chance.randrange(8)
    if how == 0:
        del tensors[name]
    elif how == 1:
        tensors[chance.choice([name + "x", *STRANGERS])] = value.clone()
    elif how == 2:
        tensors[name] = value.to(chance.choice(DTYPES))
    elif how == 3:
        tensors[name] = value.flatten()[: chance.randint(0, max(1, value.numel()))].clone()
    elif how == 4:
        tensors[name] = value.unsqueeze(0).clone()
    elif how == 5 and value.is_floating_point():
        tensors[name] = torch.full_like(value, chance.choice([float("nan"), float("inf"), -1.0]))
    elif how == 6:
        other = chance.choice(list(tensors))
        tensors[name] = tensors[other].clone()
    else:
        tensors[name] = value.T.contiguous() if value.ndim == 2 else torch.zeros_like(value)


def changed_json(value, chance):
    """One place of a JSON value replaced, dropped or added."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        how = chance.random()
        if how < 0.15:
            del value[key]
        elif how < 0.25:
            value[key + "x"] = chance.choice(ODD)
        else:
            value[key] = changed_json(value[key], chance)
        return value
    if isinstance(value, list) and value and chance.random() < 0.85:
        place = chance.randrange(len(value))
        value[place] = changed_json(value[place], chance)
        return value
    return chance.choice(ODD)


def sealed_again(path, chance):
    """Other content under a seal that fits."""
    tensors, metadata = checkpoint.read_tensors(path)
    for _ in range(chance.randint(1, 2)):
        how = chance.random()
        if how < 0.45:
            changed_tensors(tensors, chance)
        elif how < 0.9:
            name = chance.choice(["run", "counters", "counters", "optimizer", "optimizer"])
            found = json.loads(metadata[name])
            metadata[name] = json.dumps(changed_json(found, chance))
        elif how < 0.95:
            name = chance.choice(list(metadata))
            metadata[name] = chance.choice(["", "{", "[" * 5000, '{"a":' * 2000, "null", "1" * 5000])
            break
        else:
            del metadata[chance.choice(["run", "counters", "optimizer"])]
            break
    metadata["sha256"] = checkpoint.digest_of(tensors, metadata)
    return save({key: value.contiguous() for key, value in tensors.items()}, metadata)


def forged(path, chance):
    how = chance.random()
    if how < 0.2:
        return bytes_changed(path.read_bytes(), chance)
    if how < 0.35:
        return header_changed(path.read_bytes(), chance)
    return sealed_again(path, chance)


def attempt(trainer, good, seed):
    """What became of one forged checkpoint: "refused" or "taken"."""
    chance = random.Random(seed)
    trainer.checkpoint.write_bytes(good)
    data = forged(trainer.checkpoint, chance)
    trainer.checkpoint.write_bytes(data)
    before = state(trainer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.resume()
    except BadCheckpointError:
        assert state(trainer) == before, f"seed {seed} changed something before it was refused"
        assert trainer.checkpoint.read_bytes() == data
        return "refused"
    # One that could have been written: the trainer goes on from it.
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())
    trainer.replay.set_rng(trainer.sampling)
    trainer.model.train()
    trainer.update(trainer.replay.sample())
    trainer.checkpoint.write_bytes(good)
    trainer.resume()
    return "taken"


def campaign(folder, seeds):
    found = collections.Counter()
    trainers = list(runs(folder))
    for trainer in trainers:
        trainer.train(4)
    goods = [trainer.checkpoint.read_bytes() for trainer in trainers]
    for seed in seeds:
        place = seed % len(trainers)
        found[attempt(trainers[place], goods[place], seed)] += 1
    return found


@pytest.mark.filterwarnings("ignore:Lossy conversion")
def test_forged_checkpoints_are_refused_with_one_class_and_change_nothing(tmp_path):
    found = campaign(tmp_path, range(90))
    assert found["refused"] > 60


def test_the_forgeries_of_a_seed_are_always_the_same(tmp_path):
    one = next(runs(tmp_path))
    one.train(1)
    assert forged(one.checkpoint, random.Random(3)) == forged(one.checkpoint, random.Random(3))


if __name__ == "__main__":
    torch.set_num_threads(1)
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(campaign(Path(place), range(first, first + count))))
