"""kill -9 of the archiver at every step it takes: `python -m tests.faults.archiver_crash_points`.

The steps are found, not listed: an archiver that writes down every statement and every command
works through a story that needs all of its tasks (batches, notifications, late announcements,
retention, removal of a user). Then, for each step, before it is sent and after its answer, a story
is told in fresh rooms and an archiver started that kills itself there. Whatever one leaves undone
lies in the way of the next. In the end an archiver that nobody kills finishes, and every room must
be what its log says: `archive_model`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import trio

from broker.protocol.events import event_frame
from storage.postgres.removals import begin_removal
from tests.faults.archive_model import RoomModel, differences
from tests.faults.own_servers import own_servers
from tests.support.local_broker import LocalBroker, open_broker
from tests.support.processes import Processes
from tests.support.rooms import PROJECT, Storage
from tests.support.seen import Event
from tests.support.waiting import wait_until

MODULE: Final = "tests.faults.dying_archiver"
ENV: Final = {"ARCHIVE_INTERVAL": "5ms"}
KILLED: Final = 128 + signal.SIGKILL
DAYS: Final = 2
# What happens only while an archiver starts or when nothing waits: nothing to be killed in.
_IDLE: Final = ("redis: XLEN",)
_NOTIFIED: Final = "redis: EVALSHA broadcast"


class Point(NamedTuple):
    """Where an archiver dies."""

    step: str
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.step}"


@dataclass
class Stories:
    """Rooms with work for an archiver, told one after the other."""

    storage: Storage
    told: list[int] = field(default_factory=list)

    async def tell(self) -> None:
        """Something of everything: a batch with every kind of event and a receipt, a change that
        nobody has announced, messages that are too old, a user who is to be removed."""
        number = len(self.told)
        self.told.append(number)
        await self._tell_talk(f"talk{number}")
        await self._tell_old(f"old{number}")
        await self._tell_removed(f"removed{number}", f"leaver{number}")

    async def _tell_talk(self, room: str) -> None:
        storage = self.storage
        await storage.create_room(room, "alice", "bob", "carol")
        await storage.publish(room, "one")
        await storage.publish(room, "two", sender="bob", reply_to=1, mentions=["carol"])
        for event, data in (
            ("message.edited", {"seq": 1, "content": "one!", "sender": "alice", "by": "alice"}),
            ("reaction.added", {"seq": 1, "user": "bob", "reaction": "+1"}),
            ("reaction.added", {"seq": 1, "user": "carol", "reaction": "+1"}),
            ("reaction.removed", {"seq": 1, "user": "bob", "reaction": "+1"}),
        ):
            await storage.append_event(room, event, {"id": room, "message_id": room, **data})
        await storage.publish(room, "three")
        data = {"seq": 3, "id": f"{room}-3", "sender": "alice", "by": "carol"}
        await storage.append_event(room, "message.deleted", data, sender="carol")
        await storage.remove_silently(room, "carol")
        await storage.db.execute(
            "UPDATE announcements SET created_at = created_at - interval '1 minute'"
        )

    async def _tell_old(self, room: str) -> None:
        storage = self.storage
        await storage.create_room(room, "alice")
        for number in range(4):
            await storage.publish(room, f"old {number}")
        await storage.flush()
        pk = await storage.pk_of(room)
        await storage.db.execute(
            "UPDATE messages SET created_at = created_at - interval '3 days' "
            "WHERE room_pk = $1 AND seq <= 3", pk,
        )  # fmt: skip
        await storage.db.execute("UPDATE rooms SET retention_days = $2 WHERE pk = $1", pk, DAYS)

    async def _tell_removed(self, room: str, user: str) -> None:
        storage = self.storage
        await storage.create_room(room, "alice", user)
        await storage.publish(room, "hers", sender=user)
        await storage.publish(room, "kept")
        await storage.flush()
        assert await begin_removal(storage.db, PROJECT, user, "erase", by=None)
        await storage.db.execute(
            "UPDATE users SET deleted_at = deleted_at - interval '1 minute' WHERE id = $1", user
        )

    async def is_finished(self) -> bool:
        """Whether nothing is left to do for any archiver."""
        partitions = range(self.storage.store.keys.partitions)
        waiting = [await self.storage.store.archive.backlog(p) for p in partitions]
        left = await self.storage.db.fetchval(
            "SELECT (SELECT count(*) FROM announcements)"
            " + (SELECT count(*) FROM user_announcements)"
            " + (SELECT count(*) FROM users WHERE removal IS NOT NULL)"
            " + (SELECT count(*) FROM messages WHERE created_at < now() - interval '2 days')"
        )
        return sum(waiting) == 0 and left == 0

    async def check(self) -> list[str]:
        """What is not as it was told."""
        found: list[str] = []
        for number in self.told:
            found += await self._differences(f"talk{number}", ["alice", "bob"])
            rows = await self.storage.rows(f"old{number}")
            if [row["seq"] for row in rows] != [4]:
                found.append(f"old{number}: {[row['seq'] for row in rows]}")
            found += await self._check_removed(f"removed{number}", f"leaver{number}")
        if letters := await self.storage.dead_letters():
            found.append(f"dead letters: {letters}")
        return found

    async def _differences(self, room: str, members: list[str]) -> list[str]:
        model = RoomModel(room, roles=dict.fromkeys([*members, "carol"], "member"))
        model.replay(await self._events(room))
        return differences(model, self.storage.settings.database_url, marked=())

    async def _check_removed(self, room: str, user: str) -> list[str]:
        events = await self._events(room)
        found = []
        gone = [event.event for event in events if event.event.startswith("member.")]
        # The log is cut where the user's messages were wiped; what was behind is there once.
        if len(gone) > 1:
            found.append(f"{room}: {gone}")
        rows = {row["seq"]: row for row in await self.storage.rows(room)}
        if rows[1]["content"] is not None or rows[1]["deleted_at"] is None:
            found.append(f"{room}: {user}'s message is still there: {rows[1]}")
        if rows[2]["content"] != "kept" or await self.storage.members(room) != {"alice"}:
            found.append(f"{room}: {rows[2]}, {await self.storage.members(room)}")
        return found

    async def _events(self, room: str) -> list[Event]:
        seen = []
        for e in await self.storage.log(room):
            frame = json.loads(event_frame(e.event, room, e.offset, e.seq, e.ms, e.data))
            seen.append(Event(e.event, room, e.offset, frame["time"], frame["data"]))
        return seen


@asynccontextmanager
async def open_stories(redis_url: str, database_url: str) -> Any:
    """A place for stories, with somebody connected who is to be notified."""
    async with open_broker(redis_url, database_url) as broker, _connected(broker):
        yield Stories(broker.storage)


@asynccontextmanager
async def _connected(broker: LocalBroker) -> Any:
    async with broker.connect("alice", check=False), broker.connect("bob", check=False):
        yield


async def find_steps(processes: Processes, stories: Stories) -> list[str]:
    """Every step that an archiver takes for a story."""
    record = processes.folder / "steps"
    processes.folder.mkdir(parents=True, exist_ok=True)
    await stories.tell()
    env = ENV | {"CRASH_RECORD": str(record)}
    archiver = await processes.start("archiver", env=env, module=MODULE)
    await wait_until(stories.is_finished, deadline=60, what="the story is archived")
    # Notifications come behind the commit.
    await wait_until(lambda: _NOTIFIED in record.read_text(), deadline=40, what="notifications")
    assert await archiver.stop() == 0, archiver.output()
    return [name for name in record.read_text().splitlines() if name not in _IDLE]


async def die_at(processes: Processes, stories: Stories, point: Point) -> None:
    """Tell a story to an archiver that dies at the point."""
    await stories.tell()
    env = ENV | {"CRASH_STEP": point.step, "CRASH_WHEN": point.when}
    dying = await processes.start("archiver", ready=False, env=env, module=MODULE)
    status = await dying.wait_ended(deadline=60)
    assert status == KILLED, (point, status, dying.output())


async def finish(processes: Processes, stories: Stories) -> None:
    """Let an archiver live, and compare."""
    archiver = await processes.start("archiver", env=ENV)
    await wait_until(stories.is_finished, deadline=120, what="everything is archived")
    assert await archiver.stop() == 0
    assert await stories.check() == []
    await stories.storage.check_rooms()


async def run_points(
    processes: Processes, redis_url: str, database_url: str, *, rng: random.Random, count: int = 0
) -> Sequence[Point]:
    """Die at every point (`count` 0) or at some; raises AssertionError with what is wrong."""
    processes.env |= {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    async with open_stories(redis_url, database_url) as stories:
        steps = await find_steps(processes, stories)
        points = [Point(step, when) for step in steps for when in ("before", "after")]
        chosen = rng.sample(points, count) if count else points
        for point in chosen:
            print(point, flush=True)
            await die_at(processes, stories, point)
        await finish(processes, stories)
        return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=0, help="so many at random; 0: all")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    began = time.monotonic()
    with own_servers() as (redis, postgres, processes):
        run = partial(run_points, processes, redis.url, postgres.create_database())
        points = trio.run(partial(run, rng=random.Random(given.seed), count=given.points))
    print(f"{len(points)} points in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
