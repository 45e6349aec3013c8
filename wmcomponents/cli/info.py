"""`wmc info`: what a saved model is, and what this installation offers."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wmcomponents.cli.console import quiet, say, show_facts, show_table
from wmcomponents.cli.errors import at_least, check_folders

# The module that stands for each extra.
EXTRAS = {
    "sb3": ("stable_baselines3",),
    "gym": ("gymnasium", "pygame"),
    "atari": ("ale_py", "cv2"),
    "dmc": ("dm_control",),
    "box2d": ("Box2D",),
    "minatar": ("minatar",),
    "goals": ("gym_pusht", "gymnasium_robotics"),
    "viz": ("matplotlib", "PIL", "imageio_ffmpeg"),
    "logging": ("tensorboard",),
    "play": ("starlette", "uvicorn", "websockets", "PIL"),
    "notebook": ("anywidget",),
    "hub": ("huggingface_hub",),
    "video": ("diffusers",),
    "cli": ("tyro",),
    "datasets": ("h5py", "minari", "pyarrow", "av"),
}


@dataclass(frozen=True)
class InfoConfig:
    """Arguments of `wmc info`."""

    model: Path | None = None
    """Folder of a saved model; without it, what this installation offers."""
    rows: int = 1024
    """Rows of a dream whose memory is told."""


def run(config: InfoConfig) -> dict[str, Any]:
    """Look and tell."""
    at_least(1, rows=config.rows)
    check_folders(model=config.model)
    quiet()
    return _installation() if config.model is None else _model(config.model, config.rows)


def _model(path: Path, rows: int) -> dict[str, Any]:
    import dataclasses

    from wmcomponents.models import MaskedModel
    from wmcomponents.models.loading import load_whatever
    from wmcomponents.pretrained.training_note import training_facts

    loaded = load_whatever(path)
    if isinstance(loaded, MaskedModel):
        return _encoder(path, loaded)
    model, starts = loaded
    parts = {name: _count(part) for name, part in model.named_children() if _count(part)}
    bytes_of_weights = sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers()))
    row = sum(_leaf_bytes(leaf) for spec in (model.state_spec, model.observation_spec) for leaf in spec.values())
    trained = training_facts(path)
    result: dict[str, Any] = {
        "model": str(path),
        "family": type(model).__name__,
        "trained": trained or None,
        "config": dataclasses.asdict(model.config),
        "parameters": _count(model),
        "parameters_by_part": parts,
        "capabilities": sorted(model.capabilities),
        "observation": _shapes(model.observation_spec),
        "action": _shape(model.action_spec),
        "state": _shapes(model.state_spec),
        "noise": {str(verb): _shapes(spec) for verb, spec in model.noise_spec.items()},
        "start_states": 0 if starts is None else len(next(iter(starts.values()))),
        "weights_bytes": bytes_of_weights,
        "rows": rows,
        "dream_bytes": row * rows,
    }
    facts = {
        "family": result["family"],
        "trained": f"{trained['steps']} updates on {trained['env']} ({trained['preset']})" if trained else "unknown",
        "capabilities": ", ".join(result["capabilities"]),
        "observation": _listed(result["observation"]),
        "action": result["action"],
        "state": _listed(result["state"]),
        "noise of a dreamed step": _listed(result["noise"]["imagine"]) or "none: deterministic",
        "start states": result["start_states"],
        "weights": f"{bytes_of_weights / 1e6:.2f} MB",
        f"a dream of {rows} rows": f"{row * rows / 1e6:.2f} MB of states and observations",
        "config": ", ".join(f"{name}={value}" for name, value in _entries(result["config"])),
    }
    show_facts(str(path), facts)
    show_table(
        "Parameters", ["part", "count"], [*((n, f"{c:,}") for n, c in parts.items()), ("all", f"{_count(model):,}")]
    )
    return result


def _encoder(path: Path, model: Any) -> dict[str, Any]:
    """What pretrains an encoder: no actions, no states, nothing to dream."""
    import dataclasses

    from wmcomponents.pretrained.training_note import training_facts

    trained = training_facts(path)
    result: dict[str, Any] = {
        "model": str(path),
        "family": type(model).__name__,
        "trained": trained or None,
        "config": dataclasses.asdict(model.config),
        "parameters": _count(model),
        "parameters_by_part": {name: _count(part) for name, part in model.named_children() if _count(part)},
        "observation": _shapes(model.observation_spec),
        "patches": list(model.grid),
        "features": model.encoder.dim,
        "weights_bytes": sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers())),
    }
    facts = {
        "family": f"{result['family']}: it pretrains an encoder for a world (load_encoder), nobody dreams in it",
        "trained": f"{trained['steps']} updates on {trained['env']} ({trained['preset']})" if trained else "unknown",
        "observation": _listed(result["observation"]),
        "patches": f"{' x '.join(map(str, model.grid))}, {model.encoder.dim} features each",
        "weights": f"{result['weights_bytes'] / 1e6:.2f} MB",
        "config": ", ".join(f"{name}={value}" for name, value in _entries(result["config"])),
    }
    show_facts(str(path), facts)
    parts = result["parameters_by_part"]
    show_table("Parameters", ["part", "count"], [(name, f"{count:,}") for name, count in parts.items()])
    return result


def _entries(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of a config by their dotted paths."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _entries(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _installation() -> dict[str, Any]:
    from importlib.metadata import version

    import torch
    from torchrl.data import Bounded, Composite

    from wmcomponents.models import PRETRAINING, presets
    from wmcomponents.models import families as all_families

    shown = {
        "vector of 4": Composite(observation=Bounded(-1, 1, torch.Size([4]))),
        "image 64x64x3": Composite(pixels=Bounded(0, 255, torch.Size([64, 64, 3]), dtype=torch.uint8)),
    }
    families, encoders = (
        {family: {preset: _counts(family, preset, shown) for preset in presets(family)} for family in kinds}
        for kinds in (all_families(), PRETRAINING)
    )
    extras = {name: all(_is_installed(module) for module in modules) for name, modules in EXTRAS.items()}
    show_table(
        "Parameters of the world models, 6 actions",
        ["family", "preset", *shown],
        [
            [family, preset, *("" if count is None else f"{count:,}" for count in counts.values())]
            for family, sizes in {**families, **encoders}.items()
            for preset, counts in sizes.items()
        ],
    )
    show_table("Extras", ["extra", ""], [[name, "installed" if here else _pip(name)] for name, here in extras.items()])
    say("wmc info --model FOLDER says what a saved model is.")
    return {
        "version": version("wmcomponents"),
        "torch": torch.__version__,
        "families": {name: {"presets": sizes} for name, sizes in families.items()},
        "pretraining": {name: {"presets": sizes} for name, sizes in encoders.items()},
        "extras": extras,
    }


def _counts(family: str, preset: str, observations: dict[str, Any]) -> dict[str, int | None]:
    """Parameters for each observation; ``None`` where this size of this family models others."""
    import torch
    from torchrl.data import OneHot

    from wmcomponents.models import PRETRAINING, make_model, make_pretraining

    counts: dict[str, int | None] = {}
    for name, spec in observations.items():
        try:
            with torch.device("meta"):  # counted, never allocated
                if family in PRETRAINING:
                    counts[name] = _count(make_pretraining(family, preset, spec))
                else:
                    counts[name] = _count(make_model(family, preset, spec, OneHot(6)))
        except ValueError:
            counts[name] = None
    return counts


def _pip(extra: str) -> str:
    return f"pip install 'wmcomponents[{extra}]'"


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def _count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _leaf_bytes(leaf: Any) -> int:
    return leaf.shape.numel() * leaf.dtype.itemsize


def _shape(leaf: Any) -> str:
    kind = type(leaf).__name__.removesuffix("Continuous").removesuffix("Discrete")
    return f"{kind} {list(leaf.shape)} {str(leaf.dtype).removeprefix('torch.')}"


def _shapes(spec: Any) -> dict[str, str]:
    return {str(key): _shape(leaf) for key, leaf in spec.items()}


def _listed(shapes: dict[str, str]) -> str:
    return ", ".join(f"{key}: {shape}" for key, shape in shapes.items())
