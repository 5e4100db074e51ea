"""A whole deployment of real processes: brokers, api, archiver on one Redis and PostgreSQL.

What integration tests share: starting it, acting on it as a user or with the project's key, waiting
until everything is archived, and looking whether what is stored keeps the invariants.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import trio

from broker.domain.api_keys import create_api_key
from storage.postgres.pool import open_database
from storage.redis.client import open_redis
from storage.redis.fsck import check_rooms
from storage.redis.keys import Keys, room_key
from tests.support.client import ChatClient
from tests.support.http import Response, request
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import RedisServer, fetch
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

PARTITIONS = 16
PROJECT = "default"
# The tests are not about the rates, save those that set them themselves.
FAST = {
    "RATE_MESSAGES_PER_SECOND": "100000",
    "RATE_REQUESTS_PER_SECOND": "100000",
    "IDEMPOTENCY_WINDOW": "10m",
}


@dataclass
class Deployment:
    """Running processes and how to reach them; get it from `start_deployment`."""

    processes: Processes
    redis: RedisServer
    database_url: str
    brokers: list[ServerProcess] = field(default_factory=list)
    api: ServerProcess | None = None
    archiver: ServerProcess | None = None
    key: str = ""

    # --- acting on it -------------------------------------------------------------------------

    def connect(
        self, user: str, node: int = 0, **options: Any
    ) -> AbstractAsyncContextManager[ChatClient]:
        """A connection of the user to one of the brokers."""
        return ChatClient.connect(self.brokers[node].url, make_token(user), **options)

    def connect_with(
        self, user: str, claims: dict[str, Any], node: int = 0
    ) -> AbstractAsyncContextManager[ChatClient]:
        """The same with further claims in the token."""
        return ChatClient.connect(self.brokers[node].url, make_token(user, **claims))

    async def send(
        self, method: str, path: str, body: Any = None, *, user: str | None = None, **options: Any
    ) -> Response:
        """One REST request, by the project's key or as `user` with its token."""
        assert self.api is not None
        if user is None:
            options["key"] = self.key
        else:
            options["token"] = make_token(user)
        return await request(method, self.api.base_url + path, body=body, **options)

    async def ok(self, method: str, path: str, body: Any = None, *, user: str | None = None) -> Any:
        """Send, expect success, return the JSON (None without a body)."""
        answer = await self.send(method, path, body, user=user)
        assert answer.status in (200, 201, 204), (method, path, answer)
        return answer.json() if answer.body else None

    async def create_room(self, room: str, *members: str, **fields: Any) -> None:
        """Create a room with its members."""
        await self.ok("POST", "/v1/rooms", {"id": room, "members": list(members), **fields})

    async def remove_member(self, room: str, user: str) -> Response:
        return await self.send("DELETE", f"{room_path(room)}/members/{quote(user, safe='')}")

    async def post(self, room: str, content: str, user: str, **fields: Any) -> Any:
        """Publish over REST as the user."""
        body = {"content": content, **fields}
        return await self.ok("POST", f"{room_path(room)}/messages", body, user=user)

    async def page(self, room: str, query: str = "", *, user: str | None = None) -> Any:
        """One page of history."""
        return await self.ok("GET", f"{room_path(room)}/messages{query}", user=user)

    async def whole_history(self, room: str, *, limit: int = 100) -> list[dict[str, Any]]:
        """Every message of a room, read forwards by `next`."""
        messages: list[dict[str, Any]] = []
        page = await self.page(room, f"?after=0&limit={limit}")
        while True:
            messages += page["items"]
            if page["next"] is None:
                return messages
            page = await self.ok("GET", page["next"])

    # --- looking at it ------------------------------------------------------------------------

    def archive_backlog(self) -> int:
        """Events that are not in PostgreSQL yet, or not known to be."""
        keys = Keys(PARTITIONS)
        return sum(self.redis.command("XLEN", keys.archive(p)) for p in range(PARTITIONS))

    async def wait_archived(self, deadline: float = 30.0) -> None:
        """Wait until the archive streams are empty."""
        await wait_until(
            lambda: self.archive_backlog() == 0, deadline=deadline, what="everything archived"
        )

    def stored(self, room: str) -> list[dict[str, Any]]:
        """The rows of PostgreSQL for a room's messages, by seq."""
        query = """
            SELECT m.seq, m.id::text AS id, m.event_offset, m.content, m.sender, m.client_id
            FROM messages m JOIN rooms r ON r.pk = m.room_pk
            WHERE r.project = $1 AND r.id = $2 ORDER BY m.seq
        """
        return fetch(self.database_url, query, PROJECT, room)

    def room_hash(self, room: str) -> dict[str, str]:
        """The room's counters in Redis; empty if it is not there."""
        flat = self.redis.command("HGETALL", Keys(PARTITIONS).room(room_key(PROJECT, room)).room)
        return {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}

    async def check_rooms(self, deadline: float = 10.0) -> None:
        """Hold everything in Redis against the invariants, once the archive is empty.

        A room that is written just now may look wrong, so what is found must stay.
        """
        await self.wait_archived()
        async with open_redis(self.redis.url, name="check") as client:
            await client.wait_connected(trio.current_time() + deadline)
            found: list[str] = []

            async def is_healthy() -> bool:
                found[:] = await check_rooms(client, Keys(PARTITIONS))
                return not found

            with trio.move_on_after(deadline):
                await wait_until(is_healthy, deadline=2 * deadline)
        assert found == []
        letters = fetch(self.database_url, "SELECT room, reason FROM dead_letters")
        assert letters == []


async def start_deployment(
    processes: Processes,
    redis: RedisServer,
    database_url: str,
    *,
    brokers: int = 2,
    api: bool = True,
    archiver: bool = True,
    **env: str,
) -> Deployment:
    """Start the processes, all at once, on the given servers; `env` are variables for all."""
    processes.env |= {"REDIS_URL": redis.url, "DATABASE_URL": database_url} | FAST | env
    kinds = ["broker"] * brokers + ["api"] * api + ["archiver"] * archiver
    started: dict[int, ServerProcess] = {}

    async def start(place: int, kind: str) -> None:
        started[place] = await processes.start(kind)

    async with trio.open_nursery() as nursery:
        for place, kind in enumerate(kinds):
            nursery.start_soon(start, place, kind)
    servers = [started[place] for place in range(len(kinds))]
    return Deployment(
        processes,
        redis,
        database_url,
        brokers=[server for server in servers if server.kind == "broker"],
        api=next((server for server in servers if server.kind == "api"), None),
        archiver=next((server for server in servers if server.kind == "archiver"), None),
        key=await make_key(database_url),
    )


async def make_key(database_url: str) -> str:
    """An API key of the default project."""
    async with open_database(database_url, pool_size=1) as db:
        _, key = await create_api_key(db, PROJECT)
        return key


def room_path(room: str) -> str:
    return f"/v1/rooms/{quote(room, safe='')}"


def without(mapping: dict[str, Any], *names: str) -> dict[str, Any]:
    """The mapping without some of its keys."""
    return {name: value for name, value in mapping.items() if name not in names}


def replace(deployment: Deployment, **changes: Any) -> Deployment:
    """The same deployment seen differently, such as with another broker first."""
    return dataclasses.replace(deployment, **changes)


def seqs(messages: Sequence[dict[str, Any]]) -> list[int]:
    """The seq of each message."""
    return [message["seq"] for message in messages]
