"""Check of every room's keys against the invariants (`parley check --rooms`; tests of Redis).

Each problem is one sentence that names the room. Reads only. Meant for a system at rest: a room
that is written while it is read may be reported though nothing is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from storage.redis.client import RedisClient
from storage.redis.entries import Entry, parse_entry
from storage.redis.keys import LEASES_KEY, Keys, RoomKeys
from storage.redis.live import decode_records

SCAN_COUNT = 500
READ_COUNT = 1000


async def check_rooms(client: RedisClient, keys: Keys) -> list[str]:
    """Every broken invariant of every room in Redis; an empty list is health."""
    problems: list[str] = []
    leases = cast("list[bytes]", await client.execute("ZRANGE", LEASES_KEY, 0, -1))
    known_nodes = {node.decode() for node in leases}
    for partition, prefix in enumerate(keys.prefixes):
        waiting = await _waiting_entries(client, keys.archive(partition))
        rooms: set[str] = set()
        async for name in _scan(client, f"{prefix}room:*"):
            key = name[len(prefix) + len("room:") :]
            rooms.add(key)
            problems += await _check_room(client, keys.room(key), key, waiting.get(key, []))
        async for name in _scan(client, f"{prefix}nodes:*"):
            nodes = cast("list[bytes]", await client.execute("HKEYS", name))
            problems += [
                f"{name}: node {node.decode()} has no lease"
                for node in nodes
                if node.decode() not in known_nodes
            ]
        problems += await _check_presence(client, keys, partition, known_nodes)
        problems += [
            f"{key}: {len(entries)} archive entries but no room in Redis"
            for key, entries in waiting.items()
            if key not in rooms
        ]
    return problems


async def _check_presence(
    client: RedisClient, keys: Keys, partition: int, known_nodes: set[str]
) -> list[str]:
    """Every record belongs to a node that is known, and its user's `where` says the same."""
    prefix = keys.prefixes[partition]
    problems = []
    present: set[tuple[str, str]] = set()
    async for name in _scan(client, f"{prefix}presence:*"):
        key = name[len(prefix) + len("presence:") :]
        flat = cast("list[bytes]", await client.execute("HGETALL", name))
        for place in range(0, len(flat), 2):
            user = flat[place].decode()
            present.add((keys.room(key).where(user), key))
            problems += [
                f"{key}: {user} is present on node {node}, which has no lease"
                for node in decode_records(flat[place + 1])
                if node not in known_nodes
            ]
    found: set[tuple[str, str]] = set()
    async for name in _scan(client, f"{prefix}where:*"):
        rooms = cast("list[bytes]", await client.execute("HKEYS", name))
        found.update((name, room.decode()) for room in rooms)
    problems += [f"{key}: {name} does not name it" for name, key in sorted(present - found)]
    problems += [
        f"{key}: {name} names it without presence" for name, key in sorted(found - present)
    ]
    return problems


async def _check_room(
    client: RedisClient, keys: RoomKeys, key: str, waiting: list[tuple[str, Entry]]
) -> list[str]:
    names = ("epoch", "offset", "seq", "archived", "ver")
    read = ("HMGET", keys.room, *names, "base", "marks", "settled")
    values = cast("list[bytes | None]", await client.execute(*read))
    settled, marks, base = values.pop(), values.pop(), int(values.pop() or 0)
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        return [f"{key}: no {', '.join(missing)} in the room hash"]
    offset, seq, archived = (int(cast("bytes", value)) for value in values[1:4])
    problems = []
    if archived > offset:
        problems.append(f"{key}: archived {archived} is above offset {offset}")
    log = await _read_stream(client, keys.log)
    problems += _check_log(key, log, offset=offset, seq=seq, archived=archived, base=base)
    wanted = [entry.offset for _id, entry in log if entry.offset > archived]
    found = [entry.offset for _id, entry in waiting if entry.offset > archived]
    if wanted != found:
        problems.append(
            f"{key}: unarchived in the log {_brief(wanted)}, in the archive {_brief(found)}"
        )
    receipts = [entry_id for entry_id, entry in waiting if entry.offset == 0]
    if (receipts[-1] if receipts else None) != (marks.decode() if marks else None):
        problems.append(f"{key}: marks is {marks!r}, the archive has {len(receipts)} receipts")
    is_archived = archived == offset and not marks
    is_settled = settled == values[1]
    problems += await _check_expiry(
        client,
        keys,
        key,
        is_archived=is_archived,
        is_settled=is_settled,
    )
    return problems


async def _check_expiry(
    client: RedisClient, keys: RoomKeys, key: str, *, is_archived: bool, is_settled: bool
) -> list[str]:
    problems = []
    is_wanted = bool(await client.execute("EXISTS", keys.nodes))
    for name in (keys.room, keys.log, keys.reads):
        expiry = cast("int", await client.execute("PTTL", name))
        if not is_archived and expiry >= 0:
            problems.append(f"{key}: {name} may expire in {expiry} ms before all is archived")
        if is_settled and expiry >= 0:
            problems.append(f"{key}: {name} may expire in {expiry} ms, yet the room is settled")
        if is_archived and not is_wanted and expiry == -1:
            problems.append(f"{key}: everything is archived, yet {name} never expires")
    return problems


def _check_log(
    key: str, log: list[tuple[str, Entry]], *, offset: int, seq: int, archived: int, base: int
) -> list[str]:
    problems = []
    previous: Entry | None = None
    for entry_id, entry in log:
        if entry_id != f"{entry.offset}-0":
            problems.append(f"{key}: log entry {entry_id} says offset {entry.offset}")
        if entry.room != key:
            problems.append(f"{key}: log entry {entry_id} belongs to {entry.room}")
        if previous is not None:
            same_epoch = previous.epoch == entry.epoch
            if entry.offset != previous.offset + 1 and same_epoch:
                problems.append(f"{key}: log jumps from {previous.offset} to {entry.offset}")
            step = entry.seq - previous.seq
            # Floors that were reported late raise the seq, and with it the base; an event that is
            # no message has the raised seq, the next message the one after it.
            if step < 0 or (step > 1 and same_epoch and entry.seq > base + 1):
                problems.append(f"{key}: seq goes from {previous.seq} to {entry.seq}")
        previous = entry
    if previous is None:
        if archived < offset:
            problems.append(f"{key}: {offset - archived} unarchived events but an empty log")
        return problems
    if previous.offset > offset or previous.seq > seq:
        problems.append(f"{key}: the log ends above the room's counters")
    if log[0][1].offset > archived + 1 and archived < offset:
        problems.append(f"{key}: the log begins at {log[0][1].offset}, archived is {archived}")
    return problems


async def _waiting_entries(client: RedisClient, archive: str) -> dict[str, list[tuple[str, Entry]]]:
    waiting: dict[str, list[tuple[str, Entry]]] = {}
    for entry_id, entry in await _read_stream(client, archive):
        waiting.setdefault(entry.room, []).append((entry_id, entry))
    return waiting


async def _read_stream(client: RedisClient, key: str) -> list[tuple[str, Entry]]:
    entries: list[tuple[str, Entry]] = []
    start = "-"
    while True:
        reply = cast(
            "list[Any]",
            await client.execute("XRANGE", key, start, "+", "COUNT", READ_COUNT),
        )
        entries += [(entry_id.decode(), parse_entry(fields[1])) for entry_id, fields in reply]
        if len(reply) < READ_COUNT:
            return entries
        start = f"({entries[-1][0]}"


async def _scan(client: RedisClient, pattern: str) -> AsyncIterator[str]:
    cursor = b"0"
    escaped = pattern.replace("{", "\\{").replace("}", "\\}")
    while True:
        reply = await client.execute("SCAN", cursor, "MATCH", escaped, "COUNT", SCAN_COUNT)
        cursor, names = cast("tuple[bytes, list[bytes]]", reply)
        for name in names:
            yield name.decode()
        if cursor == b"0":
            return


def _brief(offsets: list[int]) -> str:
    if not offsets:
        return "none"
    return f"{len(offsets)} ({offsets[0]} to {offsets[-1]})"
