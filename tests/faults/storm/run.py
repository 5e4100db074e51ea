"""One run: the plan of a seed acted out, healed, brought to rest, read and judged."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from config.durations import parse_duration
from storage.redis.client import open_redis
from storage.redis.fsck import check_rooms
from storage.redis.keys import Keys
from tests.faults.storm.backend import Backend
from tests.faults.storm.calm import GHOSTS_LAST, Calm
from tests.faults.storm.checker import Breach, Trouble
from tests.faults.storm.clients import Client, Stage
from tests.faults.storm.faults import Fault
from tests.faults.storm.notes import Notes
from tests.faults.storm.plan import Plan
from tests.faults.storm.reading import make_record, read_keys
from tests.faults.storm.record import Absence, Circumstances, Record, Window
from tests.faults.storm.world import BROKERS, World, open_world
from tests.support.deployment import PARTITIONS
from tests.support.servers import PostgresServer
from tests.support.waiting import pass_time, wait_until

USERS = ["ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal"]
OUTSIDER = "zoe"
HALL = "hall"
_DEVICES = 12
_LONGEST = 75.0
_REST_DEADLINE = 60.0
_DESCRIPTORS_MORE = 40


@dataclass
class Outcome:
    """What a run showed."""

    plan: Plan
    notes: Notes
    seconds: float = 0.0
    events: int = 0
    clients: int = 0
    lossy_seconds: float = 0.0
    """For how long answered writes were in danger."""
    observed_presence: int = 0
    absences: list[Absence] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Faults as they were, with times."""
    record: Record | None = None


class Run:
    """Acts a plan out on a world."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan = plan
        self.world = world
        self.notes = Notes()
        self.outcome = Outcome(plan, self.notes)
        rng = plan.rng_of("cast")
        self.rooms = {HALL: list(USERS)}
        self.groups: dict[str, list[str]] = {}
        self.movable: dict[str, list[str]] = {}
        for number in range(3):
            members = rng.sample(USERS, rng.randint(3, len(USERS)))
            self.rooms[f"group{number}"] = self.groups[f"group{number}"] = members
            self.movable[f"group{number}"] = members[2:]
        self.stage = Stage(
            urls=world.broker_url,
            nodes=len(world.brokers),
            api_port=lambda: world.api.client_port,
            notes=self.notes,
            rooms=list(self.rooms),
            users=USERS,
        )
        users = [*USERS, *rng.sample(USERS, _DEVICES - len(USERS) - 1), OUTSIDER]
        self.clients = [
            Client(f"{user}{number}", user, plan.rng_of(f"client{number}"), self.stage)
            for number, user in enumerate(users)
        ]
        self._taken: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
        self._settled_at = 0.0
        self._span_of_time = (0.0, 0.0)
        self._problems: list[str] = []
        self.outcome.clients = len(self.clients)
        self.backend = Backend(plan.rng_of("backend"), self.stage, world.key, self.movable)

    async def act(self) -> Outcome:
        """The whole run; breaches are in the outcome."""
        began = time.monotonic()
        await self.backend.create_rooms(self.rooms, HALL)
        descriptors = await self.world.descriptors()
        async with trio.open_nursery() as nursery:
            for client in self.clients:
                nursery.start_soon(client.run)
            nursery.start_soon(self.backend.run)
            await self._storm()
            await self._come_to_rest()
            await self._watch_presence()
            await self.backend.close()
            self._settled_at = trio.current_time()
            self.stage.may_leave.set()
            nursery.cancel_scope.deadline = trio.current_time() + 30
        await self._look(descriptors)
        self.outcome.seconds = round(time.monotonic() - began, 1)
        self.outcome.lossy_seconds = round(
            sum(w.ended - w.begun for w in self.world.may_have_lost), 3
        )
        return self.outcome

    # --- the storm ----------------------------------------------------------------------------

    async def _storm(self) -> None:
        """All faults, and as many events as were asked for."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in self.plan.faults:
                nursery.start_soon(self._hit, fault, began)
            while trio.current_time() < began + _LONGEST:
                is_enough = self.notes.events >= self.plan.events
                if is_enough and trio.current_time() >= began + self._span():
                    break
                await pass_time(0.1)
        self.stage.is_ending.set()
        self._span_of_time = (began, trio.current_time())

    def _span(self) -> float:
        return max((fault.at + fault.length for fault in self.plan.faults), default=0.0)

    async def _hit(self, fault: Fault, began: float) -> None:
        await pass_time(max(0.0, began + fault.at - trio.current_time()))
        async with AsyncExitStack() as stack:
            # The plan keeps them apart; one that took longer than planned makes the next one wait.
            for name in sorted(fault.takes):
                await stack.enter_async_context(self._taken[name])
            begun = trio.current_time() - began
            await fault.begin(self.world)
            await pass_time(fault.length)
            await fault.heal(self.world)
            healed = trio.current_time() - began
        self.outcome.faults.append(f"{fault}: begun at {begun:.1f}, healed at {healed:.1f}")

    # --- rest ---------------------------------------------------------------------------------

    async def _come_to_rest(self) -> None:
        """Everything runs, is answered, delivered and archived; what does not come is a breach."""
        await self.world.restart_ended()
        await self.world.wait_ready()
        await self._expect(self._are_settled, Trouble.NEVER_BACK)
        await self._expect(self._is_archived, Trouble.NOT_ARCHIVED)
        await self._expect(self._is_delivered, Trouble.NOT_DELIVERED)

    async def _watch_presence(self) -> None:
        calm = Calm(self.clients, self.backend, list(self.rooms))
        grace = parse_duration(self.plan.settings["PRESENCE_GRACE"])
        await self._expect(
            calm.is_presence_right, Trouble.GHOST, lambda: calm.differing, deadline=GHOSTS_LAST
        )
        if grace and not self.outcome.breaches:
            self.outcome.absences = await calm.reconnect(grace)
            await self._expect(self._are_settled, Trouble.NEVER_BACK)
            await self._expect(self._is_delivered, Trouble.NOT_DELIVERED)
        self.outcome.observed_presence = calm.observed

    async def _expect(
        self,
        condition: Callable[[], Any],
        trouble: Trouble,
        explain: Callable[[], list[str]] | None = None,
        *,
        deadline: float = _REST_DEADLINE,
    ) -> None:
        """Wait for the condition; a breach if it does not come about."""
        try:
            await wait_until(condition, deadline=deadline)
        except AssertionError:
            restless = [client.name for client in self.clients if not client.is_settled]
            found = [f"unsettled: {restless}"] if explain is None else explain()
            self.outcome.breaches += [Breach(trouble, text) for text in found]

    def _are_settled(self) -> bool:
        return all(client.is_settled for client in self.clients)

    def _is_archived(self) -> bool:
        return self.world.backlog() == 0

    def _is_delivered(self) -> bool:
        keys = Keys(PARTITIONS)
        newest = {}
        for room in self.rooms:
            name = keys.room(f"default/{room}").room
            epoch, offset = self.world.ask("HMGET", name, "epoch", "offset")
            newest[room] = (epoch and epoch.decode(), int(offset or 0))
        return all(
            newest[room][0] is None or (view.epoch, view.offset) == newest[room]
            for client in self.clients
            for room, view in client.views.items()
            if view.is_live and room in newest
        )

    # --- looking ------------------------------------------------------------------------------

    async def _look(self, descriptors: dict[str, int]) -> None:
        breaches = self.outcome.breaches
        breaches += self.world.breaches()
        await self._expect(self._is_at_rest, Trouble.INVARIANT, lambda: self._problems)
        self.outcome.record = await trio.to_thread.run_sync(
            make_record, self.world, self.notes, self._circumstances()
        )
        # Those that were answered, and no more: offsets skip numbers after a loss.
        self.outcome.events = self.notes.events
        for name, count in (await self.world.descriptors()).items():
            # Pools of connections were not full at first; what leaks, leaks with each operation.
            if count > descriptors[name] + _DESCRIPTORS_MORE:
                text = f"{name} has {count}, {descriptors[name]} at first"
                breaches.append(Breach(Trouble.LEAK, text))

    def _circumstances(self) -> Circumstances:
        begun, ended = self._span_of_time
        return Circumstances(
            members={room: dict.fromkeys(of, "member") for room, of in self.groups.items()},
            open_rooms=frozenset({HALL}),
            may_have_lost=list(self.world.may_have_lost),
            unstorable=self.world.unstorable,
            absences=self.outcome.absences,
            log_length=int(self.plan.settings["ROOM_LOG_LENGTH"]),
            presence_trouble=[Window(begun, ended)],
            settled_at=self._settled_at,
        )

    async def _is_at_rest(self) -> bool:
        async with open_redis(self.world.redis.url, name="check") as client:
            await client.wait_connected(trio.current_time() + 10)
            self._problems = await check_rooms(client, Keys(PARTITIONS))
        keys = await trio.to_thread.run_sync(read_keys, self.world)
        kinds = [key.kind for key in keys]
        leases = sum(key.size for key in keys if key.kind == "leases")
        # Those of a node that was killed live as long as its lease, which lives until it is reaped.
        if max(kinds.count("inbox"), kinds.count("rooms-of"), leases) > BROKERS:
            self._problems.append("keys of nodes that are not there any more")
        return not self._problems


@asynccontextmanager
async def open_run(plan: Plan, folder: Path, postgres: PostgresServer) -> AsyncIterator[Run]:
    """A world for the plan, and a run on it."""
    async with open_world(
        folder,
        postgres,
        plan.settings,
        appendfsync=plan.appendfsync,
        has_sentinels=plan.layout == "sentinels",
        ways=plan.ways,
        prepares=plan.prepares,
    ) as world:
        yield Run(plan, world)
