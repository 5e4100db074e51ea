"""The audit trail: changes of what somebody else wrote, once, and never in a batch's way."""

import json
from typing import Any

from storage.postgres.pool import Database
from tests.storage.postgres.archiving import archive, created, event, make_room, message_id


def changed(offset: int, name: str, *, by: str | None, sender: str | None = "alice") -> Any:
    data = {"id": message_id(1), "seq": 1, "sender": sender, "by": by}
    return event(offset, name, data, seq=1, sender=by)


async def trail(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.fetch(
        "SELECT project, actor, action, entity, detail::text AS detail FROM audit ORDER BY id"
    )
    return [(*tuple(row)[:4], json.loads(row["detail"])) for row in rows]


async def test_only_what_others_did_is_kept_and_once(database: Database):
    await make_room(database)
    batch = [
        created(1, 1),
        changed(2, "message.edited", by="alice"),
        changed(3, "message.edited", by=None),
        changed(4, "message.deleted", by="bob"),
    ]
    entity = f"message:{message_id(1)}"
    detail = {"room": "general", "seq": 1, "sender": "alice"}
    for _ in range(2):
        await archive(database, batch)
        assert await trail(database) == [
            ("default", None, "message.edited", entity, detail),
            ("default", "bob", "message.deleted", entity, detail),
        ]


async def test_what_cannot_be_kept_holds_nothing_up(database: Database):
    await make_room(database)
    batch = [
        created(1, 1),
        changed(2, "message.edited", by="a\0b"),
        event(3, "message.deleted", b"{", seq=1),
        changed(4, "message.edited", by="bob"),
    ]
    result = await archive(database, batch)
    assert result.accepted == 4
    assert [row[1] for row in await trail(database)] == ["bob"]
