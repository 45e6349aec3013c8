"""A played dream over HTTP: one static page, and one websocket for each viewer."""

import asyncio
import ipaddress
import secrets
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wmcomponents._extras import require
from wmcomponents.play.commands import BadCommandError, Command, read_command
from wmcomponents.play.conversation import Conversation, error_message, message
from wmcomponents.play.errors import PlayError

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/boot.js": "boot.js", "/play.js": "play.js", "/play.css": "play.css"}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}

MOST_VIEWERS = 16
LARGEST_MESSAGE = 2**23
"""Bytes of what a viewer sends: an image that is uploaded."""
MOST_MISTAKES = 20
"""Messages of a viewer that are no commands, before it is shown out."""
MOST_LETTERS = 64
"""Messages that wait for a viewer who does not read, besides frames, of which only the last one waits."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013


class Viewer:
    """One page that is open: what it has not read yet.

    Args:
        socket: its accepted websocket.
    """

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.mistakes = 0
        self._frame: bytes | None = None
        self._letters: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def show(self, frame: bytes) -> None:
        """Show a frame in place of any that the viewer has not seen."""
        self._frame = frame
        self._wake.set()

    def tell(self, letter: bytes) -> bool:
        """Send a message; whether there was room for it."""
        self._letters.append(letter)
        self._wake.set()
        return len(self._letters) <= MOST_LETTERS

    async def post(self) -> None:
        """Send what waits, as fast as the viewer reads."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._letters:
                await self.socket.send_bytes(self._letters.popleft())
            if self._frame is not None:
                frame, self._frame = self._frame, None
                await self.socket.send_bytes(frame)


class PlayServer:
    """Lets several viewers see one session, of whom one drives.

    The first viewer drives. Any other may take over; where the driver leaves, the one who came next drives.

    Args:
        conversation: with the session.
        token: without which nobody is let in.
        hosts: names by which the server may be called, besides ``localhost`` and addresses in numbers.

    Attributes:
        app: an ASGI application (Starlette's).
        viewers: those that are there, in the order in which they came.
        driver: whose commands are done.
    """

    def __init__(self, conversation: Conversation, token: str, *, hosts: Iterable[str] = ()) -> None:
        starlette: Any = require("starlette.applications", extra="play")
        routing: Any = require("starlette.routing", extra="play")
        self._conversation, self._token = conversation, token
        self._hosts = frozenset(host.lower() for host in hosts)
        self.viewers: list[Viewer] = []
        self.driver: Viewer | None = None
        # One thread: the session is not for several at once, and the loop goes on while the model works.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="dream")
        routes = [routing.Route(path, self._file) for path in FILES]
        routes.append(routing.WebSocketRoute("/live", self._live))
        self.app = starlette.Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        yield
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _file(self, request: Any) -> Any:
        """The page and what belongs to it; there is nothing secret in it."""
        responses: Any = require("starlette.responses", extra="play")
        if not self._is_host(request.headers.get("host", "")):
            return responses.PlainTextResponse("This server is not called by that name.", 421, headers=HEADERS)
        file = PAGE / FILES[request.url.path]
        return responses.Response(file.read_bytes(), media_type=TYPES[file.suffix], headers=HEADERS)

    async def _live(self, websocket: Any) -> None:
        refusal = self._refusal(websocket)
        if refusal:
            await websocket.close(refusal)  # before it is accepted: the handshake fails
            return
        await websocket.accept()
        if len(self.viewers) >= MOST_VIEWERS:
            await websocket.close(TRY_AGAIN_LATER, "too many viewers")
            return
        viewer = Viewer(websocket)
        self.viewers.append(viewer)
        poster = asyncio.create_task(viewer.post())
        try:
            viewer.tell(await self._at_work(self._conversation.hello))
            self._cast(self.driver or viewer)
            viewer.show(await self._at_work(self._conversation.frame))
            await self._attend(viewer)
        finally:
            poster.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await poster
            self.viewers.remove(viewer)
            self._cast(self.driver if self.driver is not viewer else next(iter(self.viewers), None))

    def _refusal(self, websocket: Any) -> int:
        """Why a connection is not let in, as a code; 0 lets it in."""
        host, origin = websocket.headers.get("host", ""), websocket.headers.get("origin")
        if not self._is_host(host) or (origin is not None and _address(origin) != _address(f"//{host}")):
            return POLICY_VIOLATION
        given = websocket.query_params.get("token", "")
        return 0 if secrets.compare_digest(given.encode(), self._token.encode()) else POLICY_VIOLATION

    def _is_host(self, host: str) -> bool:
        """Whether a name is one of this server's: one that somebody else's DNS points here is not."""
        name = _address(f"//{host}")[0]
        if name == "localhost" or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    async def _attend(self, viewer: Viewer) -> None:
        """Do what a viewer asks for, one after the other, until it leaves."""
        while viewer.mistakes < MOST_MISTAKES:
            received = await viewer.socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            command: Command | None = None
            try:
                if received.get("bytes") is not None:
                    self._check_drives(viewer)
                    await self._at_work(self._conversation.upload, received["bytes"])
                    self._show(await self._at_work(self._conversation.frame))
                    continue
                command = read_command(received.get("text") or "")
                await self._do(viewer, command)
            except PlayError as error:
                viewer.mistakes += isinstance(error, BadCommandError)
                self._tell(viewer, error_message(str(error), command.id if command else 0))
            except Exception as error:  # the model's own, such as a NaN: the session stands where it stood
                self._tell(viewer, error_message(f"{type(error).__name__}: {error}", command.id if command else 0))
        with suppress(Exception):  # it may have gone by itself
            await viewer.socket.close(POLICY_VIOLATION, "too many messages that are no commands")

    async def _do(self, viewer: Viewer, command: Command) -> None:
        if command.name == "drive":
            self._cast(viewer)
            return
        self._check_drives(viewer)
        answers = await self._at_work(self._conversation.do, command)
        for answer in answers:
            self._tell(viewer, answer)
        self._show(await self._at_work(self._conversation.frame, command.id))

    def _check_drives(self, viewer: Viewer) -> None:
        if viewer is not self.driver:
            raise PlayError("somebody else drives: take over first.")

    def _cast(self, driver: Viewer | None) -> None:
        """Say who drives."""
        self.driver = driver
        for viewer in list(self.viewers):
            role = {"kind": "role", "drives": viewer is driver, "viewers": len(self.viewers)}
            self._tell(viewer, message(role))

    def _show(self, frame: bytes) -> None:
        for viewer in self.viewers:
            viewer.show(frame)

    def _tell(self, viewer: Viewer, letter: bytes) -> None:
        if not viewer.tell(letter):
            viewer.mistakes = MOST_MISTAKES  # it asks and does not read

    async def _at_work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)


def _address(url: str) -> tuple[str, str]:
    """Name and port in a URL; empty for what is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.netloc.rpartition("@")[2].lower()
    except ValueError:
        return "", ""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, on a port of its own where 0 is given.

    Raises:
        OSError: if the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def make_uvicorn(app: Any) -> Any:
    """The server that runs the application: ``.run(sockets=[...])``; ``.should_exit = True`` stops it."""
    uvicorn: Any = require("uvicorn", extra="play")
    require("websockets", extra="play")
    config = uvicorn.Config(
        app,
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # frames are compressed already, and nothing is to be blown up
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
