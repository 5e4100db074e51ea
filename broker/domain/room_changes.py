"""Changing and deleting rooms.

A change commits with its announcement, then it is announced, then it is answered (see `members`).
Who may change what is decided under the room's row lock. A deleted room is gone for tokens; the
project still sees it, and asking it to delete again changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from broker.domain.access import Access, Actor
from broker.domain.fields import check_name, check_url, metadata_text
from broker.domain.members import RoomAnnouncer, require_action
from broker.domain.roles import Action
from broker.domain.rooms import RETENTION_DAYS_MAX
from broker.protocol.errors import ProtocolError
from storage.errors import StorageRefused
from storage.postgres import room_changes as rows
from storage.postgres.pool import Database
from storage.postgres.room_locks import RoomFacts

Unset = msgspec.UnsetType


class RoomPatch(msgspec.Struct, kw_only=True):
    """What to change of a room: given fields replace, null empties; a room keeps its kind."""

    name: str | Unset | None = msgspec.UNSET
    topic: str | Unset | None = msgspec.UNSET
    avatar_url: str | Unset | None = msgspec.UNSET
    external_id: str | Unset | None = msgspec.UNSET
    default_role: Literal["reader", "member", "admin"] | Unset = msgspec.UNSET
    frozen: bool | Unset = msgspec.UNSET
    retention_days: Annotated[int, msgspec.Meta(ge=1, le=RETENTION_DAYS_MAX)] | Unset | None = (
        msgspec.UNSET
    )
    metadata: dict[str, Any] | Unset | None = msgspec.UNSET


def parse_room_patch(patch: RoomPatch) -> dict[str, Any]:
    """The fields to set; raises ProtocolError naming the first at fault."""
    fields = {
        name: value
        for name in rows.EDITABLE
        if (value := getattr(patch, name)) is not msgspec.UNSET
    }
    check_name(fields.get("name"), "name")
    check_name(fields.get("topic"), "topic")
    check_url(fields.get("avatar_url"), "avatar_url")
    check_name(fields.get("external_id"), "external_id", may_be_empty=False)
    if "metadata" in fields:
        metadata_text(fields["metadata"])
        fields["metadata"] = fields["metadata"] or {}
    return fields


class RoomChanges:
    """Changes rooms for one process."""

    def __init__(self, db: Database, announcer: RoomAnnouncer) -> None:
        self._db = db
        self._announcer = announcer

    async def update(self, actor: Actor, room: str, access: Access, fields: dict[str, Any]) -> None:
        """Set the fields. Raises ProtocolError (`conflict`: the `external_id` is taken) and
        StorageUnavailable (it may have been done; repeat)."""

        def permit(facts: RoomFacts) -> None:
            require_action(facts, Action.EDIT_ROOM, actor, room)

        try:
            await rows.update_room(self._db, access.room_pk, fields, by=actor.user, permit=permit)
        except StorageRefused as refused:
            if refused.constraint != "rooms_external_id":
                raise
            raise ProtocolError("conflict", "This external_id is taken.", "external_id") from None
        await self._announcer.drain_room(actor.project, room)

    async def delete(self, actor: Actor, room: str, access: Access) -> None:
        """Delete the room; repeating it is harmless. Raises as `update` does."""

        def permit(facts: RoomFacts) -> None:
            if not (facts.deleted and actor.caller == "project"):
                require_action(facts, Action.DELETE_ROOM, actor, room)

        await rows.delete_room(self._db, access.room_pk, by=actor.user, permit=permit)
        await self._announcer.drain_room(actor.project, room)
