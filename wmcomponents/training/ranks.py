"""The processes that train one model together, as `torchrun` starts them."""

import atexit
import contextlib
import datetime
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wmcomponents._interruption import Request
from wmcomponents.data.episodes import derived_seed


class LostRankError(RuntimeError):
    """Another process of the run ended or does not answer; its own message says why."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def joined(cls, *, timeout: float | None = None) -> "Ranks":
        """The processes of torch's default group, which is joined first where `torchrun` has started this process.

        On the CPU processes speak by Gloo, CUDA devices by NCCL; each process makes the device of its ``LOCAL_RANK``
        the current one. A process that was started alone is alone.

        Args:
            timeout: seconds after which a process that does not answer is given up; torch's own if not given.
        """
        if not dist.is_available():
            return cls()
        if not dist.is_initialized():
            if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "MASTER_ADDR" not in os.environ:
                return cls()
            _join(timeout)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this is the process that shows, logs and writes."""
        return self.rank == 0

    def seed(self, seed: int, *what: str) -> int:
        """A seed of this process's own; that of the first is the one that is given.

        Args:
            seed: the run's.
            *what: of what it is, if one number seeds several things.
        """
        return seed if self.is_first else derived_seed(seed, *what, "rank", self.rank)

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is up in any process."""
        if self.count == 1:
            return list(flags)
        raised = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.any(True)

    def of_first(self, number: float) -> Any:
        """A number of the first process, in all of them."""
        if self.count == 1:
            return number
        told = torch.tensor(number, dtype=torch.int64 if isinstance(number, int) else torch.float64)
        dist.broadcast(told, 0)
        return told.item()

    def device(self, device: torch.device) -> torch.device:
        """This process's own device of a kind: of CUDA devices, with several processes, the one of its local rank."""
        is_shared = self.count > 1 and device.type == "cuda"
        return torch.device("cuda", torch.cuda.current_device()) if is_shared else device

    def mean(self, x: Tensor) -> Tensor:
        """The mean over all processes of a tensor ``[*S]``."""
        if self.count == 1:
            return x
        total = x.clone()
        dist.all_reduce(total)
        return total / self.count

    def gathered(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Tensors on the CPU of every process, by rank; names, shapes and dtypes are the same in all."""
        if self.count == 1:
            return [tensors]
        found: list[dict[str, Tensor]] = [{} for _ in range(self.count)]
        for name in sorted(tensors):
            value = tensors[name].contiguous()
            parts = [torch.empty_like(value) for _ in found]
            dist.all_gather(parts, value)
            for entry, part in zip(found, parts, strict=True):
                entry[name] = part
        return found

    def alike(self, *modules: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.count == 1:
            return
        seen: set[int] = set()
        with torch.no_grad():
            for module in modules:
                for value in (*module.parameters(), *module.buffers()):
                    if value.numel() and value.data_ptr() not in seen:
                        seen.add(value.data_ptr())
                        _broadcast(value)

    def check_same(self, what: str, number: int) -> None:
        """Refuse to begin where processes have read different things.

        Args:
            what: what the number is, for the error.
            number: the same one in all processes, if all is well.

        Raises:
            ValueError: if it is not.
        """
        if self.count == 1:
            return
        own = torch.tensor([number])
        parts = [torch.zeros_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own)
        numbers = [int(part) for part in parts]
        if len(set(numbers)) > 1:
            raise ValueError(
                f"the processes of this run begin at different {what} ({numbers}, by rank): every one of them must see "
                f"the same folder, on a disk that all machines share."
            )

    @contextlib.contextmanager
    def together(self, remedy: str = "") -> Iterator[None]:
        """Say in plain words that another process is gone.

        Args:
            remedy: what to do.

        Raises:
            LostRankError: in place of what the library that connects the processes says.
        """
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _is_lost(error):
                raise
            raise LostRankError(
                f"another of the {self.count} processes ended or does not answer, so this one (rank {self.rank}) "
                f"stops too; the one that ended first says why.{remedy}"
            ) from error


def stop_together(request: Request, is_asked: bool) -> None:
    """Stop here if any process was asked to.

    Args:
        request: of this process.
        is_asked: of all of them.

    Raises:
        Interrupted: if one was.
    """
    if is_asked and not request:
        request.signum = signal.SIGTERM
    request.check()


def _join(timeout: float | None) -> None:
    wait: Any = {} if timeout is None else {"timeout": datetime.timedelta(seconds=timeout)}
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl", **wait)
    else:
        dist.init_process_group("gloo", **wait)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _broadcast(value: Tensor) -> None:
    if value.is_contiguous():
        dist.broadcast(value.detach(), 0)
    else:
        packed = value.detach().contiguous()
        dist.broadcast(packed, 0)
        value.copy_(packed)


def _is_lost(error: RuntimeError) -> bool:
    said = str(error)
    backend = getattr(dist, "DistError", ())
    return isinstance(error, backend) or "gloo" in said.lower() or "Connection" in said
