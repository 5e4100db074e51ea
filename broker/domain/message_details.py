"""What else can be asked about one message, archived or not: its room, who reacted to it.

The law of `history` holds: what only Redis has is read first, PostgreSQL second, and then what lies
above PostgreSQL's watermark is applied.
"""

from __future__ import annotations

from broker.domain.history import UnarchivedReader
from broker.domain.message_rows import reactions_of
from broker.protocol.events import iso_time
from storage.postgres.message_details import ReactionRow, find_room, read_reactions
from storage.postgres.pool import Database
from storage.redis.archive import ArchiveStore
from storage.redis.keys import split_room_key


async def find_room_of(
    db: Database, archive: ArchiveStore, project: str, message_id: str
) -> str | None:
    """The room of a message of the project, None if there is no such message.

    Raises StorageUnavailable. A message that is flushed meanwhile is found at the second look.
    """
    room = await find_room(db, project, message_id)
    if room is not None:
        return room
    return await find_unarchived_room(db, archive, project, message_id)


async def find_unarchived_room(
    db: Database, archive: ArchiveStore, project: str, message_id: str
) -> str | None:
    """The same of one that PostgreSQL did not have at the first look."""
    key = await archive.find_message(message_id)
    if key is not None:
        owner, room = split_room_key(key)
        return room if owner == project else None
    return await find_room(db, project, message_id)


async def list_reactions(
    db: Database,
    rooms: UnarchivedReader,
    key: str,
    *,
    room_pk: int,
    seq: int,
    skip: int,
    limit: int,
) -> tuple[int, list[ReactionRow]]:
    """How many reactions a message has, and a part of them, oldest first.

    Whether the message exists and is not deleted is the caller's question.
    """
    tail = await rooms.unarchived(key)
    events = [] if tail is None else reactions_of(tail.entries, seq)
    apart = list(dict.fromkeys((data.reaction, data.user) for _, data in events))
    archived = await read_reactions(db, room_pk, seq, skip=skip, limit=limit, apart=apart)
    if archived is None:
        return 0, []
    found = {(row.reaction, row.user): row for row in archived.apart}
    for entry, data in events:
        if entry.offset <= archived.archived_offset:
            continue
        name = (data.reaction, data.user)
        if entry.event == "reaction.removed":
            found.pop(name, None)
        elif name not in found:
            found[name] = ReactionRow(data.user, data.reaction, iso_time(entry.ms))
    newest = sorted(found.values(), key=lambda row: (row.created_at, row.user, row.reaction))
    missing = limit - len(archived.items)
    first = max(0, skip - archived.total)
    return archived.total + len(newest), archived.items + newest[first : first + missing]
