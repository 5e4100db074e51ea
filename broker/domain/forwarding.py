"""Forwarding: a copy of a message in another room, which says who wrote it first and when.

The copy never names the room that it came from (its readers may not know that one). Kind, content,
metadata and attachments go along; mentions and the message that was answered do not. Of what was
forwarded before, the first sender stays named.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.domain.access import AccessReader, Actor
from broker.domain.history import UnarchivedReader, load_message
from broker.domain.publishing import Published, Publisher
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from broker.protocol.message_draft import Attachment, MessageDraft, check_draft
from storage.postgres.pool import Database
from storage.redis.keys import room_key

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Forwarder:
    """Forwards messages for one process."""

    def __init__(
        self,
        db: Database,
        rooms: UnarchivedReader,
        access: AccessReader,
        publisher: Publisher,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._access = access
        self._publisher = publisher

    async def forward(
        self,
        actor: Actor,
        room: str,
        wanted: int | str,
        target: str,
        client_id: str | None = None,
    ) -> Published:
        """Publish a copy of the message into `target`, as the actor.

        Raises ProtocolError (what reading here and publishing there refuse; `conflict`: it is
        deleted) and StorageUnavailable. Cancelled, it may have happened.
        """
        access = await self._access.read(actor.project, room, actor.user)
        access.require(Action.READ, actor, room)
        body = await load_message(
            self._db,
            self._rooms,
            room_key(actor.project, room),
            room_pk=access.room_pk,
            wanted=wanted,
        )
        if body is None:
            raise ProtocolError("message_not_found")
        message = _decode(body)
        if message["deleted_at"] is not None:
            raise ProtocolError("conflict", "The message is deleted.")
        draft = MessageDraft(
            content=message["content"],
            attachments=msgspec.convert(message["attachments"], list[Attachment]),
            kind=message["kind"],
            metadata=message["metadata"],
            client_id=client_id,
        )
        check_draft(draft)
        origin = message["forwarded_from"] or {
            "sender": message["sender"],
            "created_at": message["created_at"],
        }
        return await self._publisher.publish(actor, target, draft, origin)
