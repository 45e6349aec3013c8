"""A server of a played dream in a thread of this process, and how a client speaks with it."""

import json
import threading
import time
from pathlib import Path

import torch
from torchrl.data import Bounded, Composite, OneHot

from wmcomponents.play import Controls, Conversation, Session, StartMenu
from wmcomponents.play.conversation import read_message
from wmcomponents.play.server import PlayServer, listening, make_uvicorn
from wmcomponents.testing.toy import ToyWorldModel

TOKEN = "correct-horse"
PIXELS = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))


def toy_conversation(out: Path, **parts) -> Conversation:
    model = ToyWorldModel(PIXELS, OneHot(3), noise="normal", parts=("decode", "reward"))
    menu = StartMenu(model, pool={key: torch.linspace(-1, 1, 24).view(3, 8) for key in ("memory", "z")})
    session = Session(model, menu, controls=Controls(model.action_spec, ["NOOP", "LEFT", "RIGHT"]), seed=0, **parts)
    return Conversation(session, out, title="A toy")


class Running:
    """A server that runs until it is stopped; on the port of one before it, if that is given."""

    def __init__(self, conversation: Conversation, port: int = 0) -> None:
        listener = listening("127.0.0.1", port)
        self.conversation, self.port = conversation, listener.getsockname()[1]
        self.play = PlayServer(conversation, TOKEN)
        self._server = make_uvicorn(self.play.app)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


def ask(socket, do: str, **entries) -> None:
    socket.send(json.dumps({"do": do, **entries}))


def heard(socket, kind: str, where=lambda header: True) -> dict:
    """The next message of a kind."""
    while True:
        header, _ = read_message(socket.recv(timeout=10))
        if header["kind"] == kind and where(header):
            return header
