"""Checkpoints of other repositories: weights come over strictly, and nothing in a file is ever run."""

import collections
import dataclasses
import io
import os
import pickle
import random
import resource
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchrl.data import Bounded, Composite, OneHot, Unbounded

import wmcomponents
from tests.support.golden_vectors import load
from wmcomponents.models import OFFICIAL, MuZeroConfig
from wmcomponents.models.official import load_official, read_checkpoint
from wmcomponents.pretrained import BadModelError, PretrainedModel, Rule, load_mapped, map_keys, section
from wmcomponents.world_model import Prediction


@dataclasses.dataclass(frozen=True)
class ShiftConfig:
    width: int = 3


class Shift(PretrainedModel):
    """A model whose official repository calls its layer ``net`` and keeps a copy that nobody needs."""

    config_class = ShiftConfig

    def __init__(self, config, observation_spec, action_spec):
        super().__init__(
            observation_spec=observation_spec, action_spec=action_spec, state_spec=Composite(x=Unbounded(config.width))
        )
        self.config = config
        self.layer = nn.Linear(config.width, config.width)
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def from_official(cls, weights, *, action_spec=None):
        weights = section(weights, "model", optional=True)
        spec = Composite(observation=Unbounded(len(weights["net.bias"])))
        model = cls(ShiftConfig(len(weights["net.bias"])), spec, action_spec or Bounded(-1, 1, 2))
        rules = [Rule(r"net\.(\w+)", r"layer.\1"), Rule(r"(copy|_meta)\..*", None)]
        return load_mapped(model, weights, rules, keeps=["scale"])

    def observe(self, state, action, observation, is_init, noise):
        return {"x": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        return Prediction({"x": self.layer(state["x"])}, None, None)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(OFFICIAL, "shift", Shift)


def weights(width=3):
    return {"net.weight": torch.randn(width, width), "net.bias": torch.randn(width), "copy.0": torch.zeros(1)}


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


def same(model, official):
    return torch.equal(model.layer.weight, official["net.weight"]) and torch.equal(
        model.layer.bias, official["net.bias"]
    )


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".p", ".tar", ".checkpoint", ".ckpt", ".pth.tar"])
def test_a_file_of_torch_is_read(tmp_path, suffix):
    official = weights()
    model = load_official("shift", saved(tmp_path / f"a{suffix}", {"model": official}))
    assert same(model, official)
    assert not model.training


def test_a_file_of_old_torch_is_read(tmp_path):
    official = weights()
    assert same(
        load_official("shift", saved(tmp_path / "a.tar", official, _use_new_zipfile_serialization=False)), official
    )


def test_a_safetensors_file_is_read(tmp_path):
    official = weights()
    save_file(official, tmp_path / "a.safetensors")
    assert same(load_official("shift", tmp_path / "a.safetensors"), official)


def test_the_name_at_the_top_level_is_the_same_function():
    assert wmcomponents.load_official is load_official


def test_a_folder_is_a_mapping_from_names_to_what_is_asked_for(tmp_path):
    for part in ("vae", "mdrnn"):
        (tmp_path / part).mkdir()
        saved(tmp_path / part / "best.tar", {"part": part})
    (tmp_path / "vae" / "checkpoint.tar").write_bytes(b"cut short while it was written")
    (tmp_path / "log.txt").write_text("no checkpoint")
    found = read_checkpoint(tmp_path)
    assert list(found) == ["mdrnn/best.tar", "vae/best.tar", "vae/checkpoint.tar"]
    assert len(found) == 3
    assert found["vae/best.tar"] == {"part": "vae"}
    assert "ctrl/best.tar" not in found
    with pytest.raises(BadModelError, match=r"holds no ctrl/best.tar; it holds mdrnn/best.tar"):
        found["ctrl/best.tar"]
    with pytest.raises(BadModelError, match=r"checkpoint.tar .*truncated"):
        found["vae/checkpoint.tar"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadModelError, match=r"holds no checkpoint"):
        load_official("shift", tmp_path)


def test_numbers_of_numpy_come_as_plain_numbers(tmp_path):
    content = {
        "f8": np.float64(2.5),
        "f4": np.float32(-0.5),
        "i8": np.int64(-(2**40)),
        "i4": np.int32(7),
        "b": np.bool_(True),
        "size": torch.Size([2]),
    }
    for zipped in (True, False):
        found = read_checkpoint(saved(tmp_path / "a.pt", content, _use_new_zipfile_serialization=zipped))
        assert found == content
        assert [type(value) for value in found.values()] == [float, float, int, int, bool, torch.Size]


# -- what is refused ------------------------------------------------------------------------------------------------


def refused(path, match):
    with pytest.raises(BadModelError, match=match) as caught:
        load_official("shift", path)
    assert str(path) in str(caught.value)


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path, how=exec):
        self.path, self.how = str(path), how

    def __reduce__(self):
        return (self.how, (f"open({self.path!r}, 'w').close()",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, zipped):
    mark = tmp_path / "ran"
    content = {"model": {**weights(), "copy.1": Bomb(mark)}}
    refused(
        saved(tmp_path / "a.pt", content, _use_new_zipfile_serialization=zipped), r"exec would have to be unpickled"
    )
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, protocol):
    mark = tmp_path / "ran"
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Bomb(mark), protocol=protocol))
    refused(tmp_path / "a.pth", r"save the weights alone")
    assert not mark.exists()


@pytest.mark.parametrize("called", ["os.system", "eval", "getattr"])
def test_functions_of_other_modules_are_refused_too(tmp_path, called):
    mark = tmp_path / "ran"
    bomb = Bomb(mark, {"os.system": os.system, "eval": eval, "getattr": getattr}[called])
    refused(saved(tmp_path / "a.pt", {"x": bomb}), r"refused|save the weights alone")
    assert not mark.exists()


def test_the_stand_in_for_numbers_of_numpy_makes_nothing_else(tmp_path):
    class Odd:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            return (np.float64(0).__reduce__()[0], self.arguments)

    for arguments in [
        (np.dtype("O"), b"12345678"),
        (np.dtype("f8"), b"1"),
        (np.dtype("V8"), b"12345678"),
        ("f8", b"12345678"),
    ]:
        refused(saved(tmp_path / "a.pt", {"x": Odd(*arguments)}), r"no checkpoint of torch")


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"model": collections.deque([1])}, "collections.deque"),
        ({"model": np.ones(3)}, "_reconstruct"),
        ({"model": Path("a")}, "pathlib"),
    ],
)
def test_objects_are_refused_by_name_with_what_to_do(tmp_path, content, needed):
    refused(saved(tmp_path / "a.pt", content), rf"{needed}.*save the weights alone")


def test_a_scripted_module_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", r"not as torch.save writes it")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path, zipped):
    data = saved(tmp_path / "a.pt", {"model": weights()}, _use_new_zipfile_serialization=zipped).read_bytes()
    for cut in sorted({0, 1, 3, 4, len(data) - 1, *range(0, len(data), max(len(data) // 60, 1))}):
        (tmp_path / "a.pt").write_bytes(data[:cut])
        refused(tmp_path / "a.pt", r"truncated")


def test_a_truncated_safetensors_file_is_refused(tmp_path):
    save_file(weights(), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    for cut in range(0, len(data), 7):
        (tmp_path / "a.safetensors").write_bytes(data[:cut])
        refused(tmp_path / "a.safetensors", r"truncated")


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    official = weights(8)
    path = saved(tmp_path / "a.pt", {"model": official})
    data, draw = path.read_bytes(), random.Random(0)
    payload = data.index(official["net.weight"].numpy().tobytes())
    places = [8 * (payload + 5) + 3, *(draw.randrange(8 * len(data)) for _ in range(300))]
    silent = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert same(load_official("shift", path), official), place
            silent += 1
        except BadModelError:
            pass
    assert silent < len(places)
    flipped = bytearray(data)
    flipped[payload] ^= 1
    path.write_bytes(flipped)
    refused(path, r"does not match its checksum")


def test_what_is_no_checkpoint_is_refused(tmp_path):
    for name, data in [("a.pt", b"hello"), ("a.pth", b"PK\x03\x04hello"), ("a.tar", bytes(2000)), ("a.ckpt", b"")]:
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, r"truncated or damaged")
    (tmp_path / "a.safetensors").write_bytes(b"hello")
    refused(tmp_path / "a.safetensors", r"not a safetensors file")
    (tmp_path / "a.txt").write_bytes(b"hello")
    refused(tmp_path / "a.txt", r"those known end in .pt")
    refused(tmp_path / "absent.pt", r"does not exist")
    refused(saved(tmp_path / "a.pt", [torch.ones(2)]), r"holds a list, not a mapping")


def test_a_compressed_archive_is_refused(tmp_path):
    plain = io.BytesIO()
    torch.save(weights(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    refused(tmp_path / "a.pt", r"is compressed")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_weights_that_are_not_finite_are_named_and_change_nothing(tmp_path, number):
    odd = {key: value.double() for key, value in weights().items()}
    odd["net.bias"][1] = number
    refused(saved(tmp_path / "a.pt", odd), r"NaN or infinity: net.bias \(1 of 3 numbers\)")
    layer = nn.Linear(3, 3)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    with pytest.raises(BadModelError, match=r"net.bias \(1 of 3"):
        load_mapped(layer, odd, [Rule(r"net\.(\w+)", r"\1"), Rule("copy.*", None)])
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_numbers_that_are_not_needed_may_be_anything(tmp_path):
    official = {**weights(), "copy.0": torch.full((1,), torch.nan)}
    assert same(load_official("shift", saved(tmp_path / "a.pt", official)), official)


def test_the_path_may_be_a_link_and_what_lies_in_a_folder_may_not(tmp_path):
    official = weights()
    saved(tmp_path / "9f86d081", official)  # as a cache of downloads names files
    (tmp_path / "a.pt").symlink_to(tmp_path / "9f86d081")
    assert same(load_official("shift", tmp_path / "a.pt"), official)
    (tmp_path / "run").mkdir()
    saved(tmp_path / "run/best.tar", official)
    (tmp_path / "run/last.tar").symlink_to(tmp_path / "9f86d081")
    (tmp_path / "run/back").symlink_to(tmp_path, target_is_directory=True)
    found = read_checkpoint(tmp_path / "run")
    assert list(found) == ["best.tar"]
    (tmp_path / "run/best.tar").unlink()
    (tmp_path / "run/best.tar").symlink_to(tmp_path / "9f86d081")
    with pytest.raises(BadModelError, match="best.tar is a link, which is not followed"):
        found["best.tar"]


def test_pipes_devices_and_names_that_are_none_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "is no file and no folder")
    (tmp_path / "b.pt").symlink_to("/dev/zero")
    refused(tmp_path / "b.pt", "is no file and no folder")
    (tmp_path / "c.pt").symlink_to("c.pt")
    refused(tmp_path / "c.pt", "does not exist|cannot be read")
    refused("a\0b.pt", "does not exist|cannot be read")


def test_a_sparse_file_is_refused_without_its_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("a.pt", "b.tar", "c.safetensors"):
        saved(tmp_path / name, weights())
        os.truncate(tmp_path / name, 2**40)
        refused(tmp_path / name, r"truncated|more than is free on this machine")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_parts_that_lie_in_one_another_are_refused(tmp_path):
    path = saved(tmp_path / "a.pt", weights(32))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if "/data/" in part.filename]
    entry = data.rindex(parts[1].filename.encode()) - 46  # its line of the directory: sizes of another part
    data[entry + 20 : entry + 28] = parts[0].file_size.to_bytes(4, "little") * 2
    path.write_bytes(data)
    refused(path, "overlap|truncated or damaged")


def test_a_mistyped_repository_is_asked_about(tmp_path):
    with pytest.raises(BadModelError, match=r"got 'td-mpc2'. Did you mean 'tdmpc2'\?"):
        load_official("td-mpc2", tmp_path)


def test_an_unknown_family_is_refused_by_name(tmp_path):
    with pytest.raises(BadModelError, match=r"known here are .*shift.*; got 'unheard-of'"):
        load_official("unheard-of", tmp_path)


def test_an_unknown_detail_is_a_mistake_of_the_call(tmp_path):
    path = saved(tmp_path / "a.pt", weights())
    with pytest.raises(TypeError, match=r"checkpoints of shift are read with .*action_spec.*'colour'"):
        load_official("shift", path, colour="red")


def test_details_reach_the_family(tmp_path):
    model = load_official("shift", saved(tmp_path / "a.pt", weights()), action_spec=Bounded(-1, 1, 5))
    assert model.action_spec.shape == (5,)


def test_loading_leaves_the_random_state_alone(tmp_path):
    path = saved(tmp_path / "a.pt", weights())
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_official("shift", path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: {**w, "net.gain": torch.ones(3)}, r"no place for net.gain \(our layer.gain\)"),
        (lambda w: {**w, "other.weight": torch.ones(3)}, r"has other.weight, which this family does not know"),
        (
            lambda w: {k: v for k, v in w.items() if k != "net.weight"},
            r"nothing in the checkpoint lands at layer.weight",
        ),
        (lambda w: {**w, "net.weight": torch.ones(3, 4)}, r"net.weight .* \[3, 4\]; layer.weight .* \[3, 3\]"),
        (lambda w: {**w, "net.weight": torch.ones(3, 3, dtype=torch.int64)}, r"torch.int64 \[3, 3\]"),
        (lambda w: {**w, "net.weight": "text"}, r"net.weight .* a str, not a tensor"),
        (lambda w: {**w, "net.weight": torch.ones(3, 3, device="meta")}, r"not a plain tensor"),
        (lambda w: {**w, "net.weight": torch.ones(3, 3).to_sparse()}, r"not a plain tensor"),
        (lambda w: {k: v for k, v in w.items() if k != "net.bias"}, r"KeyError: 'net.bias'"),
        (lambda w: {**w, "net.bias": torch.ones(1).expand(10**6)}, r"far more memory"),
    ],
)
def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path, change, match):
    refused(saved(tmp_path / "a.pt", {"model": change(weights())}), match)


# -- the strict map --------------------------------------------------------------------------------------------------


def test_half_precision_is_taken_in_the_precision_of_the_model(tmp_path):
    official = {key: value.half() for key, value in weights().items()}
    model = load_official("shift", saved(tmp_path / "a.pt", official))
    assert model.layer.weight.dtype == torch.float32
    assert torch.equal(model.layer.weight, official["net.weight"].float())


def test_the_first_rule_that_matches_a_whole_key_decides():
    tensors = {"a.1.w": torch.ones(1), "a.2.w": torch.ones(2), "aa.1.w": torch.ones(3)}
    rules = [(r"a\.1\.w", "first"), (r"a\.(\d)\.w", lambda match: f"rest.{int(match[1]) * 2}"), (r".*", None)]
    assert {key: len(value) for key, value in map_keys(tensors, rules).items()} == {"first": 1, "rest.4": 2}


def test_a_rule_may_change_the_tensor():
    mapped = map_keys({"w": torch.arange(6.0).reshape(2, 3)}, [("w", "w", torch.t)])
    assert mapped["w"].shape == (3, 2)


def test_a_change_that_fails_names_the_key():
    with pytest.raises(BadModelError, match=r"w of the checkpoint has an unfitting shape \[6\]"):
        map_keys({"w": torch.ones(6)}, [("w", "w", lambda w: w.reshape(4, 4))])


def test_two_keys_cannot_land_in_one_place():
    with pytest.raises(BadModelError, match=r"a.w and b.w of the checkpoint both land at w"):
        map_keys({"a.w": torch.ones(1), "b.w": torch.ones(1)}, [(r"\w\.w", "w")])


def test_a_model_that_cannot_be_filled_is_left_as_it_was():
    layer = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    with pytest.raises(BadModelError, match=r"bias"):
        load_mapped(layer, {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, [(r"(.*)", r"\1")])
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_a_long_list_of_keys_is_cut_short():
    with pytest.raises(BadModelError, match=r"k0, k1, k2, k3, k4, k5 and 4 more, which"):
        map_keys({f"k{number}": torch.ones(1) for number in range(10)}, [])


def test_a_section_that_is_missing_is_named():
    with pytest.raises(BadModelError, match=r"no entry 'model'; it has epoch"):
        section({"epoch": 3}, "model")
    with pytest.raises(BadModelError, match=r"entry 'model' of the checkpoint is a int"):
        section({"model": 3}, "model")
    assert section({"a": {"b": {"c": 1}}}, "a", "b") == {"c": 1}
    assert section({"c": 1}, "a", optional=True) == {"c": 1}


# -- the families ------------------------------------------------------------------------------------------------------


def under(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def tdmpc2():
    return {"": {"model": under(load("tdmpc2_world_model_single")[1], "state_dict.")}}, {}


def world_models():
    parts = {f"{part}/best.tar": load(name)[1] for part, name in (("vae", "wm_vae"), ("mdrnn", "wm_mdnrnn"))}
    rest = {"epoch": 3, "precision": np.float64(0.5), "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}
    return {name: {**rest, "state_dict": under(part, "w/")} for name, part in parts.items()}, {}


def muzero_general():
    meta, tensors = load("muzero_general_fc")
    c = meta["config"]
    config = MuZeroConfig().vary(
        units=c["encoding_size"],
        representation=tuple(c["fc_representation_layers"]),
        dynamics=tuple(c["fc_dynamics_layers"]),
        heads=tuple(c["fc_value_layers"]),
        support=c["support_size"],
        past=c["stacked_observations"],
    )
    spec = Composite(observation=Unbounded(c["observation_shape"][-1]))
    details = {"config": config, "observation_spec": spec, "action_spec": OneHot(c["action_space_size"])}
    return {"": {"weights": under(tensors, "state_dict."), "mean_value": np.float64(1.5), "lr": 0.02}}, details


FAMILIES = {
    "tdmpc2": (tdmpc2, "model", "a.pt"),
    "world-models": (world_models, "state_dict", ""),
    "muzero-general": (muzero_general, "weights", "model.checkpoint"),
}


def written(folder, files, name):
    for relative, content in files.items():
        path = folder / (relative or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)
    return folder / name if name else folder


def unchanged(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_files_are_read_whole_or_not_at_all(family, tmp_path):
    build, entry, name = FAMILIES[family]
    files, details = build()
    whole = load_official(family, written(tmp_path, files, name), **details)
    again = type(whole).from_pretrained(whole.save_pretrained(tmp_path / "ours"))
    assert unchanged(whole, again)
    for file, content in files.items():
        for key in random.Random(0).sample(sorted(content[entry]), min(10, len(content[entry]))):
            value = content[entry][key]
            for other in ({}, {key: value[..., None]}, {key: value.long() + 2**40}, {key: "text"}):
                weights = {k: v for k, v in content[entry].items() if k != key}
                odd = {**files, file: {**content, entry: {**weights, **other}}}
                try:
                    found = load_official(family, written(tmp_path, odd, name), **details)
                except BadModelError:
                    continue
                assert unchanged(whole, found), (file, key, list(other))  # a copy or a constant, which is not needed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_damaged_files_give_the_same_model_or_none(family, tmp_path):
    build, _, name = FAMILIES[family]
    files, details = build()
    path, draw = written(tmp_path, files, name), random.Random(0)
    whole = load_official(family, path, **details)
    damaged = path if name else path / "mdrnn" / "best.tar"
    data, refusals = damaged.read_bytes(), 0
    for _ in range(60):
        broken = bytearray(data)
        broken[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        damaged.write_bytes(broken if draw.random() < 0.7 else data[: draw.randrange(len(data))])
        try:
            assert unchanged(whole, load_official(family, path, **details))
        except BadModelError:
            refusals += 1
    assert refusals > 30
