"""Users' own channels in Redis: who of some users is connected, and notifications to them.

A channel (`<project>//<user>`) has nodes and nothing else: what is sent there is stored nowhere.
The entry of a notification carries the room that it is about in the place of a sender.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from redis.exceptions import NoScriptError

from storage.redis.keys import INBOX_PREFIX, user_channel
from storage.redis.marks import MarkStore
from storage.redis.script_loader import pack_evalsha, run_script


class Notification(NamedTuple):
    """What one user is told of a room; `data` is the event's JSON."""

    user: str
    event: str
    data: bytes


class ChannelStore(MarkStore):
    """The part of `storage.redis.rooms.RoomStore` that tells users things."""

    async def connected(self, project: str, users: Sequence[str]) -> list[str]:
        """Those of the users who have a connection somewhere; one round trip."""
        names = [self.keys.room(user_channel(project, user)).nodes for user in users]
        replies = await self._client.pipeline([("EXISTS", name) for name in names])
        found = []
        for user, reply in zip(users, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            if reply:
                found.append(user)
        return found

    async def notify(self, project: str, room: str, notifications: Sequence[Notification]) -> None:
        """Hand notifications about a room to the users' nodes; one round trip."""
        script = self._scripts["broadcast"]
        calls = []
        for user, event, data in notifications:
            channel = user_channel(project, user)
            keys = (self.keys.room(channel).nodes,)
            args = (channel, event, room, data, INBOX_PREFIX, self.limits.inbox_max)
            calls.append((keys, args))
        packed = [pack_evalsha(script, keys, args) for keys, args in calls]
        replies = await self._client.pipeline_packed(packed)
        for (keys, args), reply in zip(calls, replies, strict=True):
            if isinstance(reply, NoScriptError):
                await run_script(self._client, script, keys, args)
            elif isinstance(reply, Exception):
                raise reply
