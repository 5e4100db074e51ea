"""The storages when a run is over, read once, and the checker's record of the whole run.

Everything is read beside the proxies, by nobody who is part of the system under fire.
"""

import json
import re
from typing import Any

from storage.redis.entries import parse_entry
from storage.redis.keys import PREFIX, Keys
from tests.faults.storm.notes import Line, Note, Notes
from tests.faults.storm.record import (
    NOTHING,
    Archive,
    Circumstances,
    Connection,
    Data,
    DeadLetterRow,
    KeyOfRedis,
    LogEntry,
    MemberRow,
    MessageRow,
    Operation,
    Outcome,
    ReactionRow,
    Record,
    RoomLog,
    RoomRow,
)
from tests.faults.storm.world import World
from tests.support.deployment import PARTITIONS, PROJECT
from tests.support.servers import fetch

_OUTCOMES: dict[str, Outcome] = {"ok": "ok", "refused": "failed", "unknown": "unknown"}
_ROOMS = """
    SELECT id, epoch, base_offset, base_seq, archived_offset, seq, kind, direct_low,
           direct_high, deleted_at IS NOT NULL AS is_deleted
    FROM rooms WHERE project = $1 ORDER BY id
"""
_MESSAGES = """
    SELECT r.id AS room, m.seq, m.id::text AS id, m.sender, m.kind, m.content, m.client_id,
           m.event_offset, m.last_offset, m.metadata::text AS metadata,
           m.attachments::text AS attachments, m.mentions, m.reply_to,
           m.edited_at IS NOT NULL AS is_edited, m.deleted_at IS NOT NULL AS is_deleted,
           m.deleted_by
    FROM messages m JOIN rooms r ON r.pk = m.room_pk WHERE r.project = $1 ORDER BY r.id, m.seq
"""
_REACTIONS = """
    SELECT r.id AS room, x.seq, x.reaction, x.user_id AS user
    FROM reactions x JOIN rooms r ON r.pk = x.room_pk WHERE r.project = $1
"""
_MEMBERS = """
    SELECT r.id AS room, x.user_id AS user, x.role, x.read_seq, x.delivered_seq
    FROM members x JOIN rooms r ON r.pk = x.room_pk WHERE r.project = $1
"""
_DEAD_LETTERS = """
    SELECT room, epoch, event_offset AS "offset", seq, event, reason, entry FROM dead_letters
"""
_ALL_KEYS = """
    local found, cursor = {}, '0'
    local sizes = {hash = 'HLEN', stream = 'XLEN', zset = 'ZCARD', set = 'SCARD', string = 'STRLEN'}
    repeat
      local page = redis.call('SCAN', cursor, 'COUNT', 1000)
      cursor = page[1]
      for _, key in ipairs(page[2]) do
        local kind = redis.call('TYPE', key).ok
        if sizes[kind] then
          found[#found + 1] = {key, redis.call(sizes[kind], key), redis.call('PTTL', key)}
        end
      end
    until cursor == '0'
    return found
"""
_OF_A_PARTITION = re.compile(r"\{\d+\}:")


def read_archive(database_url: str) -> Archive:
    """Every row that the checker looks at."""
    letters = fetch(database_url, _DEAD_LETTERS)
    return Archive(
        messages=[_message_row(row) for row in fetch(database_url, _MESSAGES, PROJECT)],
        reactions=[ReactionRow(**row) for row in fetch(database_url, _REACTIONS, PROJECT)],
        members=[MemberRow(**row) for row in fetch(database_url, _MEMBERS, PROJECT)],
        rooms=[_room_row(row) for row in fetch(database_url, _ROOMS, PROJECT)],
        dead_letters=[
            DeadLetterRow(
                row["room"].partition("/")[2], row["epoch"], row["offset"], row["seq"],
                row["event"], row["reason"], _said(row["entry"]),
            )
            for row in letters
        ],
    )  # fmt: skip


def _said(raw: bytes) -> Data:
    """What the event of a dead letter says; nothing if it can not be read."""
    try:
        data: Data = json.loads(parse_entry(raw).data)
    except ValueError:
        return NOTHING
    return data


def _message_row(row: dict[str, Any]) -> MessageRow:
    for name in ("metadata", "attachments"):
        row[name] = None if row[name] is None else json.loads(row[name])
    return MessageRow(**row)


def _room_row(row: dict[str, Any]) -> RoomRow:
    low, high = row["direct_low"], row["direct_high"]
    return RoomRow(
        row["id"], row["epoch"], row["base_offset"], row["base_seq"], row["archived_offset"],
        row["seq"], row["kind"], None if low is None else (low, high), row["is_deleted"],
    )  # fmt: skip


def read_logs(world: World, rooms: list[str]) -> list[RoomLog]:
    """What Redis holds of each of these rooms; one that is cold is left out."""
    keys = Keys(PARTITIONS)
    logs = []
    for room in rooms:
        of_room = keys.room(f"{PROJECT}/{room}")
        names = ("epoch", "offset", "seq", "archived")
        values = world.ask("HMGET", of_room.room, *names)
        if values[0] is None:
            continue
        entries = []
        for _, (_, raw) in world.ask("XRANGE", of_room.log, "-", "+"):
            entry = parse_entry(raw)
            entries.append(
                LogEntry(
                    entry.epoch, entry.offset, entry.seq, entry.event, entry.sender,
                    json.loads(entry.data),
                )
            )  # fmt: skip
        epoch, offset, seq, archived = values
        logs.append(
            RoomLog(room, epoch.decode(), int(offset), int(seq), int(archived), tuple(entries))
        )
    return logs


def read_keys(world: World) -> list[KeyOfRedis]:
    """Everything that Redis holds."""
    keys = []
    for raw, size, ttl in world.ask("EVAL", _ALL_KEYS, 0):
        name = raw.decode().removeprefix(PREFIX)
        kind, _, rest = _OF_A_PARTITION.sub("", name, count=1).partition(":")
        expires_in = None if ttl < 0 else ttl / 1000
        keys.append(KeyOfRedis(kind, rest.removeprefix(f"{PROJECT}/"), size, expires_in))
    return keys


def make_record(world: World, notes: Notes, circumstances: Circumstances) -> Record:
    """The record of a run that is over."""
    archive = read_archive(world.database_url)
    return Record(
        operations=[_operation(note) for note in notes.operations],
        connections=[_connection(line) for line in notes.lines if line.frames],
        logs=read_logs(world, [row.room for row in archive.rooms]),
        archive=archive,
        keys=read_keys(world),
        circumstances=circumstances,
    )


def _operation(note: Note) -> Operation:
    answer = note.result if isinstance(note.result, dict) else {}
    if note.kind == "history" and "items" in answer:
        answer = {"messages": answer["items"]}
    return Operation(
        note.kind, note.user, note.room, note.begun, note.ended, _OUTCOMES[note.outcome],
        note.connection, note.code, note.asked, answer,
    )  # fmt: skip


def _connection(line: Line) -> Connection:
    return Connection(
        line.name, line.user, line.node, line.opened, line.frames, line.closed, line.close_code,
        line.is_reading,
    )  # fmt: skip
