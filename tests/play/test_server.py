"""Who is let in, what is done, and that nothing that a client sends stops it."""

import asyncio
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.play_server import TOKEN, Running, ask, heard, toy_conversation
from wmcomponents.play.conversation import message, read_message
from wmcomponents.play.server import LARGEST_MESSAGE, MOST_MISTAKES, MOST_VIEWERS, Viewer, listening


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Running(toy_conversation(tmp_path_factory.mktemp("played")))
    yield running
    running.stop()


def join(server, token=TOKEN, *, host="127.0.0.1", **options):
    made = socket.create_connection(("127.0.0.1", server.port))
    try:
        return connect(
            f"ws://{host}:{server.port}/live?token={token}", sock=made, compression=None, max_queue=None, **options
        )
    except BaseException:
        made.close()
        raise


def is_well(server):
    """Whether it still lets a right client in, which takes a step."""
    with join(server) as one:
        heard(one, "frame")
        ask(one, "drive")
        ask(one, "begin", kind="saved", number=1, id=5)
        assert heard(one, "frame", lambda header: header["id"] == 5)["start"] == "saved start 1"
        ask(one, "step", action=1, id=6)
        return heard(one, "frame", lambda header: header["id"] == 6)["step"] == 1


def fetched(server, path, host=None):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, dict(answer.headers), answer.read().decode()


def test_the_page_is_static_and_runs_nothing_but_its_own_script(server):
    for path in ("/", "/boot.js", "/play.js", "/play.css"):
        status, headers, text = fetched(server, path)
        assert status == 200 and TOKEN not in text and "http://" not in text and "https://" not in text
        policy = headers["content-security-policy"]
        assert (
            "default-src 'none'" in policy and "unsafe" not in policy and headers["x-content-type-options"] == "nosniff"
        )
    for path, host in (
        ("/", "evil.example"),
        ("/play.js", "127.0.0.1.evil.example"),
        ("/token", None),
        ("/../server.py", None),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetched(server, path, host)
        assert refused.value.code == (421 if host else 404)
        refused.value.close()


@pytest.mark.parametrize(
    "options",
    [
        {"token": "wrong"},
        {"token": ""},
        {"token": TOKEN[:-1]},
        {"token": TOKEN + "%00"},
        {"token": "%F0%9F%90%B4"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"host": "evil.example"},
        {"host": "localhost.evil.example"},
    ],
    ids=lambda options: " ".join(options.values()),
)
def test_a_wrong_token_another_site_and_another_name_are_not_let_in(server, options):
    with pytest.raises(InvalidStatus) as refused:
        join(server, **options)
    assert refused.value.response.status_code == 403 and not server.play.viewers


def test_the_own_page_and_a_client_without_a_page_are_let_in(server):
    for options in ({}, {"origin": f"http://127.0.0.1:{server.port}"}, {"host": "localhost"}, {"host": "[::1]"}):
        with join(server, **options) as one:
            assert heard(one, "hello")["title"] == "A toy"


def test_the_first_drives_others_watch_and_may_take_over(server):
    with join(server) as first:
        assert heard(first, "hello")["controls"]["names"] == [["NOOP", "LEFT", "RIGHT"]]
        assert heard(first, "role")["drives"]
        with join(server) as second:
            assert not heard(second, "role")["drives"]
            ask(first, "begin", kind="saved", number=0, id=1)
            ask(first, "step", action=2, id=2)
            frames = [heard(one, "frame", lambda header: header["id"] == 2) for one in (first, second)]
            assert frames[0] == frames[1] and frames[0]["action"] == "RIGHT" and frames[0]["step"] == 1
            for request in ({"do": "step", "action": 0}, {"do": "go", "step": 0}):
                ask(second, **request, id=3)
                assert "drives" in heard(second, "error")["text"]
            second.send(b"an image")
            assert "drives" in heard(second, "error")["text"]
            ask(second, "drive")
            assert (
                heard(second, "role")["drives"]
                and not heard(first, "role", lambda header: not header["drives"])["drives"]
            )
            ask(second, "step", action=0, id=4)
            assert heard(first, "frame", lambda header: header["id"] == 4)["step"] == 2
        assert heard(first, "role", lambda header: header["drives"])["viewers"] == 1


def test_every_command_is_done(server):
    with join(server) as one:
        ask(one, "begin", kind="saved", number=2, id=1)
        for value, number in ((1, 2), (2, 3), (0, 4)):
            ask(one, "step", action=value, id=number)
        ask(one, "go", step=1, id=5)
        assert heard(one, "frame", lambda header: header["id"] == 5)["steps"] == 3
        ask(one, "step", action=1, luck=True, id=6)
        forked = heard(one, "frame", lambda header: header["id"] == 6)
        ask(one, "overlay", saliency=True, id=7)
        assert heard(one, "frame", lambda header: header["id"] == 7)["saliency"]
        ask(one, "overlay", saliency=False)
        ask(one, "switch", branch=forked["branches"][-2]["number"], id=8)
        assert heard(one, "frame", lambda header: header["id"] == 8)["step"] == 3
        ask(one, "fork")
        ask(one, "remove", branch=forked["branch"], id=9)
        left = heard(one, "frame", lambda header: header["id"] == 9)["branches"]
        assert forked["branch"] not in [branch["number"] for branch in left]
        ask(one, "save", **{"as": "data"})
        assert "3 steps" in heard(one, "saved")["words"]
        ask(one, "begin", kind="data", id=10)
        assert heard(one, "error", lambda header: header["id"] == 10)["text"].startswith("there is no start")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"do": "exit"}', '{"do": "go", "step": "1"}', "\u2028" * 9000])
def test_what_is_no_command_is_answered_and_after_a_while_shown_out(server, text):
    with join(server) as one:
        for _ in range(MOST_MISTAKES - 1):
            one.send(text)
            assert heard(one, "error")["text"]
        one.send(text)
        with pytest.raises(ConnectionClosed) as closed:
            heard(one, "nothing more")
        assert closed.value.rcvd.code == 1008
    assert is_well(server)


def test_what_is_no_image_is_answered(server):
    with join(server) as one:
        one.send(b"\x89PNG but not really")
        assert "no image" in heard(one, "error")["text"]
    assert is_well(server)


@pytest.mark.parametrize("data", ["x" * (LARGEST_MESSAGE + 1), b"x" * (LARGEST_MESSAGE + 1)], ids=["text", "bytes"])
def test_a_huge_message_ends_its_connection_and_nothing_else(server, data):
    with join(server) as watcher:
        with join(server) as one, pytest.raises(ConnectionClosed) as closed:
            one.send(data)
            while True:
                one.recv(timeout=10)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        heard(watcher, "frame")
    assert is_well(server)


def test_bytes_that_are_no_websocket_end_their_connection_and_nothing_else(server):
    for data in (
        b"\x00" * 4000,
        b"GET /live HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.settimeout(10)
            raw.sendall(data)
            assert b"101" not in raw.recv(200)
    with join(server) as one:
        one.socket.sendall(b"\xff\xff\xff\xff")  # no frame
        with pytest.raises(ConnectionClosed):
            while True:
                one.recv(timeout=10)
    assert is_well(server)


def test_of_a_hundred_connections_as_many_are_let_in_as_there_is_room_for(server):
    inside = shut = 0
    with ExitStack() as opened:
        for _ in range(100):
            one = opened.enter_context(join(server))
            try:
                heard(one, "hello")
                inside += 1
            except ConnectionClosed as closed:
                shut += closed.rcvd.code == 1013
        assert (inside, shut) == (MOST_VIEWERS, 100 - MOST_VIEWERS)
    while server.play.viewers:
        pass
    assert is_well(server)


def test_a_model_that_fails_is_told_and_the_server_goes_on(server, monkeypatch):
    session = server.conversation.session
    with join(server) as one:
        monkeypatch.setattr(session, "step", lambda *_, **__: 1 / 0)
        ask(one, "step", action=1, id=3)
        assert "ZeroDivisionError" in heard(one, "error", lambda header: header["id"] == 3)["text"]
    monkeypatch.undo()
    assert is_well(server)


def test_a_viewer_who_does_not_read_gets_only_the_last_frame_and_holds_nobody_back():
    async def run():
        sent, gate = [], asyncio.Event()

        class Slow:
            async def send_bytes(self, data):
                await gate.wait()
                sent.append(data)

        viewer = Viewer(Slow())
        poster = asyncio.create_task(viewer.post())
        viewer.tell(b"hello")
        for number in range(100):
            viewer.show(b"frame %d" % number)
            await asyncio.sleep(0)
        gate.set()
        await asyncio.sleep(0.01)
        poster.cancel()
        return sent

    assert asyncio.run(run()) == [b"hello", b"frame 99"]


def test_numbers_that_are_none_are_null_in_a_message():
    header = {"kind": "frame", "reward": float("nan"), "real": {"total": float("inf"), "all": (1.0, -float("inf"))}}
    told, blobs = read_message(message(header, [b"one", b""]))
    assert told["reward"] is None and told["real"] == {"total": None, "all": [1.0, None]} and blobs == [b"one", b""]


def test_a_port_that_is_taken_is_said_to_be(server):
    with pytest.raises(OSError):
        listening("127.0.0.1", server.port)
