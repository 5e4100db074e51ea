"""Resuming at any position a client may hold, or claim, whatever has happened to the room.

The room is the one of `test_scripts_model`, on a real Redis: published into, announced, marked,
archived, trimmed, expired, fenced without a loss, emptied, and put back to an earlier state under a
new life, as by a failover to a replica that was behind. `recovered` must mean: every event after
that position, each once, in order, as it was published in that very life. Where that is possible it
must be so; else the reason must be the right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from storage.redis.entries import NOBODY, Entry, pack_entry, parse_entry
from storage.redis.outcomes import Snapshot
from tests.storage.redis.test_scripts_model import LOG_LENGTH, NODE_ENTRIES, Model, Run
from tests.support.script_rooms import LEASE_MS, ScriptRooms, open_rooms
from tests.support.servers import RedisServer

NODE = "n"
TAIL_EVENTS = 6
FRAMING_BYTES = 200
TAIL_BYTES = 5 * 300
"""Five short events with what framing adds, and not six."""

numbers = st.integers(0, 59)


class Saved(NamedTuple):
    """What a replica has that gets nothing more."""

    keys: dict[bytes, tuple[bytes, int]]
    model: Model


class ResumeRun(Run):
    """The operations of the model, and those of this file."""

    def __init__(self, rooms: ScriptRooms, server: RedisServer) -> None:
        super().__init__(rooms, server)
        self.told: list[tuple[str, int]] = [("", 0)]
        """Positions that somebody was told."""
        self.published: dict[tuple[str, int], bytes] = {}
        self.saved: Saved | None = None

    async def begin(self) -> None:
        """An empty Redis."""
        self.server.flush()
        await self.rooms.rooms.refence(self.rooms.keys().partition)

    async def note(self) -> None:
        """Remember what is published, and the position that a publisher or subscriber is told."""
        for entry in await self.rooms.log():
            raw = pack_entry(entry)
            assert self.published.setdefault((entry.epoch, entry.offset), raw) == raw
        numbers = self.model.numbers
        if numbers is not None:
            self.told.append((numbers["epoch"], numbers["offset"]))

    async def do_save(self, _number: int) -> None:
        """A replica gets nothing more."""
        names: Any = await self.rooms.ask("KEYS", "*")
        keys: dict[bytes, tuple[bytes, int]] = {}
        for name in names:
            dumped, ttl = await self.rooms.client.pipeline([("DUMP", name), ("PTTL", name)])
            assert isinstance(dumped, bytes)
            assert isinstance(ttl, int)
            keys[name] = (dumped, max(ttl, 0))
        self.saved = Saved(keys, deepcopy(self.model))

    async def do_fail_over(self, _number: int) -> None:
        """The replica takes over: what came later is lost, PostgreSQL is as it is."""
        if self.saved is None:
            return
        await self.rooms.ask("FLUSHALL")
        for name, (dumped, ttl) in self.saved.keys.items():
            await self.rooms.ask("RESTORE", name, ttl, dumped)
        pg = self.model.pg
        self.model = deepcopy(self.saved.model)
        self.model.pg, self.model.last_ack = pg, None
        for user, seq in pg.reads.items():
            self.model.reads[user] = max(seq, self.model.reads.get(user, 0))
        await self.do_fence(0)

    async def resume(self, epoch: str, offset: int) -> None:
        """A client comes back with this position."""
        await self.ensure_warm()
        await self.note()
        await self.rooms.nodes.open_node(NODE, LEASE_MS)
        kept = {entry.offset: entry for entry in await self.rooms.log()}
        found = await self.rooms.subscribed(NODE, user=NOBODY, since=(epoch, offset))
        assert self.model.numbers is not None
        assert (found.epoch, found.offset) == (self.rooms.life(), self.model.numbers["offset"])
        assert found.reason == expected_reason(found, epoch, offset, kept)
        self.judge(found, offset)

    def judge(self, found: Snapshot, since: int) -> None:
        """Exactly what was missed, or nothing."""
        if found.reason:
            assert found.tail == []
            return
        entries = [parse_entry(raw) for raw in found.tail]
        assert [entry.offset for entry in entries] == list(range(since + 1, found.offset + 1))
        begins = min(offset for epoch, offset in self.told if epoch == found.epoch)
        for raw, entry in zip(found.tail, entries, strict=True):
            assert self.published[entry.epoch, entry.offset] == raw
            assert entry.epoch == found.epoch or entry.offset <= begins


def expected_reason(found: Snapshot, epoch: str, offset: int, kept: dict[int, Entry]) -> str:
    """The reason that is right; empty where every missed event is there, and few enough."""
    if epoch != found.epoch:
        return "epoch"
    if offset > found.offset:
        return "ahead"
    missed = range(offset + 1, found.offset + 1)
    if len(missed) > TAIL_EVENTS:
        return "too_large" if offset + 1 in kept else "trimmed"
    sizes = [len(pack_entry(kept[at])) + FRAMING_BYTES for at in missed if at in kept]
    if sum(sizes) > TAIL_BYTES:
        return "too_large"
    return "trimmed" if len(sizes) < len(missed) else ""


class ResumeMachine(RuleBasedStateMachine):
    """Each rule is some operations, after which Redis is what the model says."""

    portal: ClassVar[BlockingPortal]
    rooms: ClassVar[ScriptRooms]
    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.run = ResumeRun(self.rooms, self.server)
        self.portal.call(self.run.begin)

    def do(self, name: str, *given: int) -> None:
        """The operation, once for each number."""

        async def do() -> None:
            for number in given or (0,):
                await getattr(self.run, f"do_{name}")(number)
            await self.run.check()
            await self.run.note()

        self.portal.call(do)

    @rule(number=numbers, count=st.integers(1, 8))
    def publish(self, number: int, count: int) -> None:
        self.do("publish", *range(number, number + count))

    @rule(name=st.sampled_from(["announce", "mark", "archive", "replay", "seed"]), number=numbers)
    def do_one(self, name: str, number: int) -> None:
        self.do(name, number)

    @rule()
    def archive_everything(self) -> None:
        self.do("archive", 0)

    @rule(name=st.sampled_from(["expire", "fence", "flush", "save"]))
    def disturb(self, name: str) -> None:
        self.do(name)

    @precondition(lambda self: self.run.saved)
    @rule()
    def fail_over(self) -> None:
        self.do("fail_over")

    @rule(number=numbers, shift=st.integers(-3, 3) | st.just(0))
    def resume_as_told(self, number: int, shift: int) -> None:
        """At one of the newest positions that were told, or beside it."""
        told = self.run.told[-1 - number % min(12, len(self.run.told))]
        self.resume(told[0], max(0, told[1] + shift))

    @rule(offset=st.integers(0, 40))
    def resume_anywhere(self, offset: int) -> None:
        """With the present epoch and an offset that nobody may have been told."""
        self.resume(self.run.rooms.life(), offset)

    def resume(self, epoch: str, offset: int) -> None:
        if epoch:
            self.portal.call(self.run.resume, epoch, offset)


@contextmanager
def open_resume_machine(server: RedisServer | None = None) -> Iterator[type[ResumeMachine]]:
    """The machine on a Redis whose streams trim in small steps; without one, on one of its own."""
    if server is None:
        with TemporaryDirectory() as folder:
            server = RedisServer(Path(folder))
            server.start()
            try:
                with open_resume_machine(server) as machine:
                    yield machine
            finally:
                server.stop()
        return
    name = "stream-node-max-entries"
    (_, usual) = server.command("CONFIG", "GET", name)
    server.command("CONFIG", "SET", name, NODE_ENTRIES)
    with (
        start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(open_rooms(server.url, checked=False)) as opened,
    ):
        limits = {"log_length": LOG_LENGTH, "resume_events": TAIL_EVENTS}
        rooms = opened.with_limits(**limits, resume_bytes=TAIL_BYTES)
        parts = {"portal": portal, "rooms": rooms, "server": server}
        yield type("ResumeMachine", (ResumeMachine,), parts)
    server.command("CONFIG", "SET", name, usual)


@pytest.mark.timeout(180)
def test_a_resume_is_whole_or_says_why(redis_server: RedisServer) -> None:
    """Ruling 21, and 1: ahead, equal, trimmed, of another epoch, too large."""
    with open_resume_machine(redis_server) as machine:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=12, stateful_step_count=30, deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )  # fmt: skip
