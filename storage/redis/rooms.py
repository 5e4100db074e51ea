"""Rooms in Redis: publish, change, announce, broadcast and subscribe; marks are in `marks`.

Each method is one script, so it is atomic and, unless it raises `StorageUnavailable` with outcome
``unknown``, done or not done. Refusals come back as values (see `storage.redis.outcomes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from config.limits import LAG_EVENTS_MAX
from storage.redis.channels import ChannelStore
from storage.redis.client import RedisClient
from storage.redis.entries import NOBODY, Entry
from storage.redis.keys import INBOX_PREFIX, Keys, RoomKeys, inbox_key, rooms_of_key
from storage.redis.limits import StoreLimits
from storage.redis.lives import Lives
from storage.redis.outcomes import (
    Appended,
    Draft,
    Premise,
    Refusal,
    Registration,
    Resume,
    Snapshot,
    parse_append,
)
from storage.redis.publish_call import PublishCall, SentExpiries, pack_limits
from storage.redis.script_loader import ScriptSet, run_script

CHANGE_LAG_MAX = 200
"""Events that may come between reading a message and changing it; after more it is read again."""


class RoomStore(ChannelStore):
    """The typed calls; one per process, over the process's command connection."""

    def __init__(
        self,
        client: RedisClient,
        *,
        keys: Keys,
        scripts: ScriptSet,
        lives: Lives,
        limits: StoreLimits,
    ) -> None:
        super().__init__(client, keys=keys, scripts=scripts, lives=lives, limits=limits)
        self._packed_limits = pack_limits(limits)
        self._sent_expiries = SentExpiries()
        self._publish_call: PublishCall | None = None

    def submit_publish(self, keys: RoomKeys, draft: Draft, on_reply: Callable[[Any], None]) -> None:
        """Publish without a task: `on_reply` gets the reply (see `parse_append`) or an error.

        Shares a call with those that were submitted just before, if nothing else was.
        """
        call = self._publish_call
        life = self.lives.ids[keys.partition]
        if call is not None and call.is_open:
            call.add(keys, life, draft, on_reply)
            return
        call = self._open_publish_call()
        call.add(keys, life, draft, on_reply)
        # Only now: one that cannot be packed must not leave a call behind that nobody sends.
        self._publish_call = call
        self._client.submit(call, call.handle_reply)

    def _open_publish_call(self) -> PublishCall:
        return PublishCall(
            self._scripts["publish"], self.keys, self._packed_limits, self._sent_expiries
        )

    async def publish(self, key: str, draft: Draft) -> Appended | Refusal:
        """Append one event. Not idempotent without a digest."""
        keys = self.keys.room(key)
        life = self.lives.ids[keys.partition]
        call = self._open_publish_call()
        call.add(keys, life, draft, _tell_nobody)
        reply = await run_script(self._client, self._scripts["publish"], *call.arguments())
        (outcome,) = call.outcomes(reply)
        if isinstance(outcome, Exception):
            raise outcome
        return self._note(key, life, outcome)

    def _note(self, key: str, life: str, reply: object) -> Appended | Refusal:
        """The reply's meaning; the numbers in it are about to be told."""
        outcome = parse_append(reply)
        if isinstance(outcome, Appended):
            self.answered.note(key, life, outcome.offset, outcome.seq)
        return outcome

    async def change(self, key: str, draft: Draft, premise: Premise) -> Appended | Refusal:
        """Append an event about a message, if the message still is as the premise says."""
        keys = self.keys.room(key)
        life = self.lives.ids[keys.partition]
        limits = self.limits
        reply = await run_script(
            self._client,
            self._scripts["change"],
            (keys.life, keys.room, keys.log, keys.archive, keys.nodes, keys.reads),
            (
                life,
                key,
                draft.event,
                draft.sender or NOBODY,
                draft.version,
                draft.data,
                premise.since,
                f'"seq":{premise.seq},',
                f" {' '.join(premise.events)} ",
                premise.own,
                premise.kind,
                premise.spare,
                CHANGE_LAG_MAX,
                limits.log_length,
                INBOX_PREFIX,
                limits.inbox_max,
                limits.backlog_events,
                limits.backlog_bytes,
            ),
        )
        return self._note(key, life, reply)

    async def announce(
        self, key: str, *, event: str, sender: str | None, version: int, data: bytes
    ) -> Appended | Refusal:
        """Append a committed change; ``Refusal("done")`` if this version has been announced."""
        keys = self.keys.room(key)
        life = self.lives.ids[keys.partition]
        reply = await run_script(
            self._client,
            self._scripts["announce"],
            (keys.life, keys.room, keys.log, keys.archive, keys.nodes, keys.reads),
            (
                life,
                key,
                event,
                sender or NOBODY,
                version,
                data,
                self.limits.log_length,
                INBOX_PREFIX,
                self.limits.inbox_max,
            ),
        )
        return self._note(key, life, reply)

    async def broadcast(self, key: str, *, event: str, sender: str | None, data: bytes) -> None:
        """Hand an ephemeral event to the nodes of a room or user channel. Never stored."""
        keys = self.keys.room(key)
        await run_script(
            self._client,
            self._scripts["broadcast"],
            (keys.nodes,),
            (key, event, sender or NOBODY, data, INBOX_PREFIX, self.limits.inbox_max),
        )

    async def subscribe(
        self, key: str, registration: Registration, resume: Resume | None
    ) -> Snapshot | Refusal:
        """Register the node and the user's presence, and read the position with the missed tail.

        Idempotent: counts are absolute. Cancelled or cut off, it may have happened; the node's next
        word about the room (leave, presence) puts it right.
        """
        keys = self.keys.room(key)
        limits = self.limits
        reply = await run_script(
            self._client,
            self._scripts["subscribe"],
            (
                keys.life,
                keys.room,
                keys.log,
                keys.nodes,
                keys.presence,
                keys.reads,
                inbox_key(registration.node),
                rooms_of_key(registration.node),
                keys.where(registration.user),
            ),
            (
                self.lives.ids[keys.partition],
                key,
                registration.node,
                registration.gen,
                registration.user,
                registration.connections,
                registration.version,
                resume.epoch if resume else "",
                resume.offset if resume else 0,
                registration.lag_from,
                limits.resume_events,
                limits.resume_bytes,
                keys.tag,
                limits.quiet_users,
                INBOX_PREFIX,
                limits.inbox_max,
                LAG_EVENTS_MAX,
            ),
        )
        values = cast("list[Any]", reply)
        if values[0] != b"OK":
            return Refusal(values[0].decode().lower(), values[1] if len(values) > 1 else b"")
        _, epoch, offset, seq, archived, online, reason, tail, lag, read_seq, version = values
        return Snapshot(
            epoch.decode(),
            offset,
            seq,
            archived,
            online,
            reason.decode(),
            tail,
            lag,
            read_seq,
            version,
        )

    def witness(self, partition: int, entries: Iterable[Entry]) -> None:
        """Remember the numbers of events of the present life that this process has only seen."""
        life = self.lives.ids[partition]
        newest = {entry.room: entry for entry in entries if entry.offset and entry.epoch == life}
        for key, entry in newest.items():
            self.answered.note(key, life, entry.offset, entry.seq)

    async def check_lives(self) -> None:
        """Learn of new lives on the present connection."""
        await self.lives.check(self._client)

    async def begin_lives(self) -> None:
        """Begin a new life of every partition: rooms are cold, whoever is subscribed reloads."""
        await self.lives.begin_again(self._client)

    async def refence(self, partition: int) -> None:
        """Verify the partition's life on the present connection and learn it."""
        await self.lives.verify(self._client, [partition])


def _tell_nobody(_outcome: object) -> None:
    """Whoever asked reads the outcome itself."""
