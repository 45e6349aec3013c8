"""Read a checkpoint that a paper's own repository published, whatever its family. Nothing is ever unpickled."""

import contextlib
import difflib
import inspect
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import torch
from torch import nn

from wmcomponents.models import OFFICIAL
from wmcomponents.models.diffusion.official_open_sora import mmdit_from_official, stdit3_from_official
from wmcomponents.models.diffusion.official_transformers import (
    cdit_from_official,
    dit_from_official,
    oasis_autoencoder_from_official,
    oasis_dit_from_official,
)
from wmcomponents.models.joint_embedding.official_vit import vit_from_official
from wmcomponents.nn import VisionTransformer
from wmcomponents.pretrained import BadModelError, PretrainedModel, StrictFolder
from wmcomponents.pretrained.building import construction
from wmcomponents.pretrained.tensors import TensorFile, listed, too_large

TORCH_SUFFIXES, SAFE_SUFFIX = (".pt", ".pth", ".p", ".tar", ".ckpt", ".checkpoint"), ".safetensors"
SUFFIXES = (*TORCH_SUFFIXES, SAFE_SUFFIX)
ZIP_MAGIC = b"PK\x03\x04"
MOST_FILES = 100_000
"""Files and folders that a folder of checkpoints may hold."""
DENOISERS: Mapping[str, Callable[..., nn.Module]] = {
    "dit": dit_from_official,
    "nwm": cdit_from_official,
    "oasis": oasis_dit_from_official,
    "oasis-autoencoder": oasis_autoencoder_from_official,
    "open-sora-1.2": stdit3_from_official,
    "open-sora-2.0": mmdit_from_official,
}
"""What makes a network of the weights that its authors published, by their repository's name."""

N = TypeVar("N", bound=nn.Module)


def load_official(
    name: str, path: str | Path, *, device: torch.device | str | None = None, **details: Any
) -> PretrainedModel:
    """Read a checkpoint of a paper's own repository into this library's model of that family.

    Files are read as tensors and plain numbers alone: no class of the repository is needed, and nothing in a file is
    executed. Every key of the checkpoint lands in the model or is one that the family knows to be of no use here.

    Args:
        name: the repository's name, a key of :data:`wmcomponents.models.OFFICIAL`.
        path: a ``.pt``, ``.pth``, ``.p``, ``.tar``, ``.ckpt`` or ``.checkpoint`` file as ``torch.save`` writes it, a
            ``.safetensors`` file, or a folder of them where the repository spreads a model over several files.
        device: where the weights go; the CPU if not given.
        **details: what the checkpoint does not say itself, such as the specs of the environment; each family's
            ``from_official`` names its own.

    Returns:
        The model, in evaluation mode; torch's global random state stays as it is.

    Raises:
        BadModelError: if the family is unknown; if the file is missing, truncated, damaged, no checkpoint, or holds
            anything but tensors, plain numbers and texts; if its keys or shapes are not the family's.
        TypeError: if a detail is missing, or the family knows none of that name.
    """
    if name not in OFFICIAL:
        close = difflib.get_close_matches(name, OFFICIAL, n=1, cutoff=0.5)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise BadModelError(f"the official checkpoints known here are of {', '.join(OFFICIAL)}; got {name!r}.{meant}")
    from_official = cast(Any, OFFICIAL[name]).from_official
    _check_details(name, from_official, details)
    weights = read_checkpoint(path)
    try:
        # A view in a file can claim any size. The initial weights are overwritten; drawing them must not show.
        with construction(_bytes_of(Path(path)) // 4, 1000):
            model = from_official(weights, **details)
    except BadModelError as error:
        raise BadModelError(f"{path} is not a checkpoint of {name} that fits: {error}") from error
    except Exception as error:  # the family was given numbers from outside: it may fail in any way
        raise BadModelError(f"{path} does not describe a model of {name}: {type(error).__name__}: {error}") from error
    return model.to(device).eval() if device is not None else model.eval()


def load_official_vit(
    layout: str, path: str | Path, *, device: torch.device | str | None = None, **details: Any
) -> VisionTransformer:
    """Read a published vision transformer: timm's, DINOv2, MAE, I-JEPA, V-JEPA or V-JEPA 2.

    Files are read as :func:`load_official` reads them. The size follows from the weights.

    Args:
        layout: whose names the file has: "timm", "dinov2", "mae", "ijepa", "vjepa" or "vjepa2".
        path: the file.
        device: where the weights go; the CPU if not given.
        **details: what the file does not say: ``part`` ("encoder" or "target_encoder", the default) of I-JEPA's and
            V-JEPA's, ``heads`` of a size that was not published, ``frames`` of V-JEPA's clips.

    Returns:
        The network, in evaluation mode; torch's global random state stays as it is.

    Raises:
        BadModelError: if the layout is unknown; if the file is missing, damaged or no checkpoint; if its keys or
            shapes are not the layout's.
        TypeError: for another detail.
    """
    weights = read_checkpoint(path)
    unknown = sorted(set(details) - {"part", "heads", "frames"})
    if unknown:
        raise TypeError(f"the details of a vision transformer are part, heads and frames; got {', '.join(unknown)}.")
    return _network(
        path, f"vision transformer of {layout}", lambda: vit_from_official(layout, weights, **details), device
    )


def load_official_denoiser(
    name: str, path: str | Path, *, device: torch.device | str | None = None, **details: Any
) -> nn.Module:
    """Read a published network of image or video diffusion, or the autoencoder of its latents.

    Files are read as :func:`load_official` reads them. The size follows from the weights.

    Args:
        name: a key of :data:`DENOISERS`: "dit", "nwm", "oasis", "oasis-autoencoder", "open-sora-1.2", "open-sora-2.0".
        path: the file.
        device: where the weights go; the CPU if not given.
        **details: what the file does not say: ``heads`` of a size of "dit" or "nwm" that was not published, ``latent``
            and ``frames`` of "oasis", ``image_size`` and ``heads`` of its autoencoder, ``square`` of "open-sora-1.2",
            ``shares`` and ``base`` of "open-sora-2.0".

    Returns:
        The network, in evaluation mode; torch's global random state stays as it is.

    Raises:
        BadModelError: if the name is unknown; if the file is missing, damaged or no checkpoint; if its keys or shapes
            are not the network's.
        TypeError: for another detail.
    """
    if name not in DENOISERS:
        raise BadModelError(f"the networks known here are {', '.join(DENOISERS)}; got {name!r}.")
    build = DENOISERS[name]
    _check_details(name, build, details)
    weights = read_checkpoint(path)
    return _network(path, f"network of {name}", lambda: build(weights, **details), device)


def _network(path: str | Path, what: str, build: Callable[[], N], device: torch.device | str | None) -> N:
    """A network out of a file's weights."""
    try:
        # A view in a file can claim any size. The initial weights are overwritten; drawing them must not show.
        with construction(_bytes_of(Path(path)) // 4, 1000):
            net = build()
    except BadModelError as error:
        raise BadModelError(f"{path} is not a {what} that fits: {error}") from error
    except Exception as error:  # the layout was given numbers from outside: it may fail in any way
        raise BadModelError(f"{path} does not describe a {what}: {type(error).__name__}: {error}") from error
    return net.to(device).eval() if device is not None else net.eval()


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """What a checkpoint holds: nested mappings and lists of tensors, plain numbers and texts.

    Args:
        path: a file, or a folder: the latter gives a mapping from file names, relative and with ``/``, to what each
            holds, which is read when it is asked for. The path may be a link; links inside a folder are not followed.

    Raises:
        BadModelError: see :func:`load_official`.
    """
    path = Path(path)
    with _refused(path):
        if path.is_dir():
            return CheckpointFolder(path)
        if not path.exists():
            raise BadModelError(f"{path} does not exist. Download the checkpoint, and give the path of the file.")
        if not path.is_file():
            raise BadModelError(f"{path} is no file and no folder.")
        if path.suffix not in SUFFIXES:
            raise BadModelError(f"{path} is no checkpoint by its name; those known end in {', '.join(SUFFIXES)}.")
        # Whatever it is called: a cache of downloads holds links whose ends have other names.
        real = path.resolve()
        with StrictFolder(real.parent, BadModelError, "a folder of checkpoints") as folder:
            return _read_file(folder, real.name, path)


class CheckpointFolder(Mapping[str, Any]):
    """Checkpoints below a folder by their relative name, such as ``"vae/best.tar"``, each read when it is asked for.

    Args:
        path: the folder.

    Raises:
        BadModelError: if it holds no checkpoint; when asked for one that is not there or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = tuple(sorted(_checkpoints(path)))
        self._read: dict[str, Mapping[str, Any]] = {}
        if not self._files:
            raise BadModelError(f"{path} holds no checkpoint; those known end in {', '.join(SUFFIXES)}.")

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        if name not in self._files:
            raise BadModelError(f"{self.path} holds no {name}; it holds {listed(self._files, 8)}.")
        if name not in self._read:
            *folders, file = name.split("/")
            with contextlib.ExitStack() as opened:
                inner = opened.enter_context(StrictFolder(self.path, BadModelError, "a folder of checkpoints"))
                for part in folders:
                    inner = opened.enter_context(inner.folder(part))
                self._read[name] = _read_file(inner, file, self.path / name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _checkpoints(path: Path) -> Iterator[str]:
    """Checkpoints below a folder, by their relative names; links are passed over."""
    seen = 0
    for parent, folders, files in os.walk(path):
        folders.sort()
        seen += len(files) + len(folders)
        if seen > MOST_FILES:
            raise BadModelError(f"{path} holds more than {MOST_FILES:,} files: give the folder of one experiment.")
        for name in files:
            file = Path(parent) / name
            if file.suffix in SUFFIXES and not file.is_symlink() and file.is_file():
                yield file.relative_to(path).as_posix()


def _read_file(folder: StrictFolder, name: str, shown: Path) -> Mapping[str, Any]:
    """One file of a folder.

    Args:
        folder: where it is.
        name: its name there.
        shown: the path as it was given, which tells the kind of the file, and which errors name.
    """
    with folder.open(name) as file:
        if shown.suffix == SAFE_SUFFIX:
            return TensorFile(file, str(shown), BadModelError).read()
        size = os.fstat(file.fileno()).st_size
        fault = too_large(size)
        if fault:
            raise BadModelError(f"{shown} {fault}.")
        return _read_torch(file, size, shown)


def _read_torch(file: BinaryIO, size: int, shown: Path) -> Mapping[str, Any]:
    is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    if is_zip:
        _check_zip(file, size, shown)
    file.seek(0)
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a file's oddities before it refuses them
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # anything at all, on bytes that are no checkpoint
        raise BadModelError(f"{shown} {_why(error)}") from error
    if not isinstance(content, Mapping):
        raise BadModelError(f"{shown} holds a {type(content).__name__}, not a mapping of weights by name.")
    return cast("Mapping[str, Any]", content)


def _check_zip(file: BinaryIO, size: int, shown: Path) -> None:
    """Compare the checksums of the parts, which torch itself does not; refuse parts that unpack to another size."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
            # Parts may lie in one another, each as large as the file.
            overlaps = sum(part.file_size for part in parts) > size
            damaged = None if packed or overlaps else archive.testzip()
    except Exception as error:  # zipfile trusts the numbers that it reads, and fails as they make it
        raise BadModelError(f"{shown} is truncated or damaged: download it again ({error}).") from error
    if packed:
        raise BadModelError(f"{shown} is not as torch.save writes it: {packed[0]} is compressed.")
    if overlaps:
        raise BadModelError(f"{shown} is not as torch.save writes it: its parts overlap.")
    if damaged:
        raise BadModelError(f"{shown} is damaged: {damaged} does not match its checksum. Download it again.")


def _why(error: Exception) -> str:
    reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    needed = reason.partition("Unsupported global: GLOBAL ")[2].split(" ", 1)[0]
    if needed:
        return (
            f"holds more than weights: to read it, {needed} would have to be unpickled, which can run any code, and is "
            f"refused. In the repository that wrote it, save the weights alone: torch.save(model.state_dict(), path). "
            f"(A name that means nothing to you: the file is truncated or damaged.)"
        )
    return (
        f"is no checkpoint of torch, or is truncated or damaged ({type(error).__name__}: {reason:.200}). Download it "
        f"again; if it is a pickle of something else, save the weights alone: torch.save(model.state_dict(), path)."
    )


def _check_details(name: str, from_official: Any, details: Mapping[str, Any]) -> None:
    try:
        inspect.signature(from_official).bind({}, **details)
    except TypeError as error:
        raise TypeError(
            f"checkpoints of {name} are read with {inspect.signature(from_official)}, weights given; {error}."
        ) from error


def _bytes_of(path: Path) -> int:
    """Bytes of a file, or of the checkpoints below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum((path / name).stat().st_size for name in _checkpoints(path))


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Name the one class of refusal for what the system says of a path."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, BadModelError):
            raise
        raise BadModelError(f"{path} cannot be read ({error}).") from error


class _NumberType:
    """Stands for ``numpy.dtype`` in a file: the letters of a kind of number, and nothing that runs."""

    def __init__(self, text: Any = "", *_: Any) -> None:
        self.text = text

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which plain numbers on disk do not need."""


def _number(kind: Any, data: Any) -> float | int | bool:
    """Stands for numpy's scalars, which repositories keep their scores as: the plain number of the bytes."""
    formats = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "u1": "<B", "b1": "<?"}
    if not isinstance(kind, _NumberType) or kind.text not in formats or not isinstance(data, bytes):
        raise ValueError("only single numbers of numpy are read, no arrays or objects")
    return struct.unpack(formats[kind.text], data)[0]


_NUMPY_NUMBERS: list[Any] = [
    (_number, "numpy._core.multiarray.scalar"),
    (_number, "numpy.core.multiarray.scalar"),
    (_NumberType, "numpy.dtype"),
    *((_NumberType, f"numpy.dtypes.{kind}DType") for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")),
]
