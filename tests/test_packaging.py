"""What is shipped is what is in the tree, and importing it is light."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import wmcomponents

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {
    "ale_py",
    "anywidget",
    "cv2",
    "dm_control",
    "gym_pusht",
    "gymnasium",
    "gymnasium_robotics",
    "huggingface_hub",
    "imageio",
    "matplotlib",
    "minatar",
    "mujoco",
    "PIL",
    "pygame",
    "rich",
    "stable_baselines3",
    "starlette",
    "tensorboard",
    "tyro",
    "uvicorn",
}


def run(*command: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def stated_version(file: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert found, f"no version in {file}"
    return found[1]


def test_the_version_is_the_same_wherever_it_is_stated():
    stated = stated_version("pyproject.toml", r'^version = "(.+)"$')
    assert stated_version("CITATION.cff", r"^version: (.+)$") == stated
    assert version("wmcomponents") == stated
    assert wmcomponents.__version__ == stated


def test_importing_the_library_the_parts_or_the_protocol_imports_no_optional_dependency():
    parts = "functional nn component encoders dynamics decoders heads tokenizers world_model integrations"
    steps = [
        "torch, tensordict, torchrl",
        "wmcomponents",
        "torchrl.envs, torchrl.modules, torchrl.data",
        ", ".join(f"wmcomponents.{part}" for part in parts.split()),
    ]
    show = "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    code = "import sys\n" + "\n".join(f"import {step}\n{show}" for step in steps)
    below, library, under, whole = (
        set(line.split()) for line in run(sys.executable, "-c", code, cwd=ROOT).splitlines()
    )
    assert not (library - below) & OPTIONAL
    assert not (whole - under) & OPTIONAL


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs the git checkout: it says which files belong to the package")
    listed = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return [name for name in listed if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the sdist of the tracked files, away from the checkout."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree), cwd=out)
    assert len(list(out.glob("*.tar.gz"))) == 1
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_built_from_the_sdist_holds_every_tracked_file_of_the_package(wheel: Path, tracked: list[str]):
    ours = {name for name in tracked if name.startswith("wmcomponents/")}
    assert "wmcomponents/py.typed" in ours
    assert ours <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_holds_one_package_and_the_licence(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"wmcomponents-{version('wmcomponents')}.dist-info"
    assert {name.split("/")[0] for name in names} == {"wmcomponents", info}
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_imports_away_from_the_checkout(wheel: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import wmcomponents; print(wmcomponents.__file__)"
    shown = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert Path(shown.strip()).is_relative_to(tmp_path)


def test_the_top_level_links_are_relative_and_lead_into_the_package():
    for name in ("agents", "integrations"):
        assert (ROOT / name).is_symlink()
        assert (ROOT / name).readlink() == Path("wmcomponents") / name
