"""After the storm: presence becomes right by itself, and tells nobody of a quick reconnect.

Within 20 s of the last fault each room's presence is who is subscribed: nobody of a node that was
killed, and everybody who came back. Then some users' only connections go to another node, and those
of them that were back within PRESENCE_GRACE are absences for the checker: nobody may hear of them.
"""

from collections import Counter

import trio

from tests.faults.storm.backend import Backend
from tests.faults.storm.clients import Client
from tests.faults.storm.record import Absence
from tests.support.waiting import pass_time, wait_until

GHOSTS_LAST = 20.0
_HOPPERS = 4
_HOP_DEADLINE = 30.0
_SPARE = 0.05
"""Seconds below the grace: Redis' clock counts in milliseconds, and starts after ours."""


class Calm:
    """The end of a run, when every client is back and nothing is broken any more."""

    def __init__(self, clients: list[Client], backend: Backend, rooms: list[str]) -> None:
        self.clients = clients
        self.backend = backend
        self.rooms = rooms
        self.differing: list[str] = []
        self.observed = 0

    async def is_presence_right(self) -> bool:
        """Whether each room's presence is who is subscribed; `differing` says what is not."""
        self.differing = []
        for room in self.rooms:
            there = {c.user for c in self.clients if c.view(room).is_live}
            told = await self.backend.ask_presence(room)
            if told is None:
                self.differing.append(f"{room}: no answer")
            elif told != there:
                ghosts, missing = sorted(told - there), sorted(there - told)
                self.differing.append(f"{room}: ghosts {ghosts}, missing {missing}")
        self.observed += len(self.rooms)
        return not self.differing

    async def reconnect(self, grace: float) -> list[Absence]:
        """Some move to another node; the absences that were shorter than the grace."""
        devices = Counter(client.user for client in self.clients)
        hoppers = [client for client in self.clients if devices[client.user] == 1][:_HOPPERS]
        for client in hoppers:
            client.hop()
        await wait_until(
            lambda: all(not c.is_hopping and c.is_settled for c in hoppers),
            deadline=_HOP_DEADLINE,
            what="clients that went to another node are back",
        )
        until = max(
            (one.ended for client in hoppers for one in client.absences),
            default=trio.current_time(),
        )
        # Whatever is told of it is told once the grace has passed.
        await pass_time(max(0.0, until + grace + 1.0 - trio.current_time()))
        return [
            one
            for client in hoppers
            for one in client.absences
            if one.ended - one.begun < grace - _SPARE
        ]
