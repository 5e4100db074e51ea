"""A broker inside the test's own process, for races that must be forced.

Node, hub, connections, scripts and storages are the product's own; only the WebSocket is left out:
a `LocalClient` posts text and gets frames synchronously. A test may replace any call of the
storages on the instances (delay it, fail before it, fail after it), or put a proxy in the way.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import trio

from broker.application import BrokerApplication, guarded
from broker.connection import Connection
from broker.counts import Counts
from broker.domain.access import AccessReader
from broker.domain.changing import Changer
from broker.domain.identity import TokenVerifier
from broker.domain.kept_pages import KeptPages
from broker.domain.marking import Marker
from broker.domain.publishing import Publisher
from broker.fairness import Fairness
from broker.handshake import Handshake
from broker.node import Node
from broker.protocol.events import TimeTexts
from broker.rates import paces_of
from broker.services import Services
from config import limits
from config.metrics import Metrics
from storage.redis.address import parse_redis_url
from storage.redis.keys import user_channel
from tests.support.client import ChatClient
from tests.support.rooms import PROJECT, Storage, fault_settings, key_of, open_storage
from tests.support.seen import ConnectionEnded
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

_numbers = count(1)


class LocalPeer:
    """The broker's side of a `LocalClient`: what the application takes for a WebSocket."""

    def __init__(self, client: "LocalClient", token: str) -> None:
        self.id = f"local-{next(_numbers)}"
        self.handshake = Handshake("/v1/connect", "127.0.0.1", query_token=token)
        self.receiver: Connection | None = None
        self._client = client
        self._is_closed = False

    def post(self, frame: bytes) -> None:
        if not self._is_closed:
            for payload in _payloads(frame):
                self._client.take(json.loads(payload))

    post_soon = post

    def disconnect(self, code: int, reason: str = "") -> None:
        if not self._is_closed:
            self._is_closed = True
            self._client.close_code, self._client.close_reason = code, reason
            assert self.receiver is not None
            self.receiver.handle_closed(code)
            self._client.note_end()

    def pause(self) -> None:
        """Local clients are never too fast."""

    def resume(self) -> None:
        """See `pause`."""


class LocalClient(ChatClient):
    """A `ChatClient` without a socket; frames are taken in the section that posts them."""

    def __init__(self, token: str) -> None:
        super().__init__(None, None)  # type: ignore[arg-type]
        self.peer = LocalPeer(self, token)

    @property
    def connection(self) -> Connection:
        """The broker's object for this client."""
        assert self.peer.receiver is not None
        return self.peer.receiver

    async def send(self, frame: Any) -> None:
        await trio.lowlevel.checkpoint()
        if self.ended.is_set():
            raise ConnectionEnded(self.close_code, self.close_reason)
        self.note_sent(frame)
        self.connection.handle_text(frame if isinstance(frame, str) else json.dumps(frame))

    def take(self, frame: dict[str, Any]) -> None:
        self._take(frame)

    def note_end(self) -> None:
        self.ended.set()
        for waiting in self._waiting.values():
            waiting.close()

    def close(self) -> None:
        """The connection is gone, without a word."""
        self.peer.disconnect(1006)


@dataclass
class LocalBroker:
    """One broker and its storages."""

    storage: Storage
    services: Services
    application: BrokerApplication

    @property
    def node(self) -> Node:
        return self.services.node

    @asynccontextmanager
    async def connect(self, user: str, *, check: bool = True, **claims: Any) -> Any:
        """An authenticated connection of the user."""
        client = LocalClient(make_token(user, **claims))
        client.peer.receiver = Connection(client.peer, self.services)
        client.connection.open()
        try:
            await client.wait(lambda: client.hello, what="hello")
            yield client
        finally:
            client.close()
        client.judge(check=check)

    async def wait_at_rest(self, *rooms: str, deadline: float = 10.0) -> None:
        """Wait until Redis knows exactly what the hub holds, of nodes and of presence."""
        hub, storage = self.node.hub, self.storage

        async def is_at_rest() -> bool:
            if hub.dirty_leaves or hub.dirty_presence:
                return False
            if not storage.store.client.is_connected:
                return False
            for room in rooms:
                held = hub.rooms.get(key_of(room))
                if (self.node.name in await storage.nodes_of(key_of(room))) != (held is not None):
                    return False
                if await storage.online(room) != set(held.users if held else ()):
                    return False
            return True

        await wait_until(is_at_rest, deadline=deadline, what="hub and Redis agree")

    def inbox(self) -> str:
        return f"parley:inbox:{self.node.name}"

    def holds_channel(self, user: str) -> bool:
        return self.node.hub.holds(user_channel(PROJECT, user))


@asynccontextmanager
async def open_broker(
    redis_url: str,
    database_url: str,
    *,
    reader_url: str | None = None,
    audit_interval: float = limits.AUDIT_INTERVAL,
    prepare: Callable[[Storage], None] | None = None,
    **changes: Any,
) -> AsyncIterator[LocalBroker]:
    """Run a broker; `changes` are settings, `reader_url` the Redis that its inbox is read from.

    `prepare` gets the storages before the node starts. What the test raises leaves as itself.
    """
    async with open_storage(redis_url, database_url, name="local-broker", **changes) as storage:
        if prepare is not None:
            prepare(storage)
        settings = fault_settings(redis_url, database_url, **changes)
        access = AccessReader(storage.db)
        metrics = Metrics()
        counts = Counts(metrics)
        node = Node(
            settings,
            store=storage.store,
            db=storage.db,
            access=access,
            seeder=storage.seeder,
            counts=counts,
            metrics=metrics,
            audit_interval=audit_interval,
        )
        if reader_url is not None:
            inbox_server = parse_redis_url(reader_url)
            node.inbox_server = lambda: inbox_server
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:

            def start(work: Callable[[], Awaitable[None]]) -> None:
                nursery.start_soon(guarded(work))

            services = Services(
                settings=settings,
                node=node,
                store=storage.store,
                db=storage.db,
                verifier=TokenVerifier.from_settings(settings),
                access=access,
                pages=KeptPages(settings.room_log_ttl),
                seeder=storage.seeder,
                publisher=Publisher(storage.store.rooms, access, storage.seeder),
                changer=Changer(storage.db, storage.store.rooms, access, storage.seeder),
                marker=Marker(storage.db, storage.store.rooms, access, storage.seeder),
                metrics=metrics,
                counts=counts,
                times=TimeTexts(),
                start=start,
                paces=paces_of(settings.rate_messages_per_second),
                fairness=Fairness(start),
            )
            await nursery.start(node.run)
            nursery.start_soon(services.marker.run)
            try:
                yield LocalBroker(storage, services, BrokerApplication(services))
            except BaseException as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


@contextlib.contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Any:
    """For the block, `owner.name` is `make(what it was)`."""
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _payloads(data: bytes) -> list[bytes]:
    """The payloads of whole unmasked text frames."""
    payloads = []
    at = 0
    while at < len(data):
        assert data[at] == 0x81, "only whole text frames are posted"
        length, start = data[at + 1], at + 2
        if length == 126:
            length, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        elif length == 127:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        payloads.append(data[start : start + length])
        at = start + length
    return payloads
