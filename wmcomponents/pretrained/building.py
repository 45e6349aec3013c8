"""Build a model that is about to be filled with weights from outside: bounded, and leaving no trace in the process."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wmcomponents.pretrained.tensors import NAMED, listed

SPARE_ELEMENTS, SPARE_TENSORS = 2**22, 2**10
"""What building a model may take beyond a multiple of its weights and specs: masks, bins, tables."""


LARGEST_COUNT = 2**24
"""Parts of one kind in a model; larger numbers in a config are steps, or not to be believed."""


class OverBudgetError(ValueError):
    """Building asks for more than the file can fill."""


class Budget(TorchDispatchMode):
    """Refuses to make more tensors, or larger ones, than it was given, before the memory for them is taken.

    Sizes read from a file can ask for any amount. A context manager; what counts are tensors made from sizes
    (``empty``, ``zeros``, ``linspace``, random numbers), not the results of operations on tensors.

    Args:
        elements: how many may be made, in all tensors together.
        tensors: how many tensors may be made.

    Raises:
        OverBudgetError: inside, at the tensor that is too much.
    """

    def __init__(self, elements: int, tensors: int) -> None:
        super().__init__()
        self.elements, self.tensors = elements, tensors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_new = any(argument.name == "device" for argument in func._schema.arguments)
        if is_new and not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            self.tensors -= 1
            self.elements -= func(*args, **{**kwargs, "device": "meta"}).numel()
            if min(self.tensors, self.elements) < 0:
                raise OverBudgetError("its sizes ask for far more memory than its weights fill")
        return func(*args, **kwargs)


@contextlib.contextmanager
def construction(elements: int, tensors: int, device: str = "cpu") -> Iterator[None]:
    """Where a model is built to be filled: on one device, in single precision, within a :class:`Budget`.

    The caller's defaults of torch, and the global generators of torch, numpy and Python, are as they were afterwards.
    (What is drawn inside is drawn indeed: a model may have tables that are no weights and come of a seed of their own.)

    Args:
        elements: numbers that the weights and specs have.
        tensors: how many weights there are.
        device: where.
    """
    budget = Budget(8 * elements + SPARE_ELEMENTS, 8 * tensors + SPARE_TENSORS)
    dtype, python, numpy = torch.get_default_dtype(), random.getstate(), np.random.get_state()
    torch.set_default_dtype(torch.float32)
    try:
        # Where CUDA was not used yet it has no state that could move.
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices=gpus), torch.device(device), budget:
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def bounded_memory(more: int) -> Iterator[None]:
    """Where the process gets no more memory than it has and this, where the system can say so.

    For what a budget of tensors does not see: a count of layers that makes a list before it makes a layer. It holds
    for all threads, hence only where numbers are met that no count of parts needs.

    Args:
        more: bytes.

    Raises:
        MemoryError: inside, at what is too much.
    """
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        limits = [taken + more, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), before[1]))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def largest_integer(content: Any) -> int:
    """The largest integer in a JSON, by its absolute value."""
    if isinstance(content, (dict, list)):
        return max(map(largest_integer, content.values() if isinstance(content, dict) else content), default=0)
    return abs(content) if isinstance(content, int) else 0


def check_sizes(
    build: Callable[[], nn.Module], weights: Mapping[str, Tensor], elements: int, *, is_certain: bool = False
) -> None:
    """Compare what a config asks for with the weights that are there, before memory is taken for either.

    The model is built without memory; one that cannot be, since it computes with its own numbers as it is built, is
    compared when it is built in earnest.

    Args:
        build: makes the model.
        weights: the weights, with numbers or without.
        elements: numbers in the weights and specs.
        is_certain: whether a model that cannot be built without memory, for another reason than that, is refused here;
            it is left to be built in earnest otherwise.

    Raises:
        ValueError: if they are not of one model.
    """
    try:
        with construction(elements, len(weights), "meta"):
            own = build().state_dict()
    except OverBudgetError:
        raise
    except Exception as error:  # of any kind
        if is_certain and not _is_for_want_of_numbers(error):
            raise
        return
    fault = unlike_weights(weights, own)
    if fault:
        raise ValueError(fault)


def _is_for_want_of_numbers(error: BaseException | None) -> bool:
    """Whether something failed because tensors of the meta device have no numbers, which torch says in many ways."""
    while error is not None:
        if isinstance(error, NotImplementedError) or "meta" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def unlike_weights(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """In words, why tensors are not the weights of a model; empty if they are. Precisions may differ, kinds may not."""
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unknown:
        lack = f"they lack {listed(missing, NAMED)}" if missing else ""
        have = f"they have {listed(unknown, NAMED)}, which it does not" if unknown else ""
        return f"the keys of the weights are others: {'; '.join(said for said in (lack, have) if said)}"
    for key, now in own.items():
        was = weights[key]
        is_float = was.is_floating_point() and now.is_floating_point()
        if was.shape != now.shape or (was.dtype != now.dtype and not is_float):
            return f"{key} is {was.dtype} {list(was.shape)}, expected {now.dtype} {list(now.shape)}"
    return ""


def take_precisions(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give each tensor of a model the precision of the weight that it is about to be given.

    Args:
        model: as it was built.
        weights: its weights, by its own keys and in its own shapes.

    Raises:
        ValueError: if what the model holds once under two names has two values.
    """
    precisions = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(precisions) == 1:
        model.to(next(iter(precisions)))  # tables that are no weights, too
    own, first = model.state_dict(keep_vars=True), {}
    for key, value in own.items():
        twin = first.setdefault((value.data_ptr(), value.shape), key)
        if value.numel() and not _same_bits(weights[key], weights[twin]):
            raise ValueError(f"{twin} and {key} are one and the same in the model, and have two values")
    for key, value in weights.items():
        if own[key].dtype != value.dtype:
            own[key].data = own[key].data.to(value.dtype)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one is other or torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
