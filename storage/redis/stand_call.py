"""Questions how rooms stand, which reach Redis in one script call, each room asked once.

What is asked in one turn of the scheduler leaves in one call, as long as nothing else is queued in
between (as `publish_call` does it). A call is read by Redis after each of its callers has asked, so
nobody is told how a room stood before. If the connection is lost, all have the outcome of the call.

All partitions may share a call, since all lie on one server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from storage.redis.keys import Keys, split_room_key, stamp_key
from storage.redis.replies import Reply
from storage.redis.script_loader import Script, pack_evalsha

STAND_CALL_ROOMS: Final = 32
"""In one call: for a twentieth of a millisecond Redis then does nothing else."""


class Stand(NamedTuple):
    """How a room stood when Redis was asked."""

    room: tuple[str, int, int] | None
    """Epoch, offset and version; None if it was not there."""
    stamp: bytes | None
    """What pages depend on beside their room; see `join_stamp`."""


OnStand = Callable[[Stand | Exception], None]
"""Called exactly once; must not raise."""


def join_stamp(life: bytes | None, stamp: bytes | None) -> bytes:
    """The life of the room's partition and the stamp of its project, each as Redis has it.

    Without the life a room that is not there would look the same after Redis has lost everything
    that happened in it meanwhile.
    """
    return b"%b %b" % (life or b"", stamp or b"")


class StandCall:
    """One call, as long as it is open: until it is packed, or its connection is lost."""

    __slots__ = ("_callbacks", "_keys", "_partitions", "_projects", "_script", "is_open")

    def __init__(self, script: Script, keys: Keys) -> None:
        self._script = script
        self._keys = keys
        self._callbacks: dict[str, list[OnStand]] = {}
        self._projects: dict[str, int] = {}
        """Each with its place among the stamps."""
        self._partitions: dict[int, int] = {}
        """Each with its place among the lives."""
        self.is_open = True

    def add(self, key: str, on_stand: OnStand) -> None:
        """Ask about the room `key` (R), too."""
        callbacks = self._callbacks.get(key)
        if callbacks is not None:
            callbacks.append(on_stand)
            return
        self._callbacks[key] = [on_stand]
        self._projects.setdefault(split_room_key(key)[0], len(self._projects))
        self._partitions.setdefault(self._keys.partition(key), len(self._partitions))
        if len(self._callbacks) >= STAND_CALL_ROOMS:
            self.is_open = False

    def pack(self) -> bytes:
        """The call as it is sent; nothing can be added to it any more."""
        self.is_open = False
        stamps = [stamp_key(project) for project in self._projects]
        rooms = [self._keys.room(key).room for key in self._callbacks]
        lives = [self._keys.life(partition) for partition in self._partitions]
        return pack_evalsha(
            self._script, [*stamps, *lives, *rooms], [str(len(stamps)), str(len(lives))]
        )

    def handle_reply(self, reply: Reply | Exception) -> None:
        """Tell everybody. A callback that raises keeps nobody else from being told."""
        self.is_open = False
        errors: list[Exception] = []
        asked, self._callbacks = self._callbacks, {}  # the store keeps the call for a while
        answers = self._answers(asked, reply)
        for callbacks, answer in zip(asked.values(), answers, strict=True):
            for on_stand in callbacks:
                try:
                    on_stand(answer)
                except Exception as error:
                    errors.append(error)
        if errors:
            raise ExceptionGroup("callbacks of questions raised", errors)

    def _answers(
        self, asked: dict[str, list[OnStand]], reply: Reply | Exception
    ) -> list[Stand | Exception]:
        if isinstance(reply, Exception):
            return [reply] * len(asked)
        found = cast("list[Any]", reply)
        first_life = len(self._projects)
        rooms = found[first_life + len(self._partitions) :]
        return [
            _parse(
                room,
                found[first_life + self._partitions[self._keys.partition(key)]],
                found[self._projects[split_room_key(key)[0]]],
            )
            for key, room in zip(asked, rooms, strict=True)
        ]


def _parse(found: Any, life: Any, stamp: Any) -> Stand | Exception:
    for one in (found, life, stamp):
        if isinstance(one, Exception):
            return one
    epoch, offset, version = found
    room = None if epoch is None else (epoch.decode(), int(offset), int(version))
    return Stand(room, join_stamp(life, stamp))
