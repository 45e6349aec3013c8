import json

import pytest

from tests.support.play_server import toy_conversation
from wmcomponents.play import play_widget
from wmcomponents.play.conversation import read_message
from wmcomponents.play.widget import answers


def kinds(messages):
    return [read_message(one)[0]["kind"] for one in messages]


def told(conversation, **command):
    return answers(conversation, {"text": json.dumps(command)}, [])


def test_a_view_is_greeted_and_its_commands_are_done(tmp_path):
    conversation = toy_conversation(tmp_path)
    assert kinds(answers(conversation, {"open": True}, [])) == ["hello", "role", "frame"]
    (frame,) = told(conversation, do="step", action=2, id=4)
    assert read_message(frame)[0]["id"] == 4 and conversation.session.moment.value == 2
    assert kinds(told(conversation, do="save", **{"as": "data"})) == ["saved", "frame"]


def test_what_cannot_be_done_is_said(tmp_path):
    conversation = toy_conversation(tmp_path)
    for messages in (
        told(conversation, do="step", action=9, id=3),
        answers(conversation, {"text": "{"}, []),
        answers(conversation, "nonsense", None),
        answers(conversation, {"upload": True}, [memoryview(b"no image")]),
    ):
        assert kinds(messages) == ["error"]


def test_the_widget_sends_what_answers(tmp_path, monkeypatch):
    pytest.importorskip("anywidget")
    widget = play_widget(toy_conversation(tmp_path))
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers: sent.append(buffers[0]))
    widget._handle_custom_msg({"open": True}, [])
    assert kinds(sent) == ["hello", "role", "frame"] and "export default" in widget._esm
    widget.close()
