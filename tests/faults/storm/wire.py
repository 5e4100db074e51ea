"""What the storm's clients talk through: a WebSocket and an HTTP connection, cheap, unforgiving.

Both end on any trouble with `Gone`: whoever called does not know what became of what it asked.
Frames are whole and unfragmented, which the server's are.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import trio

from tests.support.lean_client import cut_frames, encode_client_frame, shake_hands

_CONNECT_DEADLINE = 5.0
_REST_DEADLINE = 10.0
_RECEIVE_BYTES = 256 * 1024
_decode = msgspec.json.Decoder().decode

Frame = dict[str, Any]


class Gone(Exception):
    """The connection is over, or nothing came in time: the outcome of what waits is unknown."""


class Wire:
    """One WebSocket; get it from `open_wire`."""

    def __init__(
        self, stream: trio.SocketStream, take: Callable[[Frame], None], patience: float
    ) -> None:
        self._patience = patience
        self._stream = stream
        self._take = take
        self._buffer = bytearray()
        self._sending = trio.Lock()
        self._waiting: dict[int, trio.MemorySendChannel[Frame]] = {}
        self._last_id = 0
        self.ended = trio.Event()
        self.close_code: int | None = None
        self._reading = trio.Event()
        self._reading.set()

    @property
    def next_id(self) -> int:
        """The id that the next command will have."""
        return self._last_id + 1

    async def call_all(self, commands: list[Frame]) -> list[Frame | None]:
        """Send commands in one go; the answer to each, None where none came.

        Returns when all are answered, the connection has ended, or the time is up.
        """
        answers: dict[int, Frame] = {}
        give, take = trio.open_memory_channel[Frame](len(commands))
        first = self.next_id
        self._last_id += len(commands)
        data = bytearray()
        for identity, command in enumerate(commands, first):
            self._waiting[identity] = give
            data += encode_client_frame(msgspec.json.encode({**command, "id": identity}))
        try:
            with trio.move_on_after(self._patience):
                await self._send(data)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_ended, nursery.cancel_scope)
                    while len(answers) < len(commands):
                        frame = await take.receive()
                        answers[frame["id"]] = frame
                    nursery.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
        while len(answers) < len(commands):
            try:
                frame = take.receive_nowait()
            except trio.WouldBlock:
                break
            answers[frame["id"]] = frame
        for identity in range(first, first + len(commands)):
            self._waiting.pop(identity, None)
        return [answers.get(first + place) for place in range(len(commands))]

    async def call(self, type_: str, **fields: Any) -> Frame:
        """Send one command; its answer, a reply or an error. Gone without one."""
        (answer,) = await self.call_all([{"type": type_, **fields}])
        if answer is None:
            raise Gone(type_)
        return answer

    def stop_reading(self) -> None:
        """Read nothing, as a slow client does, until `go_on_reading`."""
        self._reading = trio.Event()

    def go_on_reading(self) -> None:
        self._reading.set()

    async def close(self) -> None:
        """Say goodbye, as a well-behaved client does."""
        with trio.move_on_after(2):
            try:
                await self._send(encode_client_frame(b"\x03\xe8", opcode=8))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            await self.ended.wait()

    async def vanish(self) -> None:
        """End the TCP connection without a word."""
        await trio.aclose_forcefully(self._stream)

    async def _until_ended(self, scope: trio.CancelScope) -> None:
        await self.ended.wait()
        scope.cancel()

    async def _send(self, data: bytes | bytearray) -> None:
        async with self._sending:
            await self._stream.send_all(data)

    async def receive(self, rest: bytes) -> None:
        """Take frames until the connection ends."""
        self._buffer += rest
        try:
            while True:
                await self._take_whole_frames()
                await self._reading.wait()
                data = await self._stream.receive_some(_RECEIVE_BYTES)
                if not data:
                    return
                self._buffer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self.ended.set()

    async def _take_whole_frames(self) -> None:
        for opcode, payload in cut_frames(self._buffer):
            if opcode == 9:
                await self._send(encode_client_frame(payload, opcode=10))
            elif opcode == 8:
                self.close_code = int.from_bytes(payload[:2], "big")
            elif opcode == 1:
                frame = _decode(payload)
                self._take(frame)
                waiting = self._waiting.get(frame.get("id") or 0)
                if waiting is not None and frame["type"] in ("reply", "error"):
                    waiting.send_nowait(frame)


@asynccontextmanager
async def open_wire(
    url: str, token: str, take: Callable[[Frame], None], *, patience: float
) -> AsyncIterator[Wire]:
    """Connect with the token in the query; every frame is given to `take` as it comes. Gone if
    nobody answers. Does not wait for `hello`. `patience`: seconds for the answer to a command."""
    target = urlsplit(url)
    try:
        with trio.fail_after(_CONNECT_DEADLINE):
            stream = await trio.open_tcp_stream(target.hostname or "", target.port or 80)
            rest = await _shake_hands(stream, url, token)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise Gone(f"no connection: {error!r}") from None
    wire = Wire(stream, take, patience)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.receive, rest)
        # What the block raises leaves as itself, not as a group of one.
        try:
            yield wire
        except BaseException as error:
            failure = error
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _shake_hands(stream: trio.SocketStream, url: str, token: str) -> bytes:
    try:
        return await shake_hands(stream, url, token)
    except AssertionError as error:
        await trio.aclose_forcefully(stream)
        raise Gone(str(error)) from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


class Answer(NamedTuple):
    """What the API said."""

    status: int
    body: Any
    headers: dict[str, str]


class Rest:
    """Requests to the API, one at a time, on a connection that is kept while it holds."""

    def __init__(self, port: Callable[[], int], **credential: str) -> None:
        self._port = port
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in credential.items())
        self._stream: trio.SocketStream | None = None
        self._lock = trio.Lock()

    async def send(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request; Gone if there is no whole answer."""
        data = b"" if body is None else json.dumps(body).encode()
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: api\r\n{self._headers}{more}"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        async with self._lock:
            try:
                with trio.fail_after(_REST_DEADLINE):
                    return await self._exchange(head.encode() + data)
            except (OSError, trio.TooSlowError, trio.BrokenResourceError, _Cut) as error:
                await self.close()
                raise Gone(f"{method} {path}: {error!r}") from None
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Let go of the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _exchange(self, request: bytes) -> Answer:
        if self._stream is None:
            self._stream = await trio.open_tcp_stream("127.0.0.1", self._port())
        await self._stream.send_all(request)
        buffer = bytearray()
        while b"\r\n\r\n" not in buffer:
            buffer += await self._receive()
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        status = int(lines[0].split(" ")[1])
        pairs = (line.partition(": ") for line in lines[1:])
        headers = {name.lower(): value for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        while len(rest) < length:
            rest += await self._receive()
        if headers.get("connection") == "close":
            await self.close()
        return Answer(status, json.loads(rest) if rest else None, headers)

    async def _receive(self) -> bytes:
        assert self._stream is not None
        data = await self._stream.receive_some(_RECEIVE_BYTES)
        if not data:
            raise _Cut("the connection ended")
        return bytes(data)


class _Cut(Exception):
    """The answer is not whole."""
