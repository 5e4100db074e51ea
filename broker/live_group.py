"""The live subscriptions of one room, and the frames on their way to them.

The rules: synchronous. A frame that was added goes to everybody who is in the group, once, and to
each after every frame added before it. It goes at once (`flush`) or in portions of the group
(`spread`): the portions go round and round, and whoever's turn it is gets all that it lacks in one
send. A frame is done when it has gone round once from where it began, so two frames may
have begun at different places and are joined where both are due. The group only changes while
nothing is on its way: whoever changes it flushes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from broker.hub_room import Subscriber


class _Round(NamedTuple):
    """Frames that began to go round together, and the place at which they are done."""

    ends_at: int
    frames: bytes
    events: int


class LiveGroup:
    """See the file."""

    __slots__ = (
        "_joined",
        "_outgoing",
        "_place",
        "_posts",
        "_rounds",
        "_subscribers",
        "delivered",
        "waiting_bytes",
    )

    def __init__(self) -> None:
        self._subscribers: dict[Subscriber, None] = {}
        self._posts: tuple[Callable[[bytes], None], ...] = ()
        self._outgoing: list[bytes] = []  # nobody has them yet
        self._rounds: tuple[_Round, ...] = ()  # some have them; oldest first
        self._joined = b""  # the frames of all rounds
        self._place = 0  # counts posts of `spread`, so modulo the size it is who is next
        self.delivered = 0
        """Events posted since somebody asked last."""
        self.waiting_bytes = 0
        """Of frames that somebody lacks."""

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._subscribers

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._subscribers)

    @property
    def is_behind(self) -> bool:
        """Whether somebody lacks a frame."""
        return bool(self._outgoing or self._rounds)

    def join(self, subscriber: Subscriber) -> None:
        """From the next frame on."""
        assert not self.is_behind, "it would get what came before"
        self._subscribers[subscriber] = None
        self._posts = ()

    def leave(self, subscriber: Subscriber) -> None:
        """It gets nothing more; nothing happens if it is not in the group."""
        if subscriber in self._subscribers:
            assert not self.is_behind, "it would not get what came before"
            del self._subscribers[subscriber]
            self._posts = ()

    def add(self, frame: bytes) -> None:
        """Something for everybody; it leaves with `flush` or `spread`."""
        self._outgoing.append(frame)
        self.waiting_bytes += len(frame)

    def flush(self) -> None:
        """Post to everybody what they lack: one joined send for each of them."""
        while self._rounds:
            self.spread(len(self._subscribers))
        outgoing = self._outgoing
        if not outgoing:
            return
        self._outgoing = []
        self.waiting_bytes = 0
        posts = self._posts or self._list_posts()
        frames = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        for post in posts:
            post(frames)
        self.delivered += len(outgoing) * len(posts)

    def spread(self, count: int) -> int:
        """Post to the next of them, `count` at most, what they lack; how many there were."""
        posts = self._posts or self._list_posts()
        if self._outgoing:
            self._begin_round(len(posts))
        rounds = self._rounds
        if not rounds:
            return 0
        place = self._place
        start = place % len(posts)
        due = posts[start : start + min(count, rounds[0].ends_at - place)]
        # Before the sends: whatever one of them brings about finds the group as it will be.
        self._place = place = place + len(due)
        frames = self._joined
        self.delivered += len(due) * sum(one.events for one in rounds)
        if rounds[0].ends_at == place:
            self._set_rounds(rounds[1:])
        for post in due:
            post(frames)
        return len(due)

    def _begin_round(self, size: int) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if size:
            frames = b"".join(outgoing)
            self._set_rounds((*self._rounds, _Round(self._place + size, frames, len(outgoing))))
        else:
            self.waiting_bytes = 0

    def _set_rounds(self, rounds: tuple[_Round, ...]) -> None:
        self._rounds = rounds
        self._joined = b"".join([one.frames for one in rounds])
        self.waiting_bytes = len(self._joined)

    def _list_posts(self) -> tuple[Callable[[bytes], None], ...]:
        self._posts = tuple(subscriber.post for subscriber in self._subscribers)
        return self._posts
