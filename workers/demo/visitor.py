"""One scripted user's WebSocket, which comes back when it is lost.

A command is repeated until it is answered: publishing carries a `client_id`, the others are
repeatable by nature. Nothing that arrives matters here but the answers.
"""

from __future__ import annotations

import json
from typing import Any, Final

import trio
import trio_websocket

_CALL_TIMEOUT: Final = 20.0
_RETRY_PAUSE: Final = 0.5
_RETRIES_MAX: Final = 40
_REPEATABLE: Final = frozenset({"unavailable", "overloaded", "rate_limited"})


class DemoFailed(Exception):
    """The demo can not go on; the text is one line for the user."""


class Visitor:
    """A user in a room. `run` keeps the connection, `call` waits for one."""

    def __init__(self, url: str, token: str, room: str) -> None:
        self._url = url
        self._token = token
        self._room = room
        self._websocket: trio_websocket.WebSocketConnection | None = None
        self._is_up = trio.Event()
        self._last_id = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any] | None]] = {}

    async def run(self) -> None:
        """Stay connected and subscribed until cancelled. Raises DemoFailed when that is in vain."""
        headers = [(b"authorization", f"Bearer {self._token}".encode())]
        for _ in range(_RETRIES_MAX):
            try:
                async with trio_websocket.open_websocket_url(
                    self._url, extra_headers=headers, max_message_size=2**20
                ) as websocket:
                    await self._serve(websocket)
            except* (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, OSError):
                pass  # the broker restarts, or is not there yet
            self._lose()
            await trio.sleep(_RETRY_PAUSE)
        raise DemoFailed(f"the broker at {self._url} can not be reached")

    async def call(self, type_: str, **fields: Any) -> dict[str, Any]:
        """The result of one command. Raises DemoFailed when it is refused for good."""
        with trio.move_on_after(_CALL_TIMEOUT):
            while True:
                answer = await self._ask(type_, fields)
                if answer is None:
                    continue
                if answer["type"] == "reply":
                    result: dict[str, Any] = answer["result"]
                    return result
                if answer["code"] not in _REPEATABLE:
                    raise DemoFailed(f"{type_} was refused: {answer['message']}")
                await trio.sleep(answer["retry_after"] or _RETRY_PAUSE)
        raise DemoFailed(f"{type_} was not answered within {_CALL_TIMEOUT:g} s")

    async def _ask(self, type_: str, fields: dict[str, Any]) -> dict[str, Any] | None:
        """One attempt; None if the connection was lost before the answer."""
        await self._is_up.wait()
        websocket = self._websocket
        if websocket is None:
            await trio.lowlevel.checkpoint()
            return None
        self._last_id += 1
        sending, receiving = trio.open_memory_channel[dict[str, Any] | None](1)
        self._waiting[self._last_id] = sending
        frame = {"type": type_, "id": self._last_id, "room": self._room, **fields}
        try:
            await websocket.send_message(json.dumps(frame))
        except trio_websocket.ConnectionClosed:
            return None
        return await receiving.receive()

    async def _serve(self, websocket: trio_websocket.WebSocketConnection) -> None:
        subscribe = {"type": "subscribe", "id": 0, "room": self._room}
        await websocket.send_message(json.dumps(subscribe))
        while True:
            frame = json.loads(await websocket.get_message())
            if frame["type"] not in ("reply", "error"):
                continue
            if frame["id"] == 0:
                if frame["type"] == "error":
                    raise DemoFailed(f"the room can not be entered: {frame['message']}")
                self._websocket = websocket
                self._is_up.set()
            elif (waiting := self._waiting.pop(frame["id"], None)) is not None:
                waiting.send_nowait(frame)

    def _lose(self) -> None:
        self._websocket = None
        self._is_up = trio.Event()
        waiting, self._waiting = self._waiting, {}
        for channel in waiting.values():
            channel.send_nowait(None)
