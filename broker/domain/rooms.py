"""Rooms: creating one (or getting the one that is there) and the room object as of now.

- `created_by` becomes owner, except in a direct room, which has two members for good and no owner.
- A direct pair, like an `external_id`, has at most one living room: asking for it again gives that
  room unchanged. A user is given only a room that is visible to it.
- Users create direct and group rooms only, with themselves in it; a key creates what it likes.
- Ids are never used again, not even a deleted room's.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from uuid_utils import uuid7

from broker.domain import roles
from broker.domain.access import AccessReader, Actor
from broker.domain.fields import check_name, check_url, metadata_text
from broker.domain.history import UnarchivedTail
from broker.protocol.errors import ProtocolError
from broker.protocol.events import iso_time
from broker.protocol.ids import is_room_id, is_user_id
from storage.postgres import rooms as rows
from storage.postgres.pool import Database
from storage.postgres.rooms import CreatedRoom, NewRoom
from storage.redis.keys import room_key
from storage.redis.rooms import RoomStore

FOUNDERS_MAX: Final = 100
RETENTION_DAYS_MAX: Final = 36_500


class FounderBody(msgspec.Struct, kw_only=True):
    """A member from the beginning, with another role than the room's default."""

    user: str
    role: Literal["reader", "member", "admin"] | None = None


class RoomBody(msgspec.Struct, kw_only=True):
    """What a room is created from; without `id` it gets a UUIDv7."""

    id: str | None = None
    kind: Literal["direct", "group", "public"] = "group"
    name: str | None = None
    topic: str | None = None
    avatar_url: str | None = None
    external_id: str | None = None
    default_role: Literal["reader", "member", "admin"] = "member"
    frozen: bool = False
    retention_days: Annotated[int, msgspec.Meta(ge=1, le=RETENTION_DAYS_MAX)] | None = None
    metadata: dict[str, Any] | None = None
    created_by: str | None = None
    members: list[str | FounderBody] | None = None


def parse_new_room(body: RoomBody, actor: Actor) -> NewRoom:
    """The checked room with its founders; raises ProtocolError naming the first field at fault."""
    room = str(uuid7()) if body.id is None else body.id
    if not is_room_id(room):
        raise ProtocolError("bad_request", "This is no room id.", "id")
    check_name(body.name, "name")
    check_name(body.topic, "topic")
    check_url(body.avatar_url, "avatar_url")
    check_name(body.external_id, "external_id", may_be_empty=False)
    metadata = metadata_text(body.metadata)
    creator = _creator(body, actor)
    founders = _founders(body, creator)
    direct = None
    if body.kind == "direct":
        if len(founders) != 2:
            raise ProtocolError(
                "bad_request", "A direct room has two different members.", "members"
            )
        low, high = sorted(founders)
        direct = (low, high)
        founders = dict.fromkeys(founders, roles.MEMBER)
    return NewRoom(
        id=room,
        kind=body.kind,
        name=body.name,
        topic=body.topic,
        avatar_url=body.avatar_url,
        external_id=body.external_id,
        default_role=body.default_role,
        frozen=body.frozen,
        retention_days=body.retention_days,
        metadata=metadata,
        created_by=creator,
        direct=direct,
        founders=tuple(founders.items()),
    )


def _creator(body: RoomBody, actor: Actor) -> str | None:
    if body.created_by is not None and not is_user_id(body.created_by):
        raise ProtocolError("bad_request", "This is no user id.", "created_by")
    if actor.user is None:
        return body.created_by
    if body.created_by not in (None, actor.user):
        raise ProtocolError("forbidden", "Only oneself.", "created_by")
    return actor.user


def _founders(body: RoomBody, creator: str | None) -> dict[str, str]:
    founders: dict[str, str] = {}
    given = body.members or []
    if len(given) > FOUNDERS_MAX:
        raise ProtocolError("bad_request", f"At most {FOUNDERS_MAX} members.", "members")
    for item in given:
        founder = FounderBody(user=item) if isinstance(item, str) else item
        if not is_user_id(founder.user):
            raise ProtocolError("bad_request", "A member is named by a user id.", "members")
        founders[founder.user] = founder.role or body.default_role
    # Only a key can create a direct room of two others; the creator is then nobody in it.
    if creator is not None and not (body.kind == "direct" and len(founders) == 2):
        founders[creator] = roles.OWNER
    return founders


def check_may_create(new: NewRoom, actor: Actor, *, token_creates_rooms: bool) -> None:
    """Raise `forbidden` unless the actor may create such a room."""
    if actor.caller != "user":
        return
    if not token_creates_rooms:
        raise ProtocolError("forbidden", "Rooms are created with an API key here.")
    if new.kind == "public":
        raise ProtocolError("forbidden", "Public rooms are created with an API key.", "kind")
    if actor.user not in dict(new.founders):
        raise ProtocolError("forbidden", "Only rooms that one is a member of.", "members")


async def create_room(
    db: Database, access: AccessReader, actor: Actor, new: NewRoom, *, create_users: bool
) -> CreatedRoom:
    """Create the room; the outcome is `created` or `existing`.

    Raises ProtocolError: `not_found` (a member is no user), `conflict` (the id is taken, or the
    `external_id` by a room that the actor may not see), and StorageUnavailable.
    """
    made = await rows.create_room(
        db, actor.project, new, create_users=create_users and actor.caller != "user"
    )
    if made.outcome == "missing":
        names = ", ".join(made.missing[:3])
        raise ProtocolError("not_found", f"There is no user {names}.", "members")
    if made.outcome == "id_taken":
        raise ProtocolError("conflict", "This id is taken.", "id")
    if made.outcome == "existing" and actor.caller == "user":
        found = await access.read(actor.project, made.id, actor.user)
        if found.refusal(roles.Action.READ, actor, made.id) == "room_not_found":
            raise ProtocolError("conflict", "This external_id is taken.", "external_id")
    return made


async def room_object(db: Database, store: RoomStore, project: str, room: str, pk: int) -> bytes:
    """The room as of now: `seq` and `last_message_at` with what is not archived yet."""
    tail = await store.unarchived(room_key(project, room))
    archived = await rows.fetch_room(db, pk)
    if archived is None:
        raise ProtocolError("room_not_found")
    return archived if tail is None else overlay_room(archived, tail)


async def list_rooms(
    db: Database,
    store: RoomStore,
    project: str,
    *,
    kind: str | None,
    external_id: str | None,
    skip: int,
    limit: int,
) -> tuple[int, list[bytes]]:
    """How many rooms there are, and a part of them as objects as of now, oldest first."""
    # Numbers only rise, so here the order of the two reads does not matter: both are merged by
    # taking the newest. A room's own page must have the log first (see `history`).
    total, found = await rows.list_rooms(
        db, project, kind=kind, external_id=external_id, skip=skip, limit=limit
    )
    ends = await store.newest([room_key(project, room) for room, _ in found])
    return total, [
        archived if end is None else overlay_room(archived, end)
        for (_, archived), end in zip(found, ends, strict=True)
    ]


def overlay_room(archived: bytes, tail: UnarchivedTail) -> bytes:
    """The room object with the live counters; the bytes as they are if those say nothing new."""
    room: dict[str, Any] = msgspec.json.decode(archived)
    newest = max((e.ms for e in tail.entries if e.event == "message.created"), default=None)
    seen = room["last_message_at"]
    if newest is not None and (seen is None or seen < iso_time(newest)):
        room["last_message_at"] = iso_time(newest)
    elif tail.seq <= room["seq"]:
        return archived
    room["seq"] = max(room["seq"], tail.seq)
    return msgspec.json.encode(room)
