"""The life of one connection: request head, handshake, WebSocket, end.

This is the only file that knows trio_websocket. It answers ping and close, and puts fragments
together; the `Wire` under it has handled what is usual before. So it begins, with a task of its
own, only when the first of that comes: most connections never need it. One connection is one
barrier: whatever goes wrong in it ends this connection alone, with 1011.

The handshake is ours: `handshake` judges it and makes the answer; trio-websocket begins with the
frames. Its own would parse what has been parsed and write the same answer, for 0.3 ms.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
import trio
import trio_websocket
import wsproto
from wsproto.connection import Connection, ConnectionType

from broker.handshake import BadRequest, Handshake, judge, read_request
from broker.health import HttpAnswer, text_answer
from broker.peer import TOO_MANY_AT_ONCE, Application
from broker.protocol import errors
from broker.wire import Wire
from config import wire_limits

_END_OF_HEAD: Final = b"\r\n\r\n"
_RETRY_AFTER: Final = (("Retry-After", "5"),)
_FAULTS: Final = frozenset({errors.PROTOCOL_VIOLATION, errors.INVALID_TEXT})

_logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WireLife:
    """How connections of one listener live. `head_timeout` in seconds.

    `refusal` says why no WebSocket is welcome now (None: they are), to those who are new or, by
    `has_waited`, who had their turn; health is told regardless.
    """

    application: Application
    head_timeout: float
    max_frame_bytes: int
    allowed_origins: tuple[str, ...]
    refusal: Callable[[bool], str | None]
    count_opened: Callable[[], None]
    count_refused: Callable[[str], None]

    async def run(self, wire: Wire, remote_address: str) -> int:
        """Serve one connection to its end. Returns the close code; raises only Cancelled."""
        peer_code: int | None = None
        try:
            handshake = await self._greet(wire, remote_address)
            if handshake is not None:
                wire.handshake = handshake
                peer_code = await self._serve_websocket(wire)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # lost
        except* Exception:
            _logger.exception("connection_failed", connection=wire.id)
            wire.disconnect(errors.INTERNAL_ERROR)
        finally:
            code = wire.finish(peer_code)
        return code

    async def _greet(self, wire: Wire, remote_address: str) -> Handshake | None:
        """Read and judge the request; None if it was answered, or nothing came."""
        # Nearly always it has come before the connection was accepted: no deadline then.
        data = wire.read_raw_now()
        if data is None or not _is_enough(data):
            with trio.move_on_after(self.head_timeout) as scope:
                data = await _read_head(wire, data or b"")
            if scope.cancelled_caught:
                return None
        verdict = self._judge_head(wire, remote_address, data) if data else None
        if isinstance(verdict, HttpAnswer):
            wire.post(verdict.data)
            await wire.aclose()
            return None
        return verdict

    def _judge_head(self, wire: Wire, remote_address: str, data: bytes) -> Handshake | HttpAnswer:
        head, end, rest = data.partition(_END_OF_HEAD)
        if len(head) > wire_limits.HEAD_BYTES_MAX:
            return _too_long()
        if not end:
            return text_answer(400, "This is no HTTP request; TLS is not spoken here.")
        try:
            request = read_request(head + _END_OF_HEAD)
        except BadRequest as error:
            return text_answer(400, str(error))
        verdict = judge(
            request,
            remote_address=remote_address,
            allowed_origins=self.allowed_origins,
            readiness=self.application.readiness,
        )
        if isinstance(verdict, HttpAnswer):
            return verdict
        refusal = self.refusal(False)
        if refusal is not None:
            return refusal_answer(refusal)
        wire.give_rest(rest)
        return verdict

    async def _serve_websocket(self, wire: Wire) -> int | None:
        """Returns the peer's close code; None if it sent none, or nobody needs it."""
        if not await self._open(wire):
            return None
        upward = await wire.receive_some()
        if wire.is_answered:
            await wire.aclose()
            return None
        return await self._pass_up(wire, upward) if upward else None

    async def _open(self, wire: Wire) -> bool:
        """The handshake when its turn has come; whether there was one."""
        try:
            async with self.application.turn():
                if wire.is_abandoned():
                    self.count_refused("gone")
                    return False
                refusal = self.refusal(True)
                if refusal is None:
                    wire.post(wire.handshake.take_answer())
                    wire.begin(self.application.open_connection(wire))
                    self.count_opened()
                    return True
        except trio.TooSlowError:
            refusal = TOO_MANY_AT_ONCE
            self.count_refused("busy")
        wire.post(refusal_answer(refusal).data)
        await wire.aclose()
        return False

    async def _pass_up(self, wire: Wire, upward: bytes) -> int | None:
        """Let trio-websocket go on from `upward`. Returns the close code that it knows."""
        websocket = trio_websocket.WebSocketConnection(
            wire,
            _Frames(upward),
            message_queue_size=1,
            max_message_size=self.max_frame_bytes,
            receive_buffer_size=None,
        )
        websocket._connection_proposal = None  # no request is waited for
        # The websocket holds the wire; held by it in turn, both would stay until a full collection.
        wire.fault_code = partial(_fault_of, weakref.ref(websocket))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket._reader_task)
                await _pass_messages(websocket, wire)
                if wire.is_ended:
                    # The reader may wait for somebody to take a message: nobody will.
                    nursery.cancel_scope.cancel()
        finally:
            _end_parser(websocket)
        closed = websocket.closed
        return None if closed is None else int(closed.code)


async def _read_head(wire: Wire, data: bytes) -> bytes:
    """What has come and follows, until it can be judged; empty if the peer has gone before."""
    while not _is_enough(data):
        chunk = await wire.read_raw()
        if not chunk:
            return b""
        data += chunk
    return data


def _is_enough(data: bytes) -> bool:
    """Whether this is a whole head, or begins like none, or is too long for one."""
    if _END_OF_HEAD in data or len(data) > wire_limits.HEAD_BYTES_MAX:
        return True
    return bool(data) and not data[:1].isalpha()


def refusal_answer(sentence: str) -> HttpAnswer:
    """What a handshake is answered for which there is no room now."""
    return text_answer(503, sentence, _RETRY_AFTER)


def _too_long() -> HttpAnswer:
    return text_answer(431, f"A request head has at most {wire_limits.HEAD_BYTES_MAX} bytes.")


async def _pass_messages(websocket: trio_websocket.WebSocketConnection, wire: Wire) -> None:
    """Hand on what trio-websocket puts together, until it has closed."""
    try:
        while True:
            await wire.handle_passed_up(await websocket.get_message())
    except (trio_websocket.ConnectionClosed, trio.ClosedResourceError):
        return


class _NoHandshake:
    """Stands for a handshake that is over, in every connection."""

    __slots__ = ()

    def events(self) -> tuple[()]:
        """Nothing more comes of it."""
        return ()


_NO_HANDSHAKE: Final = _NoHandshake()


class _Frames(wsproto.WSConnection):
    """The protocol from behind the handshake on; what speaks HTTP is never made."""

    def __init__(self, upward: bytes) -> None:
        """`upward` has come already."""
        self.client = False
        self.handshake = _NO_HANDSHAKE  # type: ignore[assignment]
        self.connection = Connection(ConnectionType.SERVER, trailing_data=upward)


def _fault_of(reference: weakref.ref[trio_websocket.WebSocketConnection]) -> int | None:
    """Why trio-websocket gave up on the peer's frames: it sends no close frame itself then."""
    websocket = reference()
    closed = None if websocket is None else websocket.closed
    return int(closed.code) if closed is not None and closed.code in _FAULTS else None


def _end_parser(websocket: trio_websocket.WebSocketConnection) -> None:
    # A generator that waits for bytes holds its own object: only a full collection would find them.
    connection = websocket._wsproto.connection
    if connection is not None:
        connection._proto._parse_more.close()
