"""Each connection by itself: every offset of a subscription once, in order, none left out.

A subscription begins at the snapshot of its reply. From there each event has the next offset, until
the subscription ends by a frame, or with the connection. A repeated subscribe begins anew: what
it brings again was asked for again.
"""

from collections.abc import Iterator

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import Knowledge
from tests.faults.storm.record import Connection, Event, Subscribed, Unsubscribed

_JUMP_MAX = 100_000


class _Subscription:
    """What has come since the last subscribe reply."""

    __slots__ = ("epoch", "first", "missing", "position", "snapshot")

    def __init__(self, reply: Subscribed) -> None:
        self.epoch = reply.epoch
        self.snapshot = self.position = reply.offset
        self.missing: set[int] = set()

    def take(self, offset: int) -> Kind | None:
        if offset == self.position + 1:
            self.position = offset
            return None
        if offset > self.position:
            self.missing.update(range(self.position + 1, min(offset, self.position + _JUMP_MAX)))
            self.position = offset
            return None
        if offset in self.missing:
            self.missing.discard(offset)
            return Kind.REORDERED
        return Kind.DOUBLED


def check_deliveries(known: Knowledge) -> Iterator[Breach]:
    for connection in known.record.connections:
        yield from _check_connection(known, connection)


def _check_connection(known: Knowledge, connection: Connection) -> Iterator[Breach]:
    live: dict[str, _Subscription] = {}
    for frame in connection.frames:
        if isinstance(frame, Subscribed):
            yield from _check_reply(connection, frame)
            yield from _end(connection, frame.room, live.pop(frame.room, None))
            live[frame.room] = _Subscription(frame)
        elif isinstance(frame, Unsubscribed):
            yield from _end(connection, frame.room, live.pop(frame.room, None))
        elif isinstance(frame, Event):
            name = f"{connection.name} in {frame.room}: offset {frame.offset}"
            subscription = live.get(frame.room)
            if subscription is None:
                yield Breach(Kind.UNASKED, name)
                continue
            kind = subscription.take(frame.offset)
            if kind is not None:
                yield Breach(kind, f"{name} after {subscription.position}")
    for room, subscription in live.items():
        yield from _end(connection, room, subscription)
        yield from _check_newest(known, connection, room, subscription)


def _check_reply(connection: Connection, reply: Subscribed) -> Iterator[Breach]:
    """`recovered: true` means the same epoch and exactly the events between the two positions."""
    name = f"{connection.name} in {reply.room} at {reply.at:.3f}"
    offsets = [event.offset for event in reply.events]
    if not reply.recovered:
        if offsets:
            yield Breach(Kind.FALSE_RECOVERY, f"{name}: not recovered, but {len(offsets)} events")
        return
    since = reply.since
    if since is None or since.epoch != reply.epoch:
        yield Breach(Kind.FALSE_RECOVERY, f"{name}: from {since} into {reply.epoch}")
    elif offsets != list(range(since.offset + 1, reply.offset + 1)):
        yield Breach(
            Kind.FALSE_RECOVERY,
            f"{name}: {since.offset} to {reply.offset} with {len(offsets)} events {offsets[:5]}",
        )


def _end(connection: Connection, room: str, subscription: _Subscription | None) -> Iterator[Breach]:
    if subscription is not None and subscription.missing:
        missing = sorted(subscription.missing)
        yield Breach(
            Kind.SILENT_HOLE,
            f"{connection.name} in {room}: {len(missing)} events from {missing[0]} on never came",
        )


def _check_newest(
    known: Knowledge, connection: Connection, room: str, subscription: _Subscription
) -> Iterator[Breach]:
    """A subscription that is live when everything has settled has seen everything."""
    settled = known.circumstances.settled_at
    if settled is None or not connection.is_reading:
        return
    if connection.closed is not None and connection.closed < settled:
        return
    newest = _newest_of(known, room)
    if newest is not None and newest[1] > subscription.position:
        yield Breach(
            Kind.UNSEEN,
            f"{connection.name} in {room}: at {subscription.position} of {subscription.epoch}, "
            f"the room at {newest[1]} of {newest[0]}",
        )
    elif newest is not None and newest[0] != subscription.epoch:
        yield Breach(
            Kind.UNSEEN, f"{connection.name} in {room}: was not told that {newest[0]} has begun"
        )


def _newest_of(known: Knowledge, room: str) -> tuple[str, int] | None:
    for log in known.record.logs:
        if log.room == room:
            return log.epoch, log.offset
    # Redis has forgotten the room; a newer epoch may have begun without an event.
    facts, epochs = known.ordered.get(room), known.epochs.get(room)
    return (epochs[-1], facts[-1].offset) if facts and epochs else None
