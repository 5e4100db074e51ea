"""Events for archive tests, and what is in the tables afterwards."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from storage.postgres.archive import BatchResult, lock_partition, write_batch
from storage.postgres.archive_plan import Incoming
from storage.postgres.pool import Database
from storage.redis.entries import Entry, pack_entry

LIFE = "life1"
START_MS = 1_763_000_000_000


async def make_room(database: Database, room: str = "general", *, epoch: str = LIFE, **more) -> int:
    """A room in the given life with the members alice and bob; its pk."""
    columns = {"project": "default", "id": room, "epoch": epoch, **more}
    places = ", ".join(f"${place + 1}" for place in range(len(columns)))
    pk = await database.fetchval(
        f"INSERT INTO rooms ({', '.join(columns)}) VALUES ({places}) RETURNING pk",
        *columns.values(),
    )
    await database.execute(
        "INSERT INTO members (room_pk, user_id, project) "
        "VALUES ($1, 'alice', 'default'), ($1, 'bob', 'default')",
        pk,
    )
    return int(pk)


def message_id(seq: int, salt: int = 0) -> str:
    """The id that `created` gives the message."""
    return str(UUID(int=(salt << 64) + seq, version=4))


def event(
    offset: int,
    name: str,
    data: dict[str, Any] | bytes,
    *,
    seq: int,
    room: str = "general",
    epoch: str = LIFE,
    sender: str | None = "alice",
) -> Incoming:
    """An entry as the archive stream has it; a millisecond an offset."""
    raw_data = data if isinstance(data, bytes) else json.dumps(data).encode()
    raw = pack_entry(
        Entry(epoch, offset, seq, START_MS + offset, name, f"default/{room}", sender, 0, raw_data)
    )
    head, _, body = raw.partition(b"\n")
    words = head.decode().split(" ")
    return Incoming(
        raw,
        Entry(words[0], offset, seq, START_MS + offset, name, words[5], sender, 0, body),
    )


def created(
    offset: int, seq: int, content: str | None = None, *, salt: int = 0, **more: Any
) -> Incoming:
    """A `message.created`; `salt` gives the same seq to another message."""
    fields = {key: more.pop(key) for key in ("room", "epoch", "sender") if key in more}
    data = {
        "id": message_id(seq, salt),
        "room": fields.get("room", "general"),
        "sender": fields.get("sender", "alice"),
        "kind": "text",
        "content": f"message {seq}" if content is None else content,
        "metadata": {},
        "attachments": [],
        "mentions": [],
        "reply_to": None,
        "forwarded_from": None,
        "client_id": None,
    } | more
    return event(offset, "message.created", data, seq=seq, **fields)


async def archive(
    database: Database, events: Iterable[Incoming], partition: int = 0
) -> BatchResult:
    """Write one batch as the archiver does."""
    batch = list(events)
    async with database.open_transaction() as transaction:
        assert await transaction.run(lambda c: lock_partition(c, partition))
        return await transaction.run(lambda c: write_batch(c, batch))


async def archive_cut(
    database: Database, events: Sequence[Incoming], cuts: Iterable[int]
) -> list[BatchResult]:
    """Write the events in batches that end at the given places."""
    results = []
    begin = 0
    for end in [*cuts, len(events)]:
        results.append(await archive(database, events[begin:end]))
        begin = end
    return results


async def read_messages(database: Database, room_pk: int | None = None) -> list[dict[str, Any]]:
    """All messages in order, without the columns that are empty."""
    rows = await database.fetch(
        "SELECT * FROM messages WHERE room_pk = coalesce($1, room_pk) ORDER BY room_pk, seq",
        room_pk,
    )
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


async def read_tables(database: Database) -> dict[str, list[Any]]:
    """Everything the archiver writes, for comparing."""
    tables = {
        "messages": "SELECT * FROM messages ORDER BY room_pk, seq",
        "reactions": "SELECT * FROM reactions ORDER BY room_pk, seq, reaction, user_id",
        "members": "SELECT room_pk, user_id, read_seq, read_at FROM members ORDER BY 1, 2",
        "rooms": "SELECT id, archived_offset, seq, last_message_at FROM rooms ORDER BY pk",
        "dead": "SELECT room, event_offset, seq, event, reason FROM dead_letters ORDER BY 1, 2",
    }
    return {
        name: [tuple(row) for row in await database.fetch(query)] for name, query in tables.items()
    }
