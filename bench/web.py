"""Pages over REST in a closed loop: a few connections that stay open, each with one request.

Rules: a request is one `send`, an answer is read by its Content-Length; whatever is not 200 (or
304, where that was asked for) ends the run. Who is told that a connection ends (after a thousand
requests, say) opens another. Judging what a page holds is `bench.book`'s.
"""

import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench import checks
from bench.connection import OPEN_TIMEOUT, RECEIVE_BYTES, BenchError
from bench.target import Target

_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# What to ask next: the request's bytes, and who judges the answer.
Question = tuple[bytes, Callable[[Answer], None]]


class _Caller:
    """One connection."""

    __slots__ = ("_judge", "_received", "is_ending", "sock")

    def __init__(self, target: Target) -> None:
        self.is_ending = False  # the server closes it behind the last answer
        try:
            self.sock = socket.create_connection((target.host, target.port), timeout=OPEN_TIMEOUT)
        except OSError as error:
            raise BenchError(f"{target.name} does not accept connections: {error}") from error
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._judge: Callable[[Answer], None] | None = None

    def ask(self, question: Question) -> None:
        """Send the next request."""
        request, self._judge = question
        self.sock.sendall(request)

    def take(self) -> bool:
        """Read; whether the answer is complete (and was judged)."""
        data = self.sock.recv(4 * RECEIVE_BYTES)
        if not data:
            raise BenchError("the server closed the connection")
        self._received += data
        head, found, body = self._received.partition(_END_OF_HEAD)
        if not found:
            return False
        status, headers = _parse_head(head)
        length = 0 if status == 304 else int(headers.get("content-length", "-1"))
        if length < 0:
            raise BenchError(f"an answer without Content-Length: {head[:300]!r}")
        if len(body) < length:
            return False
        if len(body) > length or self._judge is None:
            raise checks.CheckFailed("more than one answer to one request")
        self._received = b""
        judge, self._judge = self._judge, None
        self.is_ending = headers.get("connection", "").lower() == "close"
        judge(Answer(status=status, headers=headers, body=body))
        return True


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) < 2 or not words[1].isdigit():
        raise BenchError(f"not an answer: {first!r}")
    pairs = (line.partition(":") for line in lines)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


class Callers:
    """All connections to one server."""

    def __init__(self, target: Target, count: int) -> None:
        self._target = target
        self._callers: dict[int, _Caller] = {}
        self._epoll = select.epoll()
        for _ in range(count):
            self._open()

    def ask_one(self, question: Question) -> None:
        """Ask on one connection and wait."""
        fd, caller = next(iter(self._callers.items()))
        caller.ask(question)
        while not caller.take():
            pass
        self._usable(fd)

    def _open(self) -> _Caller:
        caller = _Caller(self._target)
        self._callers[caller.sock.fileno()] = caller
        self._epoll.register(caller.sock.fileno(), select.EPOLLIN)
        return caller

    def _usable(self, fd: int) -> _Caller:
        """The connection, or another in its place if it has had its last answer."""
        caller = self._callers[fd]
        if not caller.is_ending:
            return caller
        del self._callers[fd]
        self._epoll.unregister(fd)
        caller.sock.close()
        return self._open()

    def ask_until(self, end: float, questions: Callable[[], Question]) -> int:
        """Ask on all of them until `end` on the performance counter; how many were answered."""
        for caller in self._callers.values():
            caller.ask(questions())
        busy, answered = len(self._callers), 0
        while busy:
            if time.perf_counter() > end + OPEN_TIMEOUT:
                raise checks.CheckFailed(f"{busy} requests were not answered")
            for fd, _ in self._epoll.poll(1.0):
                caller = self._callers[fd]
                if caller.take():
                    answered += 1
                    busy -= 1
                    caller = self._usable(fd)
                    if time.perf_counter() < end:
                        caller.ask(questions())
                        busy += 1
        return answered

    def close(self) -> None:
        """Close every connection."""
        for caller in self._callers.values():
            caller.sock.close()


def get_request(host: str, path: str, headers: Mapping[str, str]) -> bytes:
    """A GET request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode()
