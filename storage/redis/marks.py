"""Read and delivered marks in Redis, and what else an unread count needs of a room.

`reads:R` maps a user to `<seq> <ms>` of the read mark and `/<user>` to the same of the delivered
mark, where that is the higher one. A read mark is also what publishing moves. PostgreSQL gets each
move by way of the archive stream; until then the room does not expire, afterwards the marks live
as long as the room does. A new life may find marks older than PostgreSQL's: `//<user>` is the life
in which `mark` was last told what PostgreSQL has (scripts/mark.lua).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from redis.exceptions import NoScriptError

from config.limits import LAG_EVENTS_MAX, RECEIPT_INTERVAL, RECEIPT_STATE_TTL
from storage.redis.keys import INBOX_PREFIX
from storage.redis.outcomes import Mark, Marked, Refusal, UnreadInputs
from storage.redis.script_loader import pack_evalsha, run_script
from storage.redis.seeding import SeedStore

ANY_VERSION = 2**53 - 1


class UserMarks(NamedTuple):
    """One user's marks as far as Redis knows them; seq -1: not known, ms 0: no time known."""

    read: int = -1
    read_ms: int = 0
    delivered: int = -1
    delivered_ms: int = 0


class MarkStore(SeedStore):
    """The marking part of `storage.redis.rooms.RoomStore`."""

    async def mark(self, key: str, mark: Mark) -> Marked | Refusal:
        """Move a user's mark. Idempotent: marks never go back."""
        keys = self.keys.room(key)
        limits = self.limits
        reply = await run_script(
            self._client,
            self._scripts["mark"],
            (
                keys.life, keys.room, keys.log, keys.archive, keys.nodes, keys.presence,
                keys.reads, keys.told,
            ),
            (
                self.lives.ids[keys.partition],
                key,
                mark.user,
                mark.version,
                mark.read,
                mark.delivered,
                mark.read_floor,
                mark.delivered_floor,
                int(RECEIPT_INTERVAL * 1000),
                int(RECEIPT_STATE_TTL * 1000),
                limits.quiet_users,
                INBOX_PREFIX,
                limits.inbox_max,
                limits.backlog_events,
                limits.backlog_bytes,
            ),
        )  # fmt: skip
        values = cast("list[Any]", reply)
        if type(values[0]) is not int:
            return Refusal(values[0].decode().lower(), values[1] if len(values) > 1 else b"")
        read, delivered, seq, moved, told, wait_ms = values
        return Marked(read, delivered, seq, bool(moved), bool(told), wait_ms)

    async def tell(self, key: str, user: str) -> Marked | Refusal:
        """Tell the room of marks that were held back, if the time has come; marks nothing.

        Where the user's marks are not known (any more), nothing is told: refused as `unknown`.
        """
        return await self.mark(key, Mark(user, ANY_VERSION))

    async def unread_inputs(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[UnreadInputs]:
        """For each (R, users) what counting their unread messages needs; one round trip.

        Read this first and PostgreSQL second, as with `unarchived`.
        """
        script = self._scripts["unread_inputs"]
        calls: list[tuple[tuple[str, str, str], tuple[int | str, ...]]] = []
        for key, users in asked:
            room = self.keys.room(key)
            args: tuple[int | str, ...] = (LAG_EVENTS_MAX, self.limits.resume_bytes, *users)
            calls.append(((room.room, room.log, room.reads), args))
        replies = await self._client.pipeline_packed(
            [pack_evalsha(script, keys, given) for keys, given in calls]
        )
        found = []
        for (keys, given), reply in zip(calls, replies, strict=True):
            if isinstance(reply, NoScriptError):
                reply = await run_script(self._client, script, keys, given)
            if isinstance(reply, Exception):
                raise reply
            offset, seq, lag, marks = cast("list[Any]", reply)
            found.append(UnreadInputs(offset, seq, lag, [_parse_mark(m)[0] for m in marks]))
        return found

    async def user_marks(self, key: str, users: Sequence[str]) -> list[UserMarks]:
        """The marks of these users, as far as Redis knows them."""
        if not users:
            return []
        fields = [field for user in users for field in (user, f"/{user}")]
        reply = await self._client.execute("HMGET", self.keys.room(key).reads, *fields)
        values = [_parse_mark(value) for value in cast("list[Any]", reply)]
        marks = []
        for read, delivered in zip(values[::2], values[1::2], strict=True):
            # A read message has been delivered, at the latest then.
            marks.append(UserMarks(*read, *max(read, delivered)))
        return marks


def _parse_mark(value: bytes | None) -> tuple[int, int]:
    if not value:
        return -1, 0
    seq, ms = value.split(b" ")
    return int(seq), int(ms)
