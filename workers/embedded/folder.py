"""The folder of one embedded server: its lock, its log, its password.

The lock is the proof that nobody uses the data. It is an flock on the folder itself, opened, and
the server and everything it forks inherit the descriptor: so it is held exactly as long as any of
these processes lives, whether they were told to end or not, and leaves no file behind. A start
therefore waits for the remains of a killed predecessor, and what that one left behind
(postmaster.pid, above all) is stale without guessing at process ids.
"""

import fcntl
import os
import secrets
import time
from pathlib import Path

from workers.embedded.guarded import StartError

_POLL_INTERVAL = 0.02
_LOG_TAIL_LINES = 8


def lock_folder(folder: Path, patience: float) -> int:
    """Take the lock of `folder`, waiting `patience` seconds. Returns the descriptor to hand on.

    The caller passes it to the server and closes its own copy. Raises StartError when others
    still use the folder.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_POLL_INTERVAL)
                continue
            os.close(lock)
            raise StartError(f"{folder} is in use by another running server") from None
        except BaseException:
            os.close(lock)
            raise
        return lock


def keep_secret(path: Path) -> str:
    """The secret kept in `path`, made up (256 bits, URL-safe) and stored 0600 the first time."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pass
    secret = secrets.token_urlsafe(32)
    write_private(path, secret + "\n")
    return secret


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by us alone; readers see the old text or all of the new."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def log_tail(log: Path) -> str:
    """The last lines of a server's log, for the error of a failed start."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_TAIL_LINES:])
