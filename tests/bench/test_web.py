"""Connections that ask for pages: what a server says about them is heeded."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bench.target import Target
from bench.web import Answer, Callers, get_request

PATIENCE = 3
"""Answers after which this server closes a connection, as it says with the last."""


def _serve_one(connection: socket.socket) -> None:
    with connection:
        for number in range(1, PATIENCE + 1):
            received = b""
            while b"\r\n\r\n" not in received:
                chunk = connection.recv(4096)
                if not chunk:
                    return
                received += chunk
            how = "close" if number == PATIENCE else "keep-alive"
            connection.sendall(
                f"HTTP/1.1 200 OK\r\nConnection: {how}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
            )


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve_one, args=(connection,), daemon=True).start()


@pytest.fixture
def impatient() -> Iterator[Target]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener,))
        thread.start()
        yield Target(
            name="impatient",
            host="127.0.0.1",
            port=listener.getsockname()[1],
            process=0,
            token=str,
            prepare_rooms=lambda _: None,
        )
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_who_is_told_that_the_connection_ends_opens_another(impatient: Target) -> None:
    answers: list[Answer] = []
    question = (get_request("localhost", "/", {}), answers.append)
    callers = Callers(impatient, 2)
    try:
        for _ in range(2 * PATIENCE):
            callers.ask_one(question)
        assert len(answers) == 2 * PATIENCE
        end = time.perf_counter() + 0.2
        answered = callers.ask_until(end, lambda: question)
    finally:
        callers.close()
    assert answered > 2 * PATIENCE
    assert len(answers) == 2 * PATIENCE + answered
    assert {one.body for one in answers} == {b"{}"}
