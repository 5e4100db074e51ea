"""Any history of a room, cut into any batches, repeated and fenced anywhere: the same tables.

The model applies the events one by one, as a client would; the archive must end with the same
content however the events reached it (HAZARDS A3, B13).
"""

from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.postgres.archive_plan import Incoming
from storage.postgres.pool import Database, open_database
from tests.storage.postgres.archiving import START_MS, archive, created, event, make_room

ROOM_NUMBERS = count()
USERS = ("alice", "bob")

operations = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "edit", "edit", "delete", "add", "remove"]),
        st.integers(1, 6),
        st.sampled_from(USERS),
        st.sampled_from(["content", "metadata", "attachments"]),
        # A fence before this event: a new life goes on above everything.
        st.sampled_from([False] * 9 + [True]),
    ),
    min_size=1,
    max_size=30,
)
# How the archiver gets along: (events taken, events repeated before them, events already
# published beyond them).
steps = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 6), st.integers(0, 12)), min_size=40, max_size=40
)


class Model:
    """A room's messages and reactions by the contract's rules, one event at a time."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.life = 1
        self.offset = 0
        self.messages: dict[int, dict[str, Any]] = {}
        self.reactions: dict[tuple[int, str, str], int] = {}
        self.events: list[Incoming] = []
        self.bases = {1: 0}

    def apply(self, kind: str, target: int, user: str, field: str, fence: bool) -> None:
        if fence:
            self.life += 1
            self.bases[self.life] = self.offset
        self.offset += 1
        if kind == "create" or not self.messages:
            self._create(target, user)
            return
        # Brokers refuse whatever points to a message that is not there.
        seq = 1 + target % len(self.messages)
        message = self.messages[seq]
        is_open = message["deleted"] is None
        if kind == "edit":
            value = {
                "content": f"edit {self.offset}",
                "metadata": {"n": self.offset},
                "attachments": [],
            }[field]
            self._emit("message.edited", {"seq": seq, field: value}, user)
            if is_open:
                message[field] = value
                message["edited"] = message["last"] = self.offset
        elif kind == "delete":
            self._emit("message.deleted", {"seq": seq, "by": user}, user)
            if is_open:
                message["deleted"] = message["last"] = self.offset
                message["by"] = user
        else:
            name = "reaction.added" if kind == "add" else "reaction.removed"
            self._emit(name, {"seq": seq, "user": user, "reaction": "+1"}, user)
            if is_open and kind == "add":
                self.reactions.setdefault((seq, "+1", user), self.offset)
            elif is_open:
                self.reactions.pop((seq, "+1", user), None)

    def _create(self, target: int, user: str) -> None:
        seq = len(self.messages) + 1
        reply_to = target if target < seq else None
        self.messages[seq] = {
            "content": f"m{seq}", "metadata": {}, "attachments": [], "replies": 0, "edited": None,
            "deleted": None, "by": None, "last": self.offset,
        }  # fmt: skip
        if reply_to is not None:
            self.messages[reply_to]["replies"] += 1
        self.events.append(
            created(
                self.offset, seq, f"m{seq}", reply_to=reply_to, room=self.room, sender=user,
                epoch=f"life{self.life}",
            )
        )  # fmt: skip

    def _emit(self, name: str, data: dict[str, Any], user: str) -> None:
        self.events.append(
            event(
                self.offset, name, data, seq=len(self.messages), room=self.room, sender=user,
                epoch=f"life{self.life}",
            )
        )  # fmt: skip


async def archived(database: Database, pk: int) -> tuple[dict[int, Any], Any]:
    rows = await database.fetch(
        """
        SELECT seq, content, coalesce(metadata::text, '{}') AS metadata,
               coalesce(attachments::text, '[]') AS attachments, reply_count, deleted_by,
               last_offset,
               (extract(epoch FROM edited_at) * 1000)::bigint - $2 AS edited,
               (extract(epoch FROM deleted_at) * 1000)::bigint - $2 AS deleted
        FROM messages WHERE room_pk = $1
        """,
        pk,
        START_MS,
    )
    reactions = await database.fetch(
        "SELECT seq, reaction, user_id, (extract(epoch FROM created_at) * 1000)::bigint - $2 "
        "FROM reactions WHERE room_pk = $1",
        pk,
        START_MS,
    )
    return (
        {
            row["seq"]: {
                "content": row["content"],
                "metadata": row["metadata"],
                "attachments": row["attachments"],
                "replies": row["reply_count"],
                "edited": row["edited"],
                "deleted": row["deleted"],
                "by": row["deleted_by"],
                "last": row["last_offset"],
            }
            for row in rows
        },
        {(seq, reaction, user): offset for seq, reaction, user, offset in reactions},
    )


def texts(messages: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The model's JSON columns as jsonb prints them."""
    shown = {}
    for seq, message in messages.items():
        metadata = message["metadata"]
        text = f'{{"n": {metadata["n"]}}}' if metadata else "{}"
        shown[seq] = message | {"metadata": text, "attachments": "[]"}
    return shown


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=operations, progress=steps)
async def test_any_history_in_any_batches(database_url: str, history, progress):
    # Opened here: an async fixture would end with the first example.
    async with open_database(database_url, pool_size=2) as database:
        room = f"room{next(ROOM_NUMBERS)}"
        model = Model(room)
        for operation in history:
            model.apply(*operation)
        pk = await make_room(database, room)
        await archive_all(database, pk, model, progress)
        messages, reactions = await archived(database, pk)
        assert messages == texts(model.messages)
        assert reactions == model.reactions
        read = await database.fetch("SELECT user_id, read_seq FROM members WHERE room_pk = $1", pk)
        senders = dict.fromkeys(USERS, 0)
        for incoming in model.events:
            if incoming.entry.event == "message.created":
                senders[incoming.entry.sender or ""] = incoming.entry.seq
        assert {row["user_id"]: row["read_seq"] for row in read} == senders


async def archive_all(database: Database, pk: int, model: Model, progress: Any) -> None:
    done = 0
    for taken, repeated, ahead in progress:
        if done >= len(model.events):
            break
        end = min(done + taken, len(model.events))
        published = model.events[min(end + ahead, len(model.events)) - 1]
        life = published.entry.epoch
        await database.execute(
            "UPDATE rooms SET epoch = $2, base_offset = $3 WHERE pk = $1",
            pk,
            life,
            model.bases[int(life.removeprefix("life"))],
        )
        result = await archive(database, model.events[max(0, done - repeated) : end])
        assert result.dead == []
        assert result.gaps == []
        assert result.rooms == [(f"default/{model.room}", end)]
        done = end
