"""Refusing a handshake as soon as it is accepted, while more clients come than can be let in.

A connection of its own for each refusal, with its tasks, costs three times as much, and a storm of
refusals would keep the node from those whom it has let in. So whoever has sent a whole request for
the WebSocket is answered in the accept loop; everything else (health, a head that has not come yet)
goes the usual way. Synchronous.
"""

from __future__ import annotations

import contextlib
import socket

from broker.handshake import asks_to_connect
from config import wire_limits


def refuse_at_once(accepted: socket.socket, answer: bytes) -> bool:
    """Answer and close, if that is all that is to be done; else nothing has been read."""
    try:
        head = accepted.recv(wire_limits.HEAD_BYTES_MAX, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        head = b""
    if head and not asks_to_connect(head):
        return False
    with contextlib.suppress(OSError):
        if head:
            # What is left unread would reset the connection before its answer is read.
            accepted.recv(wire_limits.HEAD_BYTES_MAX)
            accepted.send(answer)
    accepted.close()
    return True
