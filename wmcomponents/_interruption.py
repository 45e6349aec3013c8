"""A request to stop (Ctrl-C, SIGTERM, a closed terminal) waits until the work at hand is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop.

    Attributes:
        signum: by which signal.
    """

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that this signal ended: 130 after Ctrl-C."""
        return 128 + self.signum


class Request:
    """Whether the process was asked to stop; true once it was.

    Attributes:
        signum: by which signal; ``None`` if it was not.
    """

    signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None

    def check(self) -> None:
        """Stop here, if that was asked for.

        Raises:
            Interrupted: if it was.
        """
        if self.signum is not None:
            raise Interrupted(self.signum)


@contextlib.contextmanager
def postponed() -> Iterator[Request]:
    """Signals that ask to stop are noted meanwhile; a second one stops at once.

    Only the main thread can be given signals; in others nothing is postponed. A signal that the process ignores stays
    ignored.

    Yields:
        The request: ask it (``if request: save(); request.check()``) wherever the work is whole.

    Raises:
        Interrupted: at the second signal; at the end, if a signal came that nobody checked.
    """
    request = Request()

    def note(signum: int, frame: Any) -> None:
        if request:
            raise Interrupted(signum)
        request.signum = signum

    with _handled_by(note):
        yield request
    request.check()


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Every signal that asks to stop raises :class:`Interrupted`, so that what is open is closed and tidied up."""

    def stop(signum: int, frame: Any) -> None:
        raise Interrupted(signum)

    with _handled_by(stop):
        yield


@contextlib.contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for signum in SIGNALS:
            # None: a handler that was not installed from Python, which could not be put back.
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                before[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, was in before.items():
            signal.signal(signum, was)
