"""Reading a room's log and numbering, and forgetting what is archived."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from redis.exceptions import NoScriptError
from uuid_utils import uuid7

from config.page_limits import PAGE_STAMP_SECONDS
from storage.redis.answered import AnsweredNumbers
from storage.redis.client import RedisClient
from storage.redis.entries import Entry, parse_entry
from storage.redis.keys import Keys, RoomKeys, split_room_key, stamp_key
from storage.redis.limits import StoreLimits
from storage.redis.lives import Lives
from storage.redis.outcomes import RoomEnd, Unarchived
from storage.redis.replies import Reply, pack
from storage.redis.script_loader import ScriptSet, pack_evalsha, run_script
from storage.redis.stand_call import OnStand, StandCall, join_stamp

UNARCHIVED_CHUNK = 1000
"""Entries a call when the tail of a log is read: some 300 KiB, a millisecond of Redis."""
NEWEST_MAX = 50
"""Entries a room when the ends of many logs are read: normally only a few are not archived."""


class RoomLog:
    """The reading half of `storage.redis.rooms.RoomStore`."""

    def __init__(
        self,
        client: RedisClient,
        *,
        keys: Keys,
        scripts: ScriptSet,
        lives: Lives,
        limits: StoreLimits,
    ) -> None:
        self.keys = keys
        self.lives = lives
        self.limits = limits
        self.answered = AnsweredNumbers(keys, lives.ids)
        """What callers were told; whoever publishes without these methods notes it here."""
        self._client = client
        self._scripts = scripts
        self._stand_call: StandCall | None = None

    async def numbering(self, key: str) -> tuple[str, int, int] | None:
        """(epoch, offset, seq) of a room as Redis has it, None if it is not there."""
        keys = self.keys.room(key)
        epoch, offset, seq = cast(
            "list[bytes | None]",
            await self._client.execute("HMGET", keys.room, "epoch", "offset", "seq"),
        )
        if epoch is None or offset is None or seq is None:
            return None
        return epoch.decode(), int(offset), int(seq)

    async def unarchived(self, key: str) -> Unarchived | None:
        """Everything of the room that PostgreSQL may not have; None if the room is not in Redis.

        Read this first and PostgreSQL second: what is flushed in between is then in both, and
        nothing is in neither. Long tails come in chunks; what the archiver trims between two of
        them has been committed before.
        """
        return await self._whole_tail(
            key, await run_script(self._client, self._scripts["unarchived"], *self._tail_of(key))
        )

    async def unarchived_and_stamp(self, key: str) -> tuple[Unarchived | None, bytes]:
        """The same with what pages depend on beside the room (`join_stamp`), in one trip."""
        script, (keys, args) = self._scripts["unarchived"], self._tail_of(key)
        stamp = stamp_key(split_room_key(key)[0])
        life_key = self.keys.life(self.keys.partition(key))
        # The stamp and the life first: what is shown by them must not be older.
        found, life, reply = await self._client.pipeline_packed(
            [pack("GET", stamp), pack("HGET", life_key, "id"), pack_evalsha(script, keys, args)]
        )
        if isinstance(reply, NoScriptError):
            reply = await run_script(self._client, script, keys, args)
        for answer in (found, life, reply):
            if isinstance(answer, Exception):
                raise answer
        joined = join_stamp(cast("bytes | None", life), cast("bytes | None", found))
        return await self._whole_tail(key, reply), joined

    def submit_stand(self, key: str, on_stand: OnStand) -> None:
        """Ask without a task how the room stands; `on_stand` gets it or an error.

        Shares a call with what was asked just before, if nothing else was submitted.
        """
        call = self._stand_call
        if call is not None and call.is_open:
            call.add(key, on_stand)
            return
        script = self._scripts["stands"]
        call = self._stand_call = StandCall(script, self.keys)
        call.add(key, on_stand)
        self._client.submit(call, partial(self._tell_stands, call))

    def _tell_stands(self, call: StandCall, reply: Reply | Exception) -> None:
        if isinstance(reply, NoScriptError):
            # Somebody has flushed the scripts; whoever has asked finds another way this time.
            script = self._scripts["stands"]
            self._client.submit(pack("SCRIPT", "LOAD", script.text), _ignore)
        call.handle_reply(reply)

    async def renew_stamp(self, project: str) -> None:
        """Something that pages of the project show has changed, and no event of a room said so."""
        await self._client.execute("SET", stamp_key(project), uuid7().hex, "EX", PAGE_STAMP_SECONDS)

    def _tail_of(self, key: str) -> tuple[tuple[str, str], tuple[int]]:
        keys = self.keys.room(key)
        return (keys.room, keys.log), (UNARCHIVED_CHUNK,)

    async def _whole_tail(self, key: str, found: object) -> Unarchived | None:
        reply = cast("list[Any]", found)
        if not reply:
            return None
        epoch, offset, seq, archived, version, raw = reply
        entries = [parse_entry(value) for value in raw]
        while len(raw) == UNARCHIVED_CHUNK:
            raw = await self._log_chunk(self.keys.room(key), entries[-1].offset + 1)
            entries.extend(parse_entry(value) for value in raw)
        return Unarchived(epoch.decode(), offset, seq, archived, version, entries)

    async def _log_chunk(self, keys: RoomKeys, first: int) -> list[bytes]:
        reply = await self._client.execute(
            "XRANGE", keys.log, f"{first}-0", "+", "COUNT", UNARCHIVED_CHUNK
        )
        return [fields[1] for _id, fields in cast("list[Any]", reply)]

    async def log_range(self, key: str, first: int, last: int) -> list[Entry]:
        """Log entries with first <= offset <= last that are still there (at most a chunk)."""
        keys = self.keys.room(key)
        reply = await self._client.execute(
            "XRANGE", keys.log, f"{first}-0", f"{last}-0", "COUNT", UNARCHIVED_CHUNK
        )
        return [parse_entry(fields[1]) for _id, fields in cast("list[Any]", reply)]

    async def log_fields(self, key: str) -> list[bytes]:
        """The whole log as it is stored."""
        keys = self.keys.room(key)
        found = chunk = await self._log_chunk(keys, 0)
        while len(chunk) == UNARCHIVED_CHUNK:
            chunk = await self._log_chunk(keys, parse_entry(chunk[-1]).offset + 1)
            found = found + chunk
        return found

    async def newest(self, keys: Sequence[str]) -> list[RoomEnd | None]:
        """The ends of the logs of some rooms: their newest events that PostgreSQL may not have.

        None for a room that is not in Redis. Two round trips at most, however many rooms (some
        hundred). As with `unarchived`, read this first and PostgreSQL second.
        """
        rooms = [self.keys.room(key) for key in keys]
        replies = await self._pipeline(
            [("HMGET", room.room, "offset", "seq", "archived") for room in rooms]
        )
        numbers = [None if reply[0] is None else [int(n) for n in reply] for reply in replies]
        behind = [place for place, found in enumerate(numbers) if found and found[0] > found[2]]
        logs = await self._pipeline(
            [
                ("XREVRANGE", rooms[place].log, "+", f"{numbers[place][2] + 1}-0",  # type: ignore[index]
                 "COUNT", NEWEST_MAX)
                for place in behind
            ]
        )  # fmt: skip
        entries = {
            place: [parse_entry(fields[1]) for _id, fields in reversed(log)]
            for place, log in zip(behind, logs, strict=True)
        }
        return [
            None if found is None else RoomEnd(found[0], found[1], found[2], entries.get(place, []))
            for place, found in enumerate(numbers)
        ]

    async def _pipeline(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        replies = await self._client.pipeline(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def cut_log(self, key: str, offset: int) -> None:
        """Forget the log up to an offset that is archived; who resumes from before it reloads.

        The log is the room's past only: what is not archived lies above. Idempotent.
        """
        log = self.keys.room(key).log
        await self._client.execute("XTRIM", log, "MINID", "=", f"{offset + 1}-0")


def _ignore(_reply: Reply | Exception) -> None:
    pass
