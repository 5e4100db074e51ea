"""Listening sockets: where connections are accepted.

The sockets are plain, non-blocking ones; what is accepted from them inherits TCP_NODELAY.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

import trio

# A name may stand for an IPv6 address on a machine that has none.
_NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


async def open_listening_sockets(
    host: str, port: int, *, backlog: int, reuse_port: bool
) -> list[socket.socket]:
    """Bound, listening, non-blocking sockets for every address of the host.

    With port 0 all get the same free one; with `reuse_port` several processes may share a port.
    Raises OSError if one of the addresses can not be had.
    """
    found = await trio.socket.getaddrinfo(
        host or None,
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    for family, kind, protocol, _, address in found:
        same_port = sockets[0].getsockname()[1] if sockets else port
        listening = socket.socket(family, kind, protocol)
        try:
            _bind(listening, (address[0], same_port, *address[2:]), reuse_port=reuse_port)
            listening.listen(backlog)
        except OSError as error:
            listening.close()
            problem = error
            if error.errno not in _NO_SUCH_ADDRESS:
                break
        else:
            sockets.append(listening)
    if problem is not None and (not sockets or problem.errno not in _NO_SUCH_ADDRESS):
        close_all(sockets)
        raise problem
    return sockets


def _bind(listening: socket.socket, address: tuple[object, ...], *, reuse_port: bool) -> None:
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by every accepted socket: frames are sent whole, nothing is gained by waiting.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if reuse_port:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.bind(address)


def close_all(sockets: list[socket.socket]) -> None:
    """Close them and wake whoever waits on one; again does nothing."""
    for one in sockets:
        if one.fileno() >= 0:
            trio.lowlevel.notify_closing(one)
            one.close()
