"""kill -9 of brokers and of the archiver under load: nothing answered is lost, nothing is twice.

Point 3, and promises P1 to P3: every client goes to the other node, resumes with `since`, repeats
what has no answer, and all of them end with exactly the same sequence, which is in PostgreSQL.
"""

import random
from collections.abc import Iterable

import pytest
import trio

from tests.faults.storm.checker import check
from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes, ServerProcess
from tests.support.recording import record_of
from tests.support.repeating import times
from tests.support.rooms import open_storage
from tests.support.servers import RedisServer
from tests.support.talker import Talker
from tests.support.waiting import wait_until

ROUNDS = times(20)
ROOMS = 3
USERS = 4
USERS_NAMED = [f"user{number}" for number in range(ROOMS * USERS)]
# Answers before the first kill, between two kills, and after the last one, in a round.
ANSWERS_BEFORE = (20, 500)
ANSWERS_AFTER = (100, 300)


class Round:
    """One load over both nodes, with kills at random moments."""

    def __init__(self, system: Deployment, rng: random.Random, number: int) -> None:
        self.system = system
        self.rng = rng
        self.settled_at = 0.0
        self.rooms = [f"round{number}-{place}" for place in range(ROOMS)]
        self.talkers = [
            Talker(
                user,
                self.rooms[place % ROOMS],
                lambda: [broker.url for broker in system.brokers],
                turn=place // ROOMS,
            )
            for place, user in enumerate(USERS_NAMED)
        ]

    @property
    def answers(self) -> int:
        return sum(len(talker.answered) for talker in self.talkers)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for talker in self.talkers:
                nursery.start_soon(talker.run)
            await wait_until(lambda: all(talker.is_subscribed for talker in self.talkers))
            for talker in self.talkers:
                talker.may_talk.set()
            await self._wait_answers(*ANSWERS_BEFORE)
            victims = self.rng.choice(["0", "1", "archiver", "0 archiver", "archiver 1"]).split()
            for victim in victims:
                self._kill(victim)
                await self._wait_answers(1, 100)
            for victim in victims:
                nursery.start_soon(self._restart, victim)
            await self._wait_answers(*ANSWERS_AFTER)
            await self._finish()

    async def _wait_answers(self, least: int, most: int) -> None:
        wanted = self.answers + self.rng.randint(least, most)
        await wait_until(lambda: self.answers >= wanted, deadline=30, what=f"{wanted} answers")

    def _kill(self, victim: str) -> None:
        self._process(victim).kill()

    def _process(self, victim: str) -> ServerProcess:
        if victim == "archiver":
            assert self.system.archiver is not None
            return self.system.archiver
        return self.system.brokers[int(victim)]

    async def _restart(self, victim: str) -> None:
        if victim == "archiver":
            self.system.archiver = await self.system.processes.start_archiver()
        else:
            self.system.brokers[int(victim)] = await self.system.processes.start_broker()

    async def _finish(self) -> None:
        """Say nothing more, wait until everybody has seen everything, and go."""
        for talker in self.talkers:
            talker.is_talking = False
        await wait_until(
            lambda: all(talker.is_quiet for talker in self.talkers),
            deadline=30, what="all answered",
        )  # fmt: skip
        await wait_until(self._is_all_delivered, deadline=30, what="all delivered")
        self.settled_at = trio.current_time()
        for talker in self.talkers:
            talker.is_leaving = True

    def _is_all_delivered(self) -> bool:
        return all(
            operation.answer["message_id"] in receiver.ids
            for sender in self.talkers
            for receiver in self.talkers
            if receiver.room == sender.room
            for operation in sender.answered
        )

    async def check(self) -> None:
        await self.system.wait_archived()
        record = record_of(
            [operation for talker in self.talkers for operation in talker.operations],
            [connection for talker in self.talkers for connection in talker.connections],
            database_url=self.system.database_url,
            members=dict.fromkeys(self.rooms, USERS_NAMED),
            settled_at=self.settled_at,
        )
        assert check(record) == []
        for room in self.rooms:
            sequences = {tuple(talker.seen()) for talker in self.talkers if talker.room == room}
            rows = self.system.stored(room)
            archived = tuple(row["id"] for row in rows)
            assert sequences == {archived}, "everybody has seen all there is, in one order"
            assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1)), (
                "no seq is left out"
            )


async def create_rooms(system: Deployment, rooms: Iterable[str]) -> None:
    async with open_storage(system.redis.url, system.database_url) as storage:
        for room in rooms:
            await storage.create_room(room, *USERS_NAMED)


async def run_rounds(
    processes: Processes, redis_server: RedisServer, database_url: str, *, seed: int, count: int
) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    system = await start_deployment(processes, redis_server, database_url, api=False)
    rounds = [Round(system, rng, number) for number in range(count)]
    await create_rooms(system, [room for one in rounds for room in one.rooms])
    for one in rounds:
        await one.run()
        await one.check()
        moved = sum(len(talker.connections) - 1 for talker in one.talkers)
        print(f"{one.rooms[0]}: {one.answers} answers, {moved} reconnects")
    await system.check_rooms()


async def test_a_kill_loses_nothing(processes, redis_server, database_url):
    await run_rounds(processes, redis_server, database_url, seed=random.randrange(2**32), count=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_many_kills_lose_nothing(processes, redis_server, database_url):
    await run_rounds(
        processes, redis_server, database_url, seed=random.randrange(2**32), count=ROUNDS
    )
