"""A played dream in a notebook."""

from typing import Any

from wmcomponents._extras import require
from wmcomponents.play.commands import read_command
from wmcomponents.play.conversation import Conversation, error_message, message
from wmcomponents.play.errors import PlayError
from wmcomponents.play.server import PAGE


def play_widget(conversation: Conversation) -> Any:
    """The page of a played dream as a Jupyter widget, without a server.

    Args:
        conversation: with the session (:func:`~wmcomponents.play.open_dream`).

    Returns:
        An ``anywidget.AnyWidget``; its ``conversation`` is the one that was given.

    Raises:
        MissingExtraError: if anywidget is not installed.
    """
    anywidget: Any = require("anywidget", extra="notebook")
    require("PIL", extra="play")

    class PlayWidget(anywidget.AnyWidget):
        """Speaks with each view of itself; all of them drive."""

        _esm = (PAGE / "play.js").read_text()
        _css = (PAGE / "play.css").read_text()

        def __init__(self) -> None:
            super().__init__()
            self.conversation = conversation
            self.on_msg(self._heard)

        def _heard(self, _: Any, content: Any, buffers: Any) -> None:
            for each in answers(conversation, content, buffers):
                self.send({}, [each])

    return PlayWidget()


def answers(conversation: Conversation, content: Any, buffers: Any) -> list[bytes]:
    """The messages that answer one of a view.

    Args:
        conversation: with the session.
        content: ``{"open": True}`` of a view that was just drawn, ``{"text": command}``, or ``{"upload": True}`` with
            an encoded image in ``buffers``.
        buffers: bytes that came along.
    """
    content, number = content if isinstance(content, dict) else {}, 0
    try:
        if content.get("open"):
            role = message({"kind": "role", "drives": True, "viewers": 1})
            return [conversation.hello(), role, conversation.frame()]
        if content.get("upload") and buffers:
            conversation.upload(bytes(buffers[0]))
            return [conversation.frame()]
        command = read_command(str(content.get("text")))
        number = command.id
        done = [] if command.name == "drive" else conversation.do(command)
        return [*done, conversation.frame(number)]
    except PlayError as error:
        return [error_message(str(error), number)]
    except Exception as error:  # the model's own: the session stands where it stood
        return [error_message(f"{type(error).__name__}: {error}", number)]
