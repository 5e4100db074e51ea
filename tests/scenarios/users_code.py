"""What somebody writes who replaces an older chat service by Parley: plain HTTP, plain WebSocket.

Nothing of the product is imported here: a backend has an address and an API key, a client has an
address and a token, and the `websockets` library is a client as any other.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from tests.support.http import Response, request

_PATIENCE = 15.0


@dataclass(frozen=True)
class Rest:
    """Somebody who sends requests: a backend with its key, or a user with a token."""

    url: str
    key: str | None = None
    token: str | None = None

    def with_token(self, token: str) -> "Rest":
        return replace(self, key=None, token=token)

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await request(
            method, self.url + path, body=body, key=self.key, token=self.token, headers=sent
        )

    async def get(self, path: str) -> Any:
        return await self._done("GET", path, None, 200)

    async def post(self, path: str, body: Any = None, status: int = 201) -> Any:
        return await self._done("POST", path, body, status)

    async def patch(self, path: str, body: Any) -> Any:
        return await self._done("PATCH", path, body, 200)

    async def put(self, path: str, body: Any = None) -> Any:
        return await self._done("PUT", path, body, 204)

    async def delete(self, path: str) -> None:
        await self._done("DELETE", path, None, 204)

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """The status and the code of the problem."""
        answer = await self.send(method, path, body)
        assert answer.headers["content-type"] == "application/problem+json", (path, answer)
        return answer.status, answer.json()["code"]

    async def _done(self, method: str, path: str, body: Any, status: int) -> Any:
        answer = await self.send(method, path, body)
        assert answer.status == status, (method, path, answer)
        return answer.json() if answer.body else None


class Live:
    """A user's client on the WebSocket; get it from `live`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self._unseen: list[dict[str, Any]] = []

    async def call(self, type_: str, **fields: Any) -> Any:
        """Send a command; its result, or its error's code."""
        self._last_id += 1
        await self._socket.send(json.dumps({"type": type_, "id": self._last_id, **fields}))
        while True:
            frame = await self._receive()
            if frame.get("id") == self._last_id:
                return frame["result"] if frame["type"] == "reply" else frame["code"]
            self._unseen.append(frame)

    async def event(self, name: str, **like: Any) -> Any:
        """The data of the next event of this name (whose data has these values); it is seen now.

        Events of other names stay unseen.
        """
        passed: list[dict[str, Any]] = []
        while True:
            frame = self._unseen.pop(0) if self._unseen else await self._receive()
            if frame.get("event") == name and like.items() <= frame["data"].items():
                self._unseen = passed + self._unseen
                return frame["data"]
            passed.append(frame)

    async def ended(self, room: str) -> str:
        """The code with which the subscription of a room ends."""
        while True:
            frame = self._unseen.pop(0) if self._unseen else await self._receive()
            if frame["type"] == "unsubscribed" and frame["room"] == room:
                return str(frame["code"])

    async def closed(self) -> int | None:
        """Wait for the end of the connection; its close code."""
        with trio.fail_after(_PATIENCE), contextlib.suppress(ConnectionClosed):
            while True:
                await self._socket.recv()
        return self._socket.close_code

    def unseen(self, name: str) -> list[Any]:
        """The events of this name that have come and were not asked for yet."""
        return [frame["data"] for frame in self._unseen if frame.get("event") == name]

    async def _receive(self) -> dict[str, Any]:
        with trio.fail_after(_PATIENCE):
            frame: dict[str, Any] = json.loads(await self._socket.recv())
        return frame


@asynccontextmanager
async def live(url: str, token: str) -> AsyncIterator[Live]:
    """Connect with a token and wait until the server greets."""
    async with connect(f"{url}?token={token}") as socket:
        client = Live(socket)
        hello = json.loads(await socket.recv())
        assert hello["type"] == "hello"
        yield client


@dataclass(frozen=True)
class Site:
    """What its operator knows of a running Parley: addresses, and the key of an own project."""

    api: str
    brokers: tuple[str, ...]
    key: str

    @property
    def backend(self) -> Rest:
        return Rest(self.api, key=self.key)

    async def token(self, user: str, **body: Any) -> str:
        """A token for a user, as the backend gets it."""
        made = await self.backend.post(f"/v1/users/{user}/token", body or None, 200)
        return str(made["token"])

    async def create_users(self, *users: str) -> None:
        """Tell the project about its users."""
        for user in users:
            await self.backend.post("/v1/users", {"id": user, "display_name": user.title()})

    async def as_user(self, user: str) -> Rest:
        return self.backend.with_token(await self.token(user))

    @asynccontextmanager
    async def live(self, user: str, broker: int = 0) -> AsyncIterator[Live]:
        async with live(self.brokers[broker], await self.token(user)) as client:
            yield client
