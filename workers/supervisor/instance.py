"""One `parley up` a folder: the lock, and who holds it.

The lock is an flock on the folder itself, so it ends with the process however that ends. The file
`up.pid` beside it only tells a second `parley up` whom it met; a clean end removes it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.embedded.folder import write_private


class FolderUnavailable(Exception):
    """Another `parley up` uses the folder, or it is closed to us; one line for the user."""


@contextmanager
def hold_folder(folder: Path) -> Iterator[bool]:
    """Own `folder` (made if missing, mode 0700) for the length of the block.

    Yields whether the last owner ended without cleaning up. Raises FolderUnavailable.
    """
    pid_file = folder / "up.pid"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FolderUnavailable(f"can not use {folder}/: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderUnavailable(_who(pid_file, folder)) from None
        was_killed = pid_file.exists()
        write_private(pid_file, f"{os.getpid()}\n")
        try:
            yield was_killed
        finally:
            pid_file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _who(pid_file: Path, folder: Path) -> str:
    try:
        owner = f" (process {int(pid_file.read_text())})"
    except (OSError, ValueError):
        owner = ""
    return (
        f"parley up is already running here{owner} and uses {folder}/. "
        "Stop it with Ctrl-C in its terminal, or start a second system with --ephemeral."
    )
