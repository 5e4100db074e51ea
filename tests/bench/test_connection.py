"""Connections of the generator that wait while others open."""

import socket
from collections.abc import Iterator

import pytest

from bench import wire
from bench.connection import BenchError, Connection
from bench.product import ParleyDialect

EVENT = b'{"type":"event","event":"message.created"}'


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    mine, servers = socket.socketpair()
    with mine, servers:
        servers.settimeout(10)
        yield Connection(mine, "somebody", ParleyDialect()), servers


def test_pings_are_answered_and_all_else_is_kept(ends: tuple[Connection, socket.socket]):
    connection, server = ends
    event = wire.server_frame(EVENT)
    pings = [wire.server_frame(text, wire.PING) for text in (b"one", b"two")]
    server.sendall(pings[0] + event + pings[1] + event[:5])
    connection.answer_pings()
    assert connection.rest == event + event[:5]
    received = server.recv(100)
    masks = [received[at + 2 : at + 6] for at in (0, 9)]
    texts = [wire.apply_mask(received[at + 6 : at + 9], masks[at // 9]) for at in (0, 9)]
    assert (len(received), texts) == (18, [b"one", b"two"])
    server.sendall(event[5:])
    connection.answer_pings()
    assert connection.rest == event + event


def test_a_server_that_ends_while_others_open_ends_the_run(ends: tuple[Connection, socket.socket]):
    connection, server = ends
    server.sendall(wire.server_frame((4503).to_bytes(2, "big") + b"later", wire.CLOSE))
    with pytest.raises(BenchError, match="closed with 4503 'later'"):
        connection.answer_pings()
