"""`--device`: a device by its name, or the best there is."""

from typing import Any

from wmcomponents.cli.errors import UsageError


def device_of(name: str) -> Any:
    """The torch device of this name; ``auto`` is a GPU where there is one (CUDA before MPS), else the CPU.

    Raises:
        UsageError: naming the devices that exist here.
    """
    import torch

    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    there = [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    kinds = {each.partition(":")[0] for each in there}
    if device is None or device.type not in kinds or (device.index and str(device) not in there):
        raise UsageError(f"--device is auto or one of {', '.join(reversed(there))} on this machine; got {name!r}.")
    return device
