"""Ids that are guessed cost what ids cost that nobody has (promise 7).

That the answers are equal to the byte is `tests/matrix/test_other_projects.py`'s matter. Here: the
same commands of Redis and the same statements of PostgreSQL, as many and of the same shape, so that
no time can tell one from the other, on a quiet machine or a busy one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.matrix.table import COMMANDS, ELSEWHERE, OPERATIONS, Operation
from tests.matrix.test_other_projects import imagined
from tests.matrix.test_rooms import frame_of
from tests.matrix.world import Place, World, open_world
from tests.security.watching import Watch, open_watch, tell_statements
from tests.support.deployment import start_deployment
from tests.support.processes import Processes
from tests.support.raw_socket import open_raw_socket
from tests.support.servers import PostgresServer, RedisServer

HIDDEN = {"stranger": ("group", "direct"), "other_key": ("group",), "outsider": ("group", "direct")}
"""From whom which kinds of rooms are hidden."""


class Cost:
    """What asking costs, by who asks what."""

    def __init__(self, world: World, watch: Watch) -> None:
        self._world, self._watch = world, watch
        self.asked = 0
        self.costs: Counter[str] = Counter()
        self.differences: list[str] = []

    async def compare_route(self, column: str, operation: Operation, place: Place) -> None:
        """Ask for the place, and for one that nobody ever made."""
        found = []
        for asked in (place, imagined(place)):
            path, body = asked.path(operation.path), asked.fill(operation.body)
            self._watch.take()
            answer = await self._world.send(column, operation.method, path, body, room=asked.room)
            assert answer.status >= 400 or "{victim}" in operation.path, (path, answer)
            found.append(self._watch.take())
        self._note(f"{column}: {operation.method} {operation.path} {operation.what}", *found)

    async def compare_frames(self, column: str, place: Place) -> None:
        """The same for every frame, on one connection."""
        url = self._world.shared.brokers[0].url
        async with open_raw_socket(url, self._world.token(column)) as socket:
            for command in COMMANDS:
                found = []
                for asked in (place, imagined(place)):
                    self._watch.take()
                    await socket.ask(frame_of(command, asked))
                    found.append(self._watch.take())
                self._note(f"{column}: {command.type} {command.what}", *found)

    def _note(self, what: str, real: Counter[str], none: Counter[str]) -> None:
        self.asked += 1
        self.costs += none
        for more, less, which in ((real, none, "there"), (none, real, "not there")):
            self.differences += [f"{what}: only if it is {which}: {one}" for one in more - less]


def routes(column: str, kind: str) -> Iterator[Operation]:
    """Those about a room of this kind, and for a stranger those about users."""
    for operation in OPERATIONS:
        if kind in operation.right.kinds and operation.answer(kind, column) in "RXN":
            yield operation
    if column != "outsider":
        for about in ELSEWHERE:
            if "{victim}" in about.path and about.answer(column) == "N":
                fields = {f.name: getattr(about, f.name) for f in dataclasses.fields(about)}
                del fields["answers"], fields["free"]
                yield Operation(right=OPERATIONS[0].right, **fields)


@pytest.mark.timeout(180)
async def test_ids_of_others_cost_what_no_ids_cost(
    processes: Processes,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    database_url: str,
) -> None:
    """Promise 7: of rooms, messages and users, over REST and the WebSocket."""
    tell_statements(postgres_server, database_url)
    deployment = await start_deployment(processes, redis_server, database_url, brokers=1)
    world = await open_world(deployment)
    kinds = {kind for hidden in HIDDEN.values() for kind in hidden}
    places = {kind: await world.place(kind, "member") for kind in kinds}
    await deployment.wait_archived()
    assert deployment.archiver is not None
    await deployment.archiver.stop()
    with open_watch(redis_server, postgres_server) as watch:
        cost = Cost(world, watch)
        for column, hidden in HIDDEN.items():
            # What a user's first request does is not about ids.
            await world.send(column, "GET", "/v1/rooms")
            for kind in hidden:
                for operation in routes(column, kind):
                    await cost.compare_route(column, operation, places[kind])
                if column != "other_key":
                    await cost.compare_frames(column, places[kind])
    assert not cost.differences, "\n".join(cost.differences)
    assert cost.asked > 150
    # It was looked: each of them asks PostgreSQL who is asking, and for the id.
    assert sum(n for one, n in cost.costs.items() if one.startswith("postgres")) > cost.asked
