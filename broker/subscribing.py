"""The `subscribe` command: register, resume, and go live without missing or repeating an event.

The rules: everything that PostgreSQL must say is read before the script, but for the page of
`history`, so that the hold is short. The hold begins in the synchronous section that queues the
script. The reply is posted before the first event that is not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from broker.domain import roles
from broker.domain.access import Access
from broker.domain.history import PageQuery, load_page
from broker.domain.unread import Reader, Unread, UnreadSoFar
from broker.protocol.commands import Subscribe
from broker.protocol.errors import ProtocolError
from broker.repairs import RESYNC_SENTENCE
from broker.services import Services
from config import limits
from storage.redis.keys import room_key
from storage.redis.outcomes import Refusal, Registration, Resume, Snapshot

if TYPE_CHECKING:
    from broker.connection import Connection

SUBSCRIBE_ATTEMPTS = 20
"""Stale, cold, fenced and lost may follow each other; the command's deadline is the end."""

ENDED = "ended"
"""The subscription ended between its script and the answer; whether it may begin is read again."""

FRAME_MARGIN = 16 * 1024
"""Room for the rest of a reply beside its page or tail."""

_encode = msgspec.json.Encoder().encode


class Subscribing:
    """One `subscribe` of one connection."""

    def __init__(self, connection: Connection, services: Services, command: Subscribe) -> None:
        self._connection = connection
        self._services = services
        self._command = command
        self._user = connection.user
        self._key = room_key(connection.actor.project, command.room)

    async def run(self) -> None:
        """Answer the command. Raises ProtocolError and StorageUnavailable; nothing is left then."""
        for _attempt in range(SUBSCRIBE_ATTEMPTS):
            access, unread = await self._read()
            if self._connection.is_closed:
                return
            refusal = await self._try(access, unread)
            if refusal is None:
                return
            await self._mend(refusal)
        raise ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)

    async def _read(self) -> tuple[Access, UnreadSoFar | None]:
        room = self._command.room
        actor = self._connection.actor
        access, archived = await self._services.access.read_and_count(
            actor.project, room, self._user
        )
        access.require(roles.Action.READ, self._connection.actor, room)
        if archived is None:
            return access, None
        return access, UnreadSoFar(Reader(self._key, access.room_pk, self._user), archived)

    async def _try(self, access: Access, so_far: UnreadSoFar | None) -> Refusal | None:
        node = self._services.node
        hub = node.hub
        since = self._command.since
        # The token may have been refreshed since: what counts is what it gives in this section.
        actor = self._connection.actor
        access.require(roles.Action.READ, actor, self._command.room)
        capabilities = actor.capabilities_in(self._command.room)
        needs_member = not roles.is_allowed(roles.Action.READ, access.kind, None, capabilities)
        self._connection.note_subscription(self._key, access.kind)
        room, hold = hub.begin(self._key, self._connection, needs_member=needs_member)
        try:
            outcome = await self._services.store.rooms.subscribe(
                self._key,
                Registration(
                    node.name,
                    hub.next_gen(),
                    self._user,
                    hub.connection_count(self._key, self._user),
                    access.version,
                    so_far.archived.archived_offset if so_far is not None else -1,
                ),
                Resume(since.epoch, since.offset) if since is not None else None,
            )
            if isinstance(outcome, Refusal):
                hub.abandon(room, self._connection, hold)
                return outcome
            unread = await self._finish_unread(so_far, outcome)
            messages = await self._load_messages(access, outcome)
        except BaseException:
            hub.abandon(room, self._connection, hold)
            raise
        if room.held.get(self._connection) is not hold:
            # It has ended meanwhile: connection gone, user removed, room to be resynced.
            hub.repeat_leave(self._key, self._user)
            return None if self._connection.is_closed else Refusal(ENDED)
        hub.note_online(room, outcome.online)
        if since is not None:
            self._services.metrics.resumes.labels(outcome.reason or "recovered").inc()
        reply = self._encode_reply(access, unread, outcome, messages)
        self._connection.allowance.charge_answer(len(reply))
        self._connection.reply(self._command.id, reply)
        if not room.go_live(
            self._connection,
            hold,
            epoch=outcome.epoch,
            offset=outcome.offset,
            seq=outcome.seq,
        ):
            hub.remove(self._key, self._connection)
            self._connection.end_subscription(self._key, "resync", RESYNC_SENTENCE)
        return None

    async def _finish_unread(self, so_far: UnreadSoFar | None, snapshot: Snapshot) -> Unread | None:
        if so_far is None:
            return None
        return await so_far.finish(
            self._services.db,
            snapshot.lag,
            offset=snapshot.offset,
            seq=snapshot.seq,
            read_seq=snapshot.read_seq,
        )

    async def _load_messages(self, access: Access, snapshot: Snapshot) -> bytes:
        count = self._command.history
        recovered = self._command.since is not None and not snapshot.reason
        if not count or recovered:
            return b"[]"
        # Nothing newer than the snapshot: the client gets that as events.
        page = await load_page(
            self._services.db,
            self._services.store.rooms,
            self._key,
            room_pk=access.room_pk,
            query=PageQuery(
                limit=count,
                before=snapshot.seq + 1,
                bytes_max=limits.SERVER_FRAME_BYTES_MAX - FRAME_MARGIN,
            ),
            viewer=self._user,
        )
        return page.items

    def _encode_reply(
        self, access: Access, unread: Unread | None, snapshot: Snapshot, messages: bytes
    ) -> bytes:
        resumed = self._command.since is not None
        head = _encode(
            {
                "room": self._command.room,
                "epoch": snapshot.epoch,
                "offset": snapshot.offset,
                "seq": snapshot.seq,
                "role": access.role,
                "members_online": snapshot.online,
                "unread": None if unread is None else unread.unread,
                "read_seq": None if unread is None else unread.read_seq,
                "recovered": resumed and not snapshot.reason,
                "reason": snapshot.reason or None,
            }
        )
        events = self._services.missed.frame(self._key, snapshot.tail, self._services.times)
        return b'%b,"events":%b,"messages":%b}' % (head[:-1], events, messages)

    async def _mend(self, refusal: Refusal) -> None:
        match refusal.kind:
            case "cold":
                await self._services.seeder.warm(self._key)
            case "fenced":
                rooms = self._services.store.rooms
                await rooms.refence(rooms.keys.partition(self._key))
            case "lost":
                # The heartbeat will find out; until then the node's new name is waited for.
                await trio.sleep(limits.REPAIR_RETRY_AFTER)
            case "gone":
                raise ProtocolError("room_not_found")
            case "stale" | "ended":
                pass
            case other:
                raise AssertionError(f"subscribe knows no refusal {other!r}")
