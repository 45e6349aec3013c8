"""`wmc play`: a model's dream in the browser, to be played by hand."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcomponents._interruption import Interrupted
from wmcomponents._whole import check_place
from wmcomponents.cli.console import quiet, say
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import UsageError, at_least, check_folders

PORT = 8642
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class PlayConfig:
    """Arguments of `wmc play`."""

    model: Path
    """Folder of a saved model."""
    data: Path | None = None
    """Data folder: any of its steps is a place to begin."""
    env: str | None = None
    """Id of the environment; known already for models made by wmc train."""
    reality: bool = True
    """Let the real environment go along where there is one; --no-reality dreams alone."""
    out: Path = Path("play")
    """Folder for recordings, and for the secret of the link; the same folder has the same link."""
    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own can be reached by anybody who has the link."""
    port: int = PORT
    """Port to listen on; 0 takes a free one."""
    allow_host: tuple[str, ...] = ()
    """Names by which a proxy or another machine calls this server, besides addresses in numbers."""
    burn_in: int = 16
    """Recorded observations that the filter sees before a dream begins in them."""
    memory: float = 512.0
    """MB of states that are kept for going back; those between are computed again."""
    seed: int | None = None
    """Of starts and noise; fresh chance if not given."""
    device: str = "cpu"
    """Where to dream: cpu, cuda, mps, or auto for the best there is."""


def run(config: PlayConfig) -> dict[str, Any]:
    """Serve the page until Ctrl-C."""
    at_least(1, burn_in=config.burn_in)
    at_least(0, port=config.port, **({} if config.seed is None else {"seed": config.seed}))
    if config.port > 65535 or config.memory <= 0:
        raise UsageError(f"--port is below 65536 and --memory positive; got {config.port} and {config.memory}.")
    check_folders(model=config.model, data=[config.data])
    from wmcomponents._extras import require

    for package in ("starlette", "uvicorn", "websockets", "PIL"):
        require(package, extra="play")
    quiet()
    check_place(config.out)
    from wmcomponents.play.server import PlayServer, make_uvicorn
    from wmcomponents.play.token import kept_token

    conversation = _conversation(config)
    listener = _listener(config)
    token = kept_token(config.out)
    server = PlayServer(conversation, token, hosts=[config.host, *config.allow_host])
    link = _link(config.host, listener.getsockname()[1], token)
    say(f"{conversation.title} is played at\n\n    {link}\n\nCtrl-C ends it. Recordings go to {config.out}.")
    if config.host not in LOOPBACK:
        say("Everybody who can reach this address and has the link can play; the connection is not encrypted.")
    try:
        make_uvicorn(server.app).run(sockets=[listener])
    except Interrupted as stopped:
        if stopped.signum != signal.SIGINT:
            raise
    session = conversation.session
    steps = len({moment.number for branch in session.branches.values() for moment in branch.moments[1:]})
    return {"model": str(config.model), "out": str(config.out), "branches": len(session.branches), "steps": steps}


def _conversation(config: PlayConfig) -> Any:
    """The session, and who speaks for it."""
    from wmcomponents.play import open_dream

    return open_dream(
        config.model,
        data=config.data,
        env=config.env,
        reality=config.reality,
        out=config.out,
        burn_in=config.burn_in,
        memory=int(config.memory * 1e6),
        seed=config.seed,
        device=device_of(config.device),
        print_fn=say,
    )


def _listener(config: PlayConfig) -> Any:
    from wmcomponents.play.server import listening

    try:
        return listening(config.host, config.port)
    except OSError as error:
        raise UsageError(
            f"{config.host} port {config.port} cannot be listened on ({error.strerror}): choose another --port, or 0 "
            f"for a free one."
        ) from error


def _link(host: str, port: int, token: str) -> str:
    shown = (
        "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    )
    return f"http://{shown}:{port}/?token={token}"
