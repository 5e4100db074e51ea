"""Telling users what happens in their rooms, subscribed or not: `notification.*`.

Law of this file:
- A notification is a hint on the user's own channel: it is stored nowhere, and a client that was
  away learns the same from `GET /v1/me/rooms`. Only who is connected somewhere costs anything.
- Nothing is told to who is no member: members are read after the change that is told of.
- New messages are told behind the archive, never by the publish: the newest of a room and turn.
  In a room of more than NOTIFIED_MEMBERS_MAX members only who is mentioned is told, since every
  turn would read all members, and those who follow such a room subscribe to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from broker.domain.rooms import overlay_room
from broker.domain.unread import Reader, count_unread
from broker.protocol.text import cut_utf8
from config.limits import NOTIFIED_AT_ONCE, NOTIFIED_MEMBERS_MAX
from storage.postgres.notified import list_notified, list_users
from storage.postgres.pool import Database
from storage.postgres.rooms import fetch_room
from storage.redis.channels import Notification
from storage.redis.entries import Entry
from storage.redis.keys import room_key, split_room_key
from storage.redis.rooms import RoomStore

CONTENT_BYTES: Final = 200
_encode: Final = msgspec.json.Encoder().encode


class NewMessage(msgspec.Struct, gc=False):
    """What a notification needs of a message."""

    seq: int
    sender: str | None
    kind: str
    content: str | None
    mentions: list[str]


class _Data(msgspec.Struct, gc=False):
    kind: str = "text"
    content: str | None = None
    mentions: list[str] = []


class _Subject(msgspec.Struct, gc=False):
    user: str
    reason: str = "removed"


_decode: Final = msgspec.json.Decoder(_Data).decode
_decode_subject: Final = msgspec.json.Decoder(_Subject).decode


def new_message(entry: Entry) -> NewMessage:
    """The part of a `message.created` that is told."""
    data = _decode(entry.data)
    content = None if data.content is None else cut_utf8(data.content, CONTENT_BYTES)
    return NewMessage(entry.seq, entry.sender, data.kind, content, data.mentions)


class _Told(NamedTuple):
    """A room's newest message and whom it is told."""

    project: str
    room: str
    room_pk: int
    newest: NewMessage
    mentioned: frozenset[str]
    users: list[str]

    def describe(self, user: str, unread: int) -> dict[str, Any]:
        """The data of the notification."""
        newest = self.newest
        return {
            "seq": newest.seq,
            "sender": newest.sender,
            "kind": newest.kind,
            "content": newest.content,
            "mentioned": user in self.mentioned,
            "unread": unread,
        }


class Notifier:
    """Notifies users for one process. Every method raises StorageUnavailable; repeating is safe."""

    def __init__(self, db: Database, rooms: RoomStore) -> None:
        self._db = db
        self._rooms = rooms

    async def tell_change(self, key: str, room_pk: int, event: str, data: bytes) -> None:
        """Tell whom an announced change of a room makes a member, or no member any more."""
        if event == "member.added":
            await self.tell_added(key, room_pk, [_decode_subject(data).user])
        elif event == "member.removed":
            subject = _decode_subject(data)
            await self._tell_removed(key, [subject.user], subject.reason)
        elif event == "room.deleted":
            after = ""
            while users := await list_users(self._db, room_pk, after, NOTIFIED_AT_ONCE):
                await self._tell_removed(key, users, "deleted")
                after = users[-1]

    async def tell_added(self, key: str, room_pk: int, users: Sequence[str]) -> None:
        """Tell users that they are members of a further room."""
        project, room = split_room_key(key)
        connected = await self._rooms.connected(project, users)
        body = await fetch_room(self._db, room_pk) if connected else None
        if body is None:
            return
        end = (await self._rooms.newest([key]))[0]
        data = b'{"room":%b}' % (body if end is None else overlay_room(body, end))
        await self._rooms.notify(
            project, room, [Notification(user, "notification.added", data) for user in connected]
        )

    async def _tell_removed(self, key: str, users: Sequence[str], reason: str) -> None:
        project, room = split_room_key(key)
        data = _encode({"reason": reason})
        connected = await self._rooms.connected(project, users)
        await self._rooms.notify(
            project, room, [Notification(user, "notification.removed", data) for user in connected]
        )

    async def tell_read(
        self, project: str, room: str, user: str, *, read_seq: int, unread: int
    ) -> None:
        """Tell a user's connections that it has read a room up to here."""
        data = _encode({"read_seq": read_seq, "unread": unread})
        await self._rooms.notify(project, room, [Notification(user, "notification.read", data)])

    async def tell_messages(self, news: Sequence[tuple[str, Sequence[NewMessage]]]) -> None:
        """Tell members of the newest of some new messages (ascending, not empty) of each room.

        Some tens of rooms (by R) at once: they share their round trips.
        """
        asked = []
        for key, messages in news:
            users = {user for message in messages for user in message.mentions}
            asked.append((*split_room_key(key), sorted(users)))
        rooms = await list_notified(self._db, asked, NOTIFIED_MEMBERS_MAX)
        some: list[_Told] = []
        count = 0
        for (_, messages), (project, room, mentioned), found in zip(
            news, asked, rooms, strict=True
        ):
            newest = messages[-1]
            members = [user for user in found.members if user != newest.sender] if found else []
            if found is None or not members:
                continue
            if count + len(members) > NOTIFIED_AT_ONCE:
                await self._tell_some(some)
                some, count = [], 0
            count += len(members)
            some.append(_Told(project, room, found.pk, newest, frozenset(mentioned), members))
        await self._tell_some(some)

    async def _tell_some(self, some: Sequence[_Told]) -> None:
        """Tell in each room those of its members who have a connection somewhere."""
        present: set[tuple[str, str]] = set()
        for project in dict.fromkeys(told.project for told in some):
            members = {user for told in some if told.project == project for user in told.users}
            connected = await self._rooms.connected(project, sorted(members))
            present.update((project, user) for user in connected)
        listening = [
            (told, user) for told in some for user in told.users if (told.project, user) in present
        ]
        if not listening:
            return
        readers = [
            Reader(room_key(told.project, told.room), told.room_pk, user)
            for told, user in listening
        ]
        counts = await count_unread(self._db, self._rooms, readers)
        notices: dict[tuple[str, str], list[Notification]] = {}
        for (told, user), unread in zip(listening, counts, strict=True):
            if unread is not None:
                data = _encode(told.describe(user, unread.unread))
                notices.setdefault((told.project, told.room), []).append(
                    Notification(user, "notification.message", data)
                )
        for (project, room), notifications in notices.items():
            await self._rooms.notify(project, room, notifications)
