"""Faults of the network, on any single way between two parts, by its proxy."""

import random

from tests.faults.storm.faults import Fault
from tests.faults.storm.world import ARCHIVERS, BROKERS, World
from tests.support.proxy import Direction, TcpProxy

_WAYS = (
    *(f"broker{number}-{end}" for number in range(BROKERS) for end in ("redis", "postgres")),
    *(f"broker{number}-clients" for number in range(BROKERS)),
    *(f"archiver{number}-{end}" for number in range(ARCHIVERS) for end in ("redis", "postgres")),
    "api-redis", "api-postgres", "api-clients",
)  # fmt: skip


class WayFault(Fault):
    """A fault of one way."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.way = rng.choice(_WAYS)
        self.takes = self.ways = frozenset({self.way})

    def proxy(self, world: World) -> TcpProxy:
        return world.proxy(self.way)


class Delay(WayFault):
    """Every piece is held back."""

    kind = "net-delay"

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._seconds = rng.choice((0.005, 0.05, 0.3, 1.0))

    async def begin(self, world: World) -> None:
        self.proxy(world).delay = self._seconds

    async def heal(self, world: World) -> None:
        self.proxy(world).delay = 0.0


class Cut(WayFault):
    """All connections are cut, at once."""

    kind = "net-cut"
    lengths = (0.0, 0.1)

    async def begin(self, world: World) -> None:
        self.proxy(world).cut()


class CutInside(WayFault):
    """One connection is cut inside of a frame, a request or a reply, in either direction."""

    kind = "net-cut-inside"
    lengths = (0.0, 2.0)
    weight = 8

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        directions: tuple[Direction, ...] = ("to_server", "to_client")
        self._direction = rng.choice(directions)
        self._bytes = rng.randrange(5000)

    async def begin(self, world: World) -> None:
        self.proxy(world).cut_after(self._bytes, self._direction)


class Drop(WayFault):
    """Bytes are taken and dropped; nothing is closed until the end."""

    kind = "net-drop"

    async def begin(self, world: World) -> None:
        self.proxy(world).swallow()

    async def heal(self, world: World) -> None:
        self.proxy(world).stop_swallowing()


class Pause(WayFault):
    """Bytes are held back until the end, and then all come."""

    kind = "net-pause"
    lengths = (0.5, 8.0)

    async def begin(self, world: World) -> None:
        self.proxy(world).pause()

    async def heal(self, world: World) -> None:
        self.proxy(world).resume()


class Refuse(WayFault):
    """Connections are cut and new ones ended at once."""

    kind = "net-refuse"

    async def begin(self, world: World) -> None:
        self.proxy(world).refuse()

    async def heal(self, world: World) -> None:
        self.proxy(world).accept()


class Hang(WayFault):
    """Connections are cut; new ones are accepted and never answered."""

    kind = "net-hang"

    async def begin(self, world: World) -> None:
        self.proxy(world).hang()
        self.proxy(world).cut()

    async def heal(self, world: World) -> None:
        self.proxy(world).stop_hanging()


class Trickle(WayFault):
    """Bytes pass one at a time."""

    kind = "net-trickle"

    async def begin(self, world: World) -> None:
        self.proxy(world).trickle()

    async def heal(self, world: World) -> None:
        self.proxy(world).stop_trickling()
