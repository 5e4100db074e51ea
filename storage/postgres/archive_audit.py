"""The audit trail of messages: who changed what somebody else had written.

Written with the batch that applies the change, so exactly once. Changes of one's own are in the
message itself and leave no row. What cannot be read or stored is left to the dead letters: a row
here must never hold up a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from storage.postgres.archive_plan import Accepted
from storage.redis.keys import split_room_key

if TYPE_CHECKING:
    import asyncpg

_ACTIONS: Final = ("message.edited", "message.deleted")
_MS_MAX: Final = 10**14
_INSERT: Final = """
INSERT INTO audit (project, actor, action, entity, detail, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[],
                     $6::timestamptz[])
"""


class _Changed(msgspec.Struct, gc=False):
    id: str
    seq: int
    sender: str | None = None
    by: str | None = None


class AuditRow(NamedTuple):
    """A row of `audit`; `entity` is `message:<id>`, an actor of None the project itself."""

    project: str
    actor: str | None
    action: str
    entity: str
    detail: str
    created_at: datetime


_decode: Final = msgspec.json.Decoder(_Changed).decode
_encode: Final = msgspec.json.Encoder().encode


def audit_rows(accepted: Iterable[Accepted]) -> list[AuditRow]:
    """What the trail keeps of a batch; what may have been applied before is left out."""
    rows: list[AuditRow] = []
    for _room_pk, incoming, is_late in accepted:
        entry = incoming.entry
        if entry.event not in _ACTIONS or is_late or not 0 <= entry.ms < _MS_MAX:
            continue
        try:
            data = _decode(entry.data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        if data.by == data.sender or "\0" in f"{data.id}{data.by}{data.sender}":
            continue
        project, room = split_room_key(entry.room)
        detail = _encode({"room": room, "seq": data.seq, "sender": data.sender}).decode()
        at = datetime.fromtimestamp(entry.ms / 1000, UTC)
        rows.append(AuditRow(project, data.by, entry.event, f"message:{data.id}", detail, at))
    return rows


async def keep_audit(connection: asyncpg.Connection, rows: list[AuditRow]) -> None:
    """Add the rows, in the transaction of their batch."""
    if rows:
        await connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))
