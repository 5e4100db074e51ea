"""Publishing a message: the same way in for the WebSocket and for REST.

The script decides; what each of its refusals asks for is done in `mending`. A publish is never sent
twice by us after its outcome became unknown: only the client can know whether its `client_id` makes
that safe, so it is told `unavailable` and repeats. Refusals are no outcomes: nothing was written,
and the same message (same id) is tried again after the cause was mended.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import trio
from uuid_utils import uuid7

from broker.domain.access import Access, AccessReader, Actor
from broker.domain.mending import APPEND_ATTEMPTS, Mender
from broker.domain.roles import Action
from broker.domain.seeding import Seeder, sent_digest
from broker.protocol.errors import ProtocolError
from broker.protocol.message_draft import Attachment, MessageDraft
from config import limits
from storage.errors import StorageUnavailable
from storage.redis.keys import room_key
from storage.redis.outcomes import Appended, Draft, Refusal
from storage.redis.rooms import RoomStore

_SYSTEM_REFUSED = "Only the project writes system messages."


class MessageData(msgspec.Struct, gc=False):
    """What is known of a message before it has a place; `protocol.events` stamps the rest."""

    id: str
    room: str
    sender: str | None
    kind: str
    content: str | None
    metadata: dict[str, Any]
    attachments: list[Attachment]
    mentions: list[str]
    reply_to: int | None
    forwarded_from: dict[str, Any] | None
    client_id: str | None


class Published(NamedTuple):
    """The answer to a publish."""

    message_id: str
    seq: int
    offset: int
    created_ms: int
    duplicate: bool
    data: bytes
    """The message as it was appended (see `MessageData`); empty for a duplicate."""


_encode = msgspec.json.Encoder().encode


def draft_event(
    key: str,
    room: str,
    sender: str | None,
    draft: MessageDraft,
    version: int,
    forwarded_from: dict[str, Any] | None = None,
) -> Draft:
    """The event that the draft becomes, with a fresh message id."""
    message_id = str(uuid7())
    reply_to = draft.reply_to
    if reply_to is not None and reply_to < 1:
        raise ProtocolError("message_not_found", field="reply_to")
    data = _encode(
        MessageData(
            message_id,
            room,
            sender,
            draft.kind,
            draft.content,
            draft.metadata or {},
            draft.attachments or [],
            draft.mentions or [],
            reply_to,
            forwarded_from,
            draft.client_id,
        )
    )
    digest = b""
    if draft.client_id is not None:
        digest = sent_digest(key, sender or "", draft.client_id)
    return Draft("message.created", sender, version, 1, data, digest, message_id, reply_to or 0)


def parse_sent(packed: bytes) -> Published:
    """The first answer of a client_id, as the script remembered it."""
    message_id, seq, offset, ms = packed.decode().split(" ")
    return Published(message_id, int(seq), int(offset), int(ms), True, b"")


def refuse_publish(error: StorageUnavailable) -> ProtocolError:
    """What a client is told when storage went away under its publish: it may have happened."""
    sentence = (
        "The outcome is unknown; repeat with the same client_id."
        if error.outcome == "unknown"
        else None
    )
    return ProtocolError("unavailable", sentence, retry_after=limits.UNAVAILABLE_RETRY_AFTER)


class Publisher:
    """Publishes for one process."""

    def __init__(self, rooms: RoomStore, access: AccessReader, seeder: Seeder) -> None:
        self._rooms = rooms
        self._access = access
        self._mender = Mender(rooms, access, seeder)

    async def publish(
        self,
        actor: Actor,
        room: str,
        draft: MessageDraft,
        forwarded_from: dict[str, Any] | None = None,
    ) -> Published:
        """Publish as the actor (sender: its user, or nobody for the project).

        Raises ProtocolError: what the role refuses, `message_not_found` (reply_to), `overloaded`,
        `unavailable`. Cancelled, it may have happened.
        """
        key = room_key(actor.project, room)
        with trio.move_on_after(limits.PUBLISH_DEADLINE):
            try:
                access = self._access.known(key, actor.user)
                if access is None or access.refusal(Action.PUBLISH, actor, room) is not None:
                    # Nothing is refused on a remembered role: it may have risen since.
                    access = await self._access.read(actor.project, room, actor.user)
                access.require(Action.PUBLISH, actor, room)
                if draft.kind == "system" and actor.caller == "user":
                    raise ProtocolError("forbidden", _SYSTEM_REFUSED, "kind")
                event = draft_event(key, room, actor.user, draft, access.version, forwarded_from)
                return await self._append(actor, room, key, event)
            except StorageUnavailable as error:
                raise refuse_publish(error) from error
        raise ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)

    async def finish(
        self, actor: Actor, room: str, event: Draft, refusal: Refusal | Appended | None
    ) -> Published:
        """Go on with an event that the script has refused (None: that it did not know).

        Raises as `publish` does.
        """
        try:
            if isinstance(refusal, Refusal):
                if refusal.kind == "sent":
                    return parse_sent(refusal.detail)
                event = await self._mend(refusal, actor, room, event)
            return await self._append(actor, room, room_key(actor.project, room), event)
        except StorageUnavailable as error:
            raise refuse_publish(error) from error

    async def _append(self, actor: Actor, room: str, key: str, event: Draft) -> Published:
        for _attempt in range(APPEND_ATTEMPTS):
            outcome = await self._rooms.publish(key, event)
            if isinstance(outcome, Appended):
                return Published(
                    message_id=event.message_id,
                    seq=outcome.seq,
                    offset=outcome.offset,
                    created_ms=outcome.ms,
                    duplicate=False,
                    data=event.data,
                )
            if outcome.kind == "sent":
                return parse_sent(outcome.detail)
            event = await self._mend(outcome, actor, room, event)
        raise ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)

    async def _mend(self, refusal: Refusal, actor: Actor, room: str, event: Draft) -> Draft:
        if refusal.kind == "noref":
            raise ProtocolError("message_not_found", field="reply_to")

        def permit(access: Access) -> None:
            access.require(Action.PUBLISH, actor, room)

        access = await self._mender.mend(refusal, actor, room, permit)
        return event if access is None else event._replace(version=access.version)
