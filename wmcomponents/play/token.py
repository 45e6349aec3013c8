"""The secret of a server's link, kept beside its recordings so that the same command has the same link."""

import os
import re
import secrets
import stat
from pathlib import Path

FILE = ".play-token"
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{43}\n?")


def kept_token(folder: Path) -> str:
    """The token that is kept in a folder, or a new one, which only the user may read.

    What stands there is taken only where it is a private file of the user's that holds a token; it is replaced
    otherwise.

    Raises:
        OSError: if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    found = _read(path)
    if found is not None:
        return found
    path.unlink(missing_ok=True)
    token = secrets.token_urlsafe(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token + "\n")
    return token


def _read(path: Path) -> str | None:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(file.fileno())
        is_private = os.name != "posix" or (not about.st_mode & 0o077 and about.st_uid == os.getuid())
        content = file.read(64) if stat.S_ISREG(about.st_mode) and is_private else b""
    return content.decode().strip() if _TOKEN.fullmatch(content) else None
