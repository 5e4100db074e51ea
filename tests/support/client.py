"""A WebSocket chat client for tests: not fast, but it keeps and checks everything it receives.

It holds the protocol's promises against the server while it receives: durable events of a room
come in offset order without a hole and without repetition after its subscribe reply, and nothing
of a room comes outside of a subscription. A breach is collected in `breaches` and raised when the
client is left (`check=False` for tests that expect breaches, or look themselves). Every frame is
held against `docs/asyncapi.yaml` too; what does not fit is in `misfits` and always raised.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import trio
import trio_websocket

from tests.support.asyncapi import frame_fault
from tests.support.seen import ChatError, ConnectionEnded, Event, Position, RoomView
from tests.support.waiting import wait_until

__all__ = ["ChatClient", "ChatError", "ConnectionEnded", "Event", "Position", "RoomView"]

_ANSWER_DEADLINE = 15.0


class ChatClient:
    """One connection; get it from `ChatClient.connect`."""

    def __init__(
        self, connection: trio_websocket.WebSocketConnection, stream: trio.SocketStream
    ) -> None:
        self.websocket = connection
        """The trio-websocket connection, for tests that send what they like."""
        self._stream = stream
        self.hello: dict[str, Any] | None = None
        self.frames: list[dict[str, Any]] = []
        """Every frame received, in order."""
        self.rooms: dict[str, RoomView] = defaultdict(RoomView)
        self.unsubscribed: list[dict[str, Any]] = []
        self.drain: dict[str, Any] | None = None
        self.errors: list[dict[str, Any]] = []
        """Error frames without an id."""
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.breaches: list[str] = []
        self.misfits: list[str] = []
        """Frames that are not as documented."""
        self.ended = trio.Event()
        self._last_id = 0
        self._waiting: dict[Any, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._subscribing: dict[Any, tuple[str, Position | None]] = {}
        self._unsubscribing: dict[Any, str] = {}
        self._sent: dict[Any, str | None] = {}
        self.commands: dict[Any, dict[str, Any]] = {}
        """Subscribes and unsubscribes by their ids: what a reply answers."""

    @staticmethod
    @asynccontextmanager
    async def connect(
        url: str,
        token: str | None = None,
        *,
        way: str = "query",
        hello: bool = True,
        check: bool = True,
        headers: list[tuple[bytes, bytes]] | None = None,
        subprotocols: list[str] | None = None,
    ) -> AsyncIterator["ChatClient"]:
        """Connect, pass the token by `query`, `header` or `frame`, and wait for `hello`.

        Raises ConnectionEnded when the server closes instead.
        """
        target = urlsplit(url)
        resource = f"{target.path}?{target.query}" if target.query else target.path
        sent = list(headers or [])
        if token is not None and way == "header":
            sent.append((b"authorization", f"Bearer {token}".encode()))
        if token is not None and way == "query":
            resource += f"{'&' if target.query else '?'}token={token}"
        failure: BaseException | None = None
        stream = await trio.open_tcp_stream(target.hostname or "", target.port or 80)
        async with stream, trio.open_nursery() as nursery:
            # The test's own exception must leave as itself, not as a group of one.
            try:
                connection = await trio_websocket.wrap_client_stream(
                    nursery,
                    stream,
                    target.netloc,
                    resource,
                    extra_headers=sent,
                    subprotocols=subprotocols,
                    message_queue_size=1000,
                    max_message_size=2**24,
                )
                client = ChatClient(connection, stream)
                nursery.start_soon(client._receive)
                await client._sign_in(token, way, hello)
                yield client
                with trio.move_on_after(2):
                    await connection.aclose()
            except BaseException as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        client.judge(check=check)

    def judge(self, *, check: bool) -> None:
        """Raise AssertionError for frames that were not as they should be."""
        faults = self.misfits + (self.breaches if check else [])
        if faults:
            raise AssertionError("; ".join(faults))

    async def _sign_in(self, token: str | None, way: str, hello: bool) -> None:
        if token is not None and way == "frame":
            await self.call("auth", token=token)
        if token is not None and hello:
            await self.wait(lambda: self.hello, what="hello")

    async def send(self, frame: Any) -> None:
        """Send text or bytes as they are, anything else as JSON."""
        self.note_sent(frame)
        message = frame if isinstance(frame, str | bytes) else json.dumps(frame)
        try:
            await self.websocket.send_message(message)
        except trio_websocket.ConnectionClosed:
            await self.ended.wait()
            raise ConnectionEnded(self.close_code, self.close_reason) from None

    def note_sent(self, frame: Any) -> None:
        """Remember what a reply to this frame answers; of an id that is used twice, nothing."""
        if isinstance(frame, dict) and isinstance(frame.get("id"), int | str):
            identity, type_ = frame["id"], frame.get("type")
            is_new = identity not in self._sent or self._sent[identity] == type_
            self._sent[identity] = type_ if is_new else None
            if type_ in ("subscribe", "unsubscribe"):
                self.commands[identity] = frame

    async def call(self, type_: str, **fields: Any) -> dict[str, Any]:
        """Send a command and wait for its answer: the result, or ChatError raised.

        Raises ConnectionEnded when the connection ends first. Cancelled: outcome unknown.
        """
        self._last_id += 1
        identity = self._last_id
        answers, waiting = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[identity] = answers
        if type_ == "unsubscribe":
            self._unsubscribing[identity] = fields["room"]
        if type_ == "subscribe":
            since = fields.get("since")
            position = Position(**since) if isinstance(since, dict) and len(since) == 2 else None
            self._subscribing[identity] = (fields["room"], position)
        try:
            await self.send({"type": type_, "id": identity, **fields})
            if self.ended.is_set():
                raise ConnectionEnded(self.close_code, self.close_reason)
            with trio.fail_after(_ANSWER_DEADLINE):
                answer = await waiting.receive()
        except trio.EndOfChannel:
            raise ConnectionEnded(self.close_code, self.close_reason) from None
        finally:
            self._waiting.pop(identity, None)
        if answer["type"] == "error":
            raise ChatError(answer)
        result: dict[str, Any] = answer["result"]
        return result

    async def subscribe(self, room: str, **fields: Any) -> dict[str, Any]:
        return await self.call("subscribe", room=room, **fields)

    async def resume(self, room: str, since: Position | None = None) -> dict[str, Any]:
        """Subscribe with `since`: the given position, or where this client is in the room."""
        position = since or self.rooms[room].position
        assert position is not None, f"no position in {room}"
        return await self.call("subscribe", room=room, since=position.as_since())

    async def publish(self, room: str, content: str, **fields: Any) -> dict[str, Any]:
        return await self.call("publish", room=room, content=content, **fields)

    def messages(self, room: str) -> list[dict[str, Any]]:
        """The messages whose `message.created` was received, in order."""
        return [event.data for event in self.rooms[room].events if event.event == "message.created"]

    async def wait(self, condition: Any, *, deadline: float = 10.0, what: str = "") -> Any:
        """`wait_until`, ended early by the end of the connection."""

        def look() -> Any:
            answer = condition()
            if not answer and self.ended.is_set():
                raise ConnectionEnded(self.close_code, self.close_reason)
            return answer

        return await wait_until(look, deadline=deadline, what=what)

    async def wait_messages(self, room: str, count: int, *, deadline: float = 10.0) -> None:
        """Wait until `count` messages of the room were received."""
        await self.wait(
            lambda: len(self.messages(room)) >= count,
            deadline=deadline,
            what=f"{count} messages in {room}",
        )

    async def wait_event(self, room: str, event: str, *, deadline: float = 10.0) -> Event:
        """The first event of that kind in the room, waiting for it if need be."""

        def find() -> Event | None:
            return next((seen for seen in self.rooms[room].events if seen.event == event), None)

        found: Event = await self.wait(find, deadline=deadline, what=f"{event} in {room}")
        return found

    async def wait_ended(self, *, deadline: float = 10.0) -> int | None:
        """Wait for the end of the connection; its close code."""
        with trio.fail_after(deadline):
            await self.ended.wait()
        return self.close_code

    async def vanish(self) -> None:
        """End the TCP connection without a close frame."""
        await self._stream.aclose()

    async def _receive(self) -> None:
        try:
            while True:
                text = await self.websocket.get_message()
                self._take(json.loads(text))
        except trio_websocket.ConnectionClosed as closed:
            if closed.reason is not None:
                self.close_code = closed.reason.code
                self.close_reason = closed.reason.reason
        finally:
            self.ended.set()
            for waiting in self._waiting.values():
                waiting.close()

    def _take(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        fault = frame_fault(frame, self._sent.get(frame.get("id")))
        if fault is not None:
            self.misfits.append(fault)
        match frame["type"]:
            case "hello":
                self.hello = frame
            case "reply" | "error" if frame["id"] is not None:
                self._take_answer(frame)
            case "error":
                self.errors.append(frame)
            case "event":
                self._take_event(frame)
            case "unsubscribed":
                self.unsubscribed.append(frame)
                self.rooms[frame["room"]].is_subscribed = False
            case "drain":
                self.drain = frame

    def _take_answer(self, frame: dict[str, Any]) -> None:
        room, since = self._subscribing.pop(frame["id"], (None, None))
        if room is not None and frame["type"] == "reply":
            self._take_subscription(room, since, frame["result"])
        left = self._unsubscribing.pop(frame["id"], None)
        if left is not None and frame["type"] == "reply":
            self.rooms[left].is_subscribed = False
        waiting = self._waiting.pop(frame["id"], None)
        if waiting is not None:
            waiting.send_nowait(frame)

    def _take_subscription(self, room: str, since: Position | None, result: dict[str, Any]) -> None:
        view = self.rooms[room]
        view.is_subscribed = True
        view.position = None
        if result["recovered"] and since is not None:
            view.position = Position(result["epoch"], since.offset)
            for body in result["events"]:
                self._keep(view, Event(room=room, **body))
            if view.position.offset != result["offset"]:
                self.breaches.append(
                    f"{room}: recovered up to {view.position.offset}, not {result['offset']}"
                )
        view.position = Position(result["epoch"], result["offset"])

    def _take_event(self, frame: dict[str, Any]) -> None:
        if frame["event"].startswith("notification."):
            # Of the user, not of a subscription: see `frames`.
            return
        view = self.rooms[frame["room"]]
        known = {name: frame.get(name) for name in ("event", "room", "offset", "time", "data")}
        event = Event(**known)  # type: ignore[arg-type]
        if not view.is_subscribed:
            self.breaches.append(f"{event.room}: {event.event} outside of a subscription")
        self._keep(view, event)

    def _keep(self, view: RoomView, event: Event) -> None:
        view.events.append(event)
        if event.offset is None or view.position is None:
            return
        if event.offset != view.position.offset + 1:
            self.breaches.append(
                f"{event.room}: offset {event.offset} after {view.position.offset}"
            )
        view.position = Position(view.position.epoch, event.offset)
