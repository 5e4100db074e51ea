"""Edits, deletions and reactions: the same way in for the WebSocket and for REST.

Law of this file:
- A change is decided on the message as it is now, archived or not (`history`), and appended by a
  script that refuses if the message has changed meanwhile in a way that matters (`Premise`). Then
  it is read and decided again. So a deleted message is never edited, nothing is deleted or added
  twice, and no message has more kinds of reactions than allowed, whatever the nodes do at once.
- A change that would change nothing appends nothing and is answered None.
- Roles are read afresh each time: most refusals here need no script that would notice a stale one.
- The order of refusals: the role, then whether the message exists, then whose it is, then its
  state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec
import trio

from broker.domain.access import Access, AccessReader, Actor
from broker.domain.history import find_message
from broker.domain.mending import Mender
from broker.domain.roles import Action
from broker.domain.seeding import Seeder
from broker.protocol.errors import ProtocolError
from broker.protocol.message_changes import MessageEdit
from config import limits
from storage.errors import StorageUnavailable
from storage.postgres.pool import Database
from storage.redis.keys import room_key
from storage.redis.outcomes import Appended, Draft, Premise
from storage.redis.rooms import RoomStore

REACTION_KINDS_MAX: Final = 20
CHANGE_ATTEMPTS: Final = 50
"""Each further one needs somebody else's change of the same message in between, or a mending."""

_encode: Final = msgspec.json.Encoder().encode
_sorted: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class ReactionData(msgspec.Struct, gc=False):
    """`reaction.added` and `reaction.removed`. The premise counts on this order of fields."""

    message_id: str
    seq: int
    user: str
    reaction: str


class Decision(NamedTuple):
    """What to append, and what of the message it rests on."""

    event: str
    data: bytes
    events: tuple[str, ...]
    """After one of these the message has to be read again."""
    own: bytes = b""
    kind: bytes = b""
    spare: int = 2**31


Decide = Callable[[Access, dict[str, Any]], Decision | None]
"""From role and message (deleted content included) to what is to be done; raises ProtocolError."""


class Changer:
    """Changes messages for one process."""

    def __init__(
        self, db: Database, rooms: RoomStore, access: AccessReader, seeder: Seeder
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._access = access
        self._mender = Mender(rooms, access, seeder)

    async def edit(
        self, actor: Actor, room: str, wanted: int | str, edit: MessageEdit
    ) -> Appended | None:
        """Replace the given fields of a message; None if they are so already.

        `wanted` is a seq or an id. Raises ProtocolError (`conflict`: it is deleted; `forbidden`: it
        is somebody else's). Cancelled, it may have happened; repeating is harmless.
        """

        def permit(access: Access) -> None:
            access.require(Action.EDIT_OWN, actor, room)

        def decide(_access: Access, message: dict[str, Any]) -> Decision | None:
            return _decide_edit(actor, message, edit)

        return await self._change(actor, room, wanted, permit, decide)

    async def delete(self, actor: Actor, room: str, wanted: int | str) -> Appended | None:
        """Delete a message; None if it is deleted already. Raises and cancels as `edit` does."""

        def permit(access: Access) -> None:
            if access.refusal(Action.DELETE_OTHERS, actor, room) is not None:
                access.require(Action.DELETE_OWN, actor, room)

        def decide(access: Access, message: dict[str, Any]) -> Decision | None:
            if message["sender"] is None or message["sender"] != actor.user:
                access.require(Action.DELETE_OTHERS, actor, room)
            if message["deleted_at"] is not None:
                return None
            data = _encode(_subject(message, actor))
            return Decision("message.deleted", data, ("message.deleted",))

        return await self._change(actor, room, wanted, permit, decide)

    async def react(
        self, actor: Actor, room: str, wanted: int | str, reaction: str, *, is_added: bool
    ) -> Appended | None:
        """Add the actor's reaction or take it away; None if it is so already.

        Raises ProtocolError (`limit_reached`: too many kinds; `conflict`: reacting to a deleted
        message); cancels as `edit` does.
        """
        if actor.user is None:
            raise ProtocolError("bad_request", "Name the user who reacts.", "user_id")

        def permit(access: Access) -> None:
            access.require(Action.REACT, actor, room)

        def decide(_access: Access, message: dict[str, Any]) -> Decision | None:
            return _decide_reaction(str(actor.user), message, reaction, is_added=is_added)

        return await self._change(actor, room, wanted, permit, decide)

    async def _change(
        self,
        actor: Actor,
        room: str,
        wanted: int | str,
        permit: Callable[[Access], None],
        decide: Decide,
    ) -> Appended | None:
        async def attempt() -> Appended | Decision | None:
            return await self._attempt(actor, room, wanted, permit, decide)

        return await _repeat(attempt)

    async def _attempt(
        self,
        actor: Actor,
        room: str,
        wanted: int | str,
        permit: Callable[[Access], None],
        decide: Decide,
    ) -> Appended | Decision | None:
        """One reading, one decision, one script; the decision itself if it has to be made again."""
        access = await self._access.read(actor.project, room, actor.user)
        permit(access)
        key = room_key(actor.project, room)
        found = await find_message(
            self._db,
            self._rooms,
            key,
            room_pk=access.room_pk,
            wanted=wanted,
            viewer=actor.user,
            reveal=True,
        )
        if found is None:
            raise ProtocolError("message_not_found", field="seq")
        message = _decode(found.body)
        decision = decide(access, message)
        if decision is None:
            return None
        draft = Draft(decision.event, actor.user, access.version, 0, decision.data)
        premise = Premise(
            found.offset,
            message["seq"],
            decision.events,
            decision.own,
            decision.kind,
            decision.spare,
        )
        outcome = await self._rooms.change(key, draft, premise)
        if isinstance(outcome, Appended):
            return outcome
        if outcome.kind != "raced":
            await self._mender.mend(outcome, actor, room, permit)
        return decision


async def _repeat(attempt: Callable[[], Awaitable[Appended | Decision | None]]) -> Appended | None:
    unavailable = ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)
    with trio.move_on_after(limits.PUBLISH_DEADLINE):
        try:
            for _attempt in range(CHANGE_ATTEMPTS):
                outcome = await attempt()
                if not isinstance(outcome, Decision):
                    return outcome
        except StorageUnavailable as error:
            if error.outcome == "unknown":
                unavailable.message = "The outcome is unknown; repeating is harmless."
            raise unavailable from error
    raise unavailable


def _decide_edit(actor: Actor, message: dict[str, Any], edit: MessageEdit) -> Decision | None:
    if actor.caller != "project" and message["sender"] != actor.user:
        raise ProtocolError("forbidden", "Only its sender edits a message.")
    if message["deleted_at"] is not None:
        raise ProtocolError("conflict", "The message is deleted.")
    given: dict[str, Any] = {}
    if edit.content is not None:
        given["content"] = edit.content or None
    if edit.metadata is not None:
        given["metadata"] = edit.metadata
    if edit.attachments is not None:
        given["attachments"] = edit.attachments
    after = message | given
    if after["content"] is None and not after["attachments"]:
        raise ProtocolError("bad_request", "A message has content or attachments.", "content")
    changed = {
        name: value for name, value in given.items() if _sorted(value) != _sorted(message[name])
    }
    if not changed:
        return None
    data = _encode(_subject(message, actor) | changed)
    return Decision("message.edited", data, ("message.edited", "message.deleted"))


def _decide_reaction(
    user: str, message: dict[str, Any], reaction: str, *, is_added: bool
) -> Decision | None:
    if message["deleted_at"] is not None:
        if is_added:
            raise ProtocolError("conflict", "The message is deleted.")
        return None
    kinds = message["reactions"]
    known = kinds.get(reaction)
    if (known is not None and known["mine"]) == is_added:
        return None
    kind, spare = b"", 2**31
    if is_added and known is None:
        spare = REACTION_KINDS_MAX - 1 - len(kinds)
        if spare < 0:
            raise ProtocolError(
                "limit_reached", f"A message has {REACTION_KINDS_MAX} kinds of reactions."
            )
    elif is_added:
        # Should the last one of its kind go meanwhile, this would be a new kind.
        kind = b'"reaction":%b}' % _encode(reaction)
    data = _encode(ReactionData(message["id"], message["seq"], user, reaction))
    return Decision(
        "reaction.added" if is_added else "reaction.removed",
        data,
        ("message.deleted",),
        own=data[data.index(b'"user":') :],
        kind=kind,
        spare=spare,
    )


def _subject(message: dict[str, Any], actor: Actor) -> dict[str, Any]:
    """What every event about a message begins with; the premise counts on `seq` being in it."""
    return {
        "id": message["id"],
        "seq": message["seq"],
        "sender": message["sender"],
        "by": actor.user,
    }
