"""How many connections the operating system lets a process have."""

from __future__ import annotations

import resource
from typing import Final

from config.limits import CONNECTIONS_MAX

DESCRIPTORS_KEPT: Final = 256
"""File descriptors that are not connections: storages, logs, metrics, listening sockets."""


def allow_connections(most: int) -> int:
    """As many as there are file descriptors for, at most `most`.

    The process's soft limit is raised to the hard one.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = CONNECTIONS_MAX + DESCRIPTORS_KEPT
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(most, hard - DESCRIPTORS_KEPT))
