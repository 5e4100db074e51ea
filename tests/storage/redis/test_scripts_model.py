"""Any order of publish, announce, archive, replay, expiry, fence and seed against a plain model.

The model is one room as the design tells it: counters, a log, what waits for the archive, what
PostgreSQL has. After every step Redis must hold exactly that, keep the invariants of `fsck`, and
never have given one seq to two messages that both still exist. What a user has read never goes
back, as long as Redis itself loses nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.redis.outcomes import Appended, Mark, Marked, Refusal
from tests.support.script_rooms import R, ScriptRooms, open_rooms
from tests.support.servers import RedisServer

LOG_LENGTH = 4
NODE_ENTRIES = 2
DIGESTS = [bytes([number]) * 16 for number in range(3)]

# Names weighted by repetition; what the number means is each operation's own.
NAMES = [
    *["publish"] * 10, *["announce"] * 2, *["mark"] * 4, *["archive"] * 4, "replay", "seed",
    *["expire"] * 2, "fence", "flush",
]  # fmt: skip
operations = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 59)), min_size=15, max_size=40
)


class Event(NamedTuple):
    """`offset` 0: a receipt, whose `message` is the user and whose `seq` was marked."""

    offset: int
    seq: int
    ver: int
    epoch: str
    message: str


@dataclass
class Postgres:
    """The room's row and its messages, as the archiver and the seed leave them."""

    epoch: str | None = None
    base_offset: int = 0
    base_seq: int = 0
    archived: int = 0
    seq: int = 0
    version: int = 0
    messages: dict[int, str] = field(default_factory=dict)
    sent: dict[int, tuple[str, int, int, int]] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)

    def raise_read(self, user: str, seq: int) -> None:
        self.reads[user] = max(self.reads.get(user, 0), seq)


@dataclass
class Model:
    """The room; None for counters that are not in Redis."""

    numbers: dict[str, Any] | None = None
    log: list[Event] = field(default_factory=list)
    waiting: list[Event] = field(default_factory=list)
    sent: dict[int, tuple[str, int, int, int]] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    """How far each user has read, wherever that is kept."""
    pg: Postgres = field(default_factory=Postgres)
    last_ack: dict[str, Any] | None = None

    def is_warm(self, life: str) -> bool:
        return self.numbers is not None and self.numbers["epoch"] == life

    def append(self, outcome: Appended, step: int, ver: int, message: str) -> None:
        assert self.numbers is not None
        numbers = self.numbers
        assert outcome.offset == numbers["offset"] + 1
        assert outcome.seq == numbers["seq"] + step
        numbers["offset"], numbers["seq"] = outcome.offset, outcome.seq
        if ver:
            numbers["ver"] = ver
        if message:
            self.reads["alice"] = outcome.seq
        event = Event(outcome.offset, outcome.seq, ver, numbers["epoch"], message)
        self.log.append(event)
        self.waiting.append(event)

    @property
    def has_marks(self) -> bool:
        return any(event.offset == 0 for event in self.waiting)

    def unarchived(self) -> list[Event]:
        archived = self.numbers["archived"] if self.numbers else 0
        return [event for event in self.log if event.offset > archived]


class Run:
    """One example: the operations on the real scripts and on the model."""

    def __init__(self, rooms: ScriptRooms, server: RedisServer) -> None:
        self.rooms = rooms
        self.server = server
        self.model = Model()
        self.messages = 0

    async def do(self, name: str, number: int) -> None:
        await getattr(self, f"do_{name}")(number)
        await self.check()

    async def do_publish(self, number: int) -> None:
        step = 0 if number % 3 == 0 else 1
        digest = [None, None, 0, 1, 2][number % 5]
        version_step = -1 if number % 4 == 3 else 0
        model = self.model
        await self.ensure_warm()
        assert model.numbers is not None
        self.messages += 1
        message = f"m-{self.messages}"
        version = model.numbers["ver"] + version_step
        outcome = await self.rooms.publish(
            step=step, version=version, digest=b"" if digest is None else DIGESTS[digest],
            message_id=message,
        )  # fmt: skip
        if version_step < 0:
            assert outcome == Refusal("stale", str(model.numbers["ver"]).encode())
        elif digest in model.sent:
            answer = " ".join(map(str, model.sent[digest]))
            assert outcome == Refusal("sent", answer.encode())
        else:
            assert isinstance(outcome, Appended)
            model.append(outcome, step, 0, message if step else "")
            if digest is not None:
                model.sent[digest] = (message, outcome.seq, outcome.offset, outcome.ms)

    async def do_announce(self, number: int) -> None:
        model = self.model
        step = number % 4 - 1
        await self.ensure_warm()
        assert model.numbers is not None
        version = max(0, model.numbers["ver"] + step)
        outcome = await self.rooms.announce(version)
        if step <= 0:
            assert outcome == Refusal("done")
        else:
            assert isinstance(outcome, Appended)
            model.append(outcome, 0, version, "")
            model.pg.version = max(model.pg.version, version)

    async def do_mark(self, number: int) -> None:
        """Marks from anywhere, also old ones and ones beyond the newest message."""
        model = self.model
        await self.ensure_warm()
        assert model.numbers is not None
        user = ["alice", "bob"][number % 2]
        seq = number % (model.numbers["seq"] + 3)
        wanted = Mark(user, model.numbers["ver"], read=seq)
        outcome = await self.rooms.rooms.mark(R, wanted)
        if outcome == Refusal("unknown"):
            floor = model.pg.reads.get(user, 0)
            outcome = await self.rooms.rooms.mark(
                R, wanted._replace(read_floor=floor, delivered_floor=floor)
            )
        assert isinstance(outcome, Marked)
        before = model.reads.get(user, 0)
        reached = max(before, min(seq, model.numbers["seq"]))
        assert (outcome.read, outcome.is_moved) == (reached, reached > before)
        if outcome.is_moved:
            model.reads[user] = reached
            model.waiting.append(Event(0, reached, 0, model.numbers["epoch"], user))

    async def do_archive(self, number: int) -> None:
        """The archiver's batch: commit, then acknowledge."""
        model, pg = self.model, self.model.pg
        count = 1000 if number % 3 == 0 else 1 + number % 8
        await self.ensure_warm()
        batch = model.waiting[:count]
        if not batch:
            return
        for event in batch:
            if event.offset == 0:
                pg.raise_read(event.message, event.seq)
                continue
            if event.epoch != pg.epoch and event.offset > pg.base_offset:
                raise AssertionError(f"{event} would be a dead letter")
            pg.archived, pg.seq = max(pg.archived, event.offset), max(pg.seq, event.seq)
            if event.message:
                pg.raise_read("alice", event.seq)
                known = pg.messages.setdefault(event.seq, event.message)
                assert known == event.message, "one seq for two messages"
        pg.sent |= {
            digest: answer for digest, answer in model.sent.items() if answer[2] <= pg.archived
        }
        partition = self.rooms.keys().partition
        stored = await self.rooms.store.archive.read_batch(partition, len(batch))
        assert [item.entry.offset for item in stored] == [event.offset for event in batch]
        model.last_ack = {
            "ids": [item.id for item in stored],
            "total_bytes": sum(len(item.raw) for item in stored),
            "rooms": [(R, pg.archived)],
        }
        assert await self.rooms.store.archive.mark_archived(partition, **model.last_ack)
        del model.waiting[: len(batch)]
        self.note_archived(pg.archived)

    def note_archived(self, archived: int) -> None:
        numbers = self.model.numbers
        assert numbers is not None
        numbers["archived"] = max(numbers["archived"], min(archived, numbers["offset"]))
        newest = self.model.log[-1].offset if self.model.log else 0
        if newest <= numbers["archived"]:
            numbers["archived"] = numbers["offset"]

    async def do_replay(self, _number: int) -> None:
        if self.model.last_ack is not None and self.model.numbers is not None:
            before, log = await self.rooms.state(), self.rooms.keys().log
            entries: Any = await self.rooms.ask("XRANGE", log, "-", "+")
            partition = self.rooms.keys().partition
            assert await self.rooms.store.archive.mark_archived(partition, **self.model.last_ack)
            # Publishing trims with every sixteenth event only, so there may be something to trim.
            left: Any = await self.rooms.ask("XRANGE", log, "-", "+")
            assert left == entries[len(entries) - len(left) :]
            gone = entries[: len(entries) - len(left)]
            archived = self.model.numbers["archived"]
            assert all(int(entry_id.split(b"-")[0]) <= archived for entry_id, _ in gone)
            after = await self.rooms.state()
            assert all(
                after[key] == before[key]
                for key in before.keys() | after.keys()
                if key != log.encode()
            )

    async def do_seed(self, number: int) -> None:
        """Somebody seeds a warm room with whatever it has read: nothing changes, save that a room
        which has numbered no message yet skips the numbers that were given before."""
        step = number % 6 - 2
        await self.ensure_warm()
        known = self.model.numbers
        assert known is not None
        before = await self.rooms.state()
        numbers = {name: known[name] + step for name in ("offset", "seq")}
        assert await self.rooms.warm(**numbers, archived=0) == "ok"
        if step > 0 and known["seq"] == known["base"]:
            known["seq"] = known["base"] = numbers["seq"]
        else:
            assert await self.rooms.state() == before

    async def do_expire(self, _number: int) -> None:
        """Time passes: what has an expiry goes."""
        keys = self.rooms.keys()
        expires = await self.rooms.ask("PTTL", keys.room) > 0
        for name in (keys.room, keys.log, keys.reads):
            if await self.rooms.ask("PTTL", name) > 0:
                await self.rooms.ask("DEL", name)
        numbers = self.model.numbers
        is_archived = numbers is not None and numbers["archived"] == numbers["offset"]
        may_expire = is_archived and not self.model.has_marks
        assert may_expire or not expires
        assert expires or not may_expire or await self.rooms.registered()
        if expires:
            self.model.numbers = None
            self.model.log.clear()

    async def do_fence(self, _number: int) -> None:
        """A restart that lost nothing: another life, every room cold."""
        await self.rooms.begin_other_life()
        await self.rooms.rooms.refence(self.rooms.keys().partition)

    async def do_flush(self, _number: int) -> None:
        """Redis loses everything."""
        self.server.flush()
        self.model = Model(pg=self.model.pg, reads=dict(self.model.pg.reads))
        await self.rooms.rooms.refence(self.rooms.keys().partition)

    async def ensure_warm(self) -> None:
        model, pg = self.model, self.model.pg
        life = self.rooms.life()
        if model.is_warm(life):
            return
        assert (await self.rooms.publish()) == Refusal("cold")
        inputs = await self.rooms.rooms.seed_inputs(R)
        assert not isinstance(inputs, Refusal)
        offset, seq = max(pg.base_offset, pg.archived), max(pg.base_seq, pg.seq)
        if pg.epoch != life:
            offset, seq = max(offset, inputs.offset), max(seq, inputs.seq)
            pg.epoch, pg.base_offset, pg.base_seq = life, offset, seq
        sent = [
            (DIGESTS[digest], " ".join(map(str, answer)).encode(), answer[3])
            for digest, answer in pg.sent.items()
        ]
        done = await self.rooms.warm(
            offset=offset, seq=seq, archived=pg.archived, version=pg.version, sent=sent
        )
        assert done == "ok"
        model.sent |= pg.sent
        model.numbers = {
            "epoch": life, "offset": offset, "seq": seq, "archived": pg.archived,
            "ver": pg.version, "base": seq,
        }  # fmt: skip
        above = [event.offset for event in model.log if event.offset > pg.archived]
        if above:
            # What lies between was lost with an earlier Redis.
            model.numbers["archived"] = min(above) - 1
        self.note_archived(pg.archived)

    async def check(self) -> None:
        model = self.model
        stored = await self.rooms.numbers()
        assert (stored.pop("marks", None) is not None) == model.has_marks
        stored.pop("old_reads", None)
        users = sorted(model.reads)
        marks = await self.rooms.rooms.user_marks(R, users)
        reads = [max(m.read, model.pg.reads.get(u, 0)) for u, m in zip(users, marks, strict=True)]
        assert reads == [model.reads[user] for user in users]
        expected = {name: str(value) for name, value in (model.numbers or {}).items()}
        assert stored == expected
        log = [(entry.offset, entry.seq, entry.ver) for entry in await self.rooms.log()]
        known = [(event.offset, event.seq, event.ver) for event in model.log]
        assert log == known[len(known) - len(log) :]
        # Kept are offsets, not events: after a loss some of the newest may be in PostgreSQL alone.
        newest = model.numbers["offset"] if model.numbers else 0
        kept = [event for event in known if event[0] > newest - LOG_LENGTH]
        assert log[len(log) - len(kept) :] == kept
        assert {event.offset for event in model.unarchived()} <= {offset for offset, *_ in log}
        waiting = [entry.offset for entry in await self.rooms.archive_entries()]
        assert waiting == [event.offset for event in model.waiting]
        seqs: dict[int, str] = dict(model.pg.messages)
        for event in model.waiting:
            if event.message and event.offset:
                assert seqs.setdefault(event.seq, event.message) == event.message
        assert await self.rooms.check() == []


@pytest.fixture
def small_nodes(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A Redis whose streams trim in small steps."""
    name = "stream-node-max-entries"
    (_, usual) = redis_server.command("CONFIG", "GET", name)
    redis_server.command("CONFIG", "SET", name, NODE_ENTRIES)
    yield redis_server
    redis_server.command("CONFIG", "SET", name, usual)


@pytest.mark.timeout(180)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=operations)
async def test_any_order_of_calls_keeps_the_room_as_the_model_has_it(small_nodes, history):
    """A1, A2, A3, A7, B1, B3, C2 together."""
    small_nodes.flush()
    async with open_rooms(small_nodes.url, checked=False) as opened:
        run = Run(opened.with_limits(log_length=LOG_LENGTH), small_nodes)
        for name, number in history:
            await run.do(name, number)
