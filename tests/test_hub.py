"""World models on the Hugging Face Hub, without a network."""

import json
import sys
from pathlib import Path

import pytest
import torch

huggingface_hub = pytest.importorskip("huggingface_hub")

from torchrl.data import Composite, OneHot, Unbounded

from wmcomponents.integrations import hub
from wmcomponents.integrations.hub import HubModel
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.models.loading import load, load_starts
from wmcomponents.pretrained import BadModelError

SIZES = {"deter": 16, "hidden": 8, "groups": 2, "classes": 3, "units": 8, "blocks": 2, "layers": 1, "bins": 11}


@pytest.fixture
def model():
    return DreamerV3(DreamerV3Config.tiny(**SIZES), Composite(observation=Unbounded(3)), OneHot(2))


@pytest.fixture
def starts():
    return {"deter": torch.randn(4, 16), "stoch": torch.randn(4, 2, 3)}


class FakeApi:
    """Stands for the Hub: what is uploaded lies in a folder."""

    folder: Path
    calls: list

    def __init__(self, token=None):
        pass

    def create_repo(self, repo_id, private=None, exist_ok=False):
        self.calls.append(("create_repo", repo_id, private))
        return type("Url", (), {"repo_id": repo_id})()

    def upload_folder(self, *, repo_id, folder_path, commit_message, **options):
        self.calls.append(("upload_folder", repo_id, commit_message))
        target = self.folder / repo_id
        target.mkdir(parents=True)
        for file in Path(folder_path).iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return f"https://huggingface.co/{repo_id}/commit/1"


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """The Hub as a folder: pushing writes there, fetching reads from there."""
    from huggingface_hub import hub_mixin

    FakeApi.folder, FakeApi.calls = tmp_path / "hub", []

    def snapshot(repo_id, *, allow_patterns, **options):
        FakeApi.calls.append(("snapshot_download", repo_id, tuple(allow_patterns)))
        return str(FakeApi.folder / repo_id)

    monkeypatch.setattr(hub_mixin, "HfApi", FakeApi)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    return FakeApi


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_what_is_pushed_comes_back(remote, model, starts):
    url = HubModel(model, starts).push_to_hub("someone/dream", private=True, commit_message="first")
    assert url.startswith("https://huggingface.co/someone/dream")
    assert remote.calls == [("create_repo", "someone/dream", True), ("upload_folder", "someone/dream", "first")]
    back = HubModel.from_pretrained("someone/dream", device="cpu")
    assert same(back.world_model, model) and all(torch.equal(back.starts[key], starts[key]) for key in starts)
    assert remote.calls[-1] == (
        "snapshot_download",
        "someone/dream",
        ("config.json", "model.safetensors", "starts.safetensors"),
    )


def test_a_pushed_folder_is_a_saved_model_with_a_card(remote, model):
    HubModel(model).push_to_hub("someone/dream")
    folder = remote.folder / "someone/dream"
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert same(load(folder), model) and load_starts(folder) is None
    card = (folder / "README.md").read_text()
    assert "library_name: wmcomponents" in card and "world-model" in card and "HubModel.from_pretrained" in card


def test_a_local_folder_goes_through_the_same_door(tmp_path, model, starts):
    HubModel(model, starts).save_pretrained(tmp_path / "a")
    assert same(HubModel.from_pretrained(tmp_path / "a").world_model, model)
    model.save_pretrained(tmp_path / "b", starts=starts)
    back = HubModel.from_pretrained(str(tmp_path / "b"))
    assert same(back.world_model, model) and set(back.starts) == {"deter", "stoch"}


def test_saving_over_an_older_model_leaves_none_of_its_files(tmp_path, model, starts):
    HubModel(model, starts).save_pretrained(tmp_path / "a")
    HubModel(model).save_pretrained(tmp_path / "a")
    assert load_starts(tmp_path / "a") is None
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff", b"{}"])
def test_a_damaged_model_is_refused_wherever_it_lies(remote, tmp_path, model, config):
    HubModel(model).push_to_hub("someone/dream")
    folder = remote.folder / "someone/dream"
    (folder / "config.json").write_bytes(config)
    with pytest.raises(BadModelError):
        HubModel.from_pretrained(folder)
    with pytest.raises(BadModelError):
        HubModel.from_pretrained("someone/dream")


def test_what_the_cache_of_the_hub_links_to_is_read_and_nothing_outside_it(tmp_path, model, starts, monkeypatch):
    cache = tmp_path / "models--someone--dream"
    snapshot, blobs = cache / "snapshots/abc", cache / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in model.save_pretrained(tmp_path / "made", starts=starts).iterdir():
        file.rename(blobs / file.stem)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.stem)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(snapshot))
    back = HubModel.from_pretrained("someone/dream")
    assert same(back.world_model, model) and torch.equal(back.starts["deter"], starts["deter"])
    (blobs / "model").rename(tmp_path / "elsewhere")
    (blobs / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadModelError, match="model.safetensors is a link out of"):
        HubModel.from_pretrained("someone/dream")
    with pytest.raises(BadModelError, match="config.json is a link, which is not followed"):
        load(snapshot)


def test_a_folder_for_the_hub_is_exchanged_as_a_whole_and_keeps_its_card(tmp_path, model, starts, monkeypatch):
    HubModel(model, starts).save_pretrained(tmp_path / "a")
    (tmp_path / "a/README.md").write_text("# my own words")
    monkeypatch.setattr("wmcomponents.pretrained.module.serialized", lambda tensors: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        HubModel(model).save_pretrained(tmp_path / "a")
    assert load_starts(tmp_path / "a") is not None and [entry.name for entry in tmp_path.iterdir()] == ["a"]
    monkeypatch.undo()
    HubModel(model).save_pretrained(tmp_path / "a")
    assert load_starts(tmp_path / "a") is None and (tmp_path / "a/README.md").read_text() == "# my own words"
    (tmp_path / "a/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="notes.txt"):
        HubModel(model).save_pretrained(tmp_path / "a")


def test_a_config_cannot_slip_arguments_in(remote, model):
    HubModel(model).push_to_hub("someone/dream")
    file = remote.folder / "someone/dream/config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "world_model": "other", "starts": "other", "device": "meta"})
    )
    with pytest.raises(BadModelError, match="was changed after the model was saved"):
        HubModel.from_pretrained("someone/dream")


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    import importlib

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'wmcomponents\[hub\]'"):
        importlib.reload(hub)
    monkeypatch.undo()
    importlib.reload(hub)
