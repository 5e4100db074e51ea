"""Faults of our own processes: killed, stopped, ended, short of memory, with a wrong clock."""

import random
import resource
import signal

import psutil
import trio

from tests.faults.storm.checker import Breach, Trouble
from tests.faults.storm.faults import Fault
from tests.faults.storm.world import ARCHIVERS, BROKERS, Part, World

_PARTS = [
    *(f"broker{number}" for number in range(BROKERS)),
    *(f"archiver{number}" for number in range(ARCHIVERS)),
    "api",
]
_END_DEADLINE = 60.0
_SPARE = 15.0
"""Seconds beyond DRAIN_SECONDS: the machine is busy, and several faults last."""
_CLOCK = "tests.faults.storm.clock"


class PartFault(Fault):
    """A fault of one process."""

    candidates = tuple(_PARTS)

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.target = rng.choice(self.candidates)
        self.takes = frozenset({self.target})

    def part(self, world: World) -> Part:
        return world.parts[self.target]


class Kill(PartFault):
    """SIGKILL; another one is started later."""

    kind = "kill"
    weight = 8

    async def begin(self, world: World) -> None:
        part = self.part(world)
        part.life.is_ending = True
        part.server.kill()

    async def heal(self, world: World) -> None:
        await world.start(self.part(world))


class Stop(PartFault):
    """SIGSTOP, often for longer than the lease, then SIGCONT."""

    kind = "stop"
    lengths = (1.0, 12.0)
    weight = 8

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        if rng.random() < 0.06:
            self.length = rng.uniform(12.0, 40.0)

    async def begin(self, world: World) -> None:
        self.part(world).server.pause()

    async def heal(self, world: World) -> None:
        self.part(world).server.resume()


class Terminate(PartFault):
    """SIGTERM: it drains and ends; another one is started."""

    kind = "terminate"
    weight = 6

    async def begin(self, world: World) -> None:
        part = self.part(world)
        part.life.is_ending = True
        self._hears = bool(part.server.output())
        self._asked_at = trio.current_time()
        part.server.terminate()

    async def heal(self, world: World) -> None:
        part = self.part(world)
        status = await part.server.wait_ended(_END_DEADLINE)
        took = trio.current_time() - self._asked_at
        # Who has just been started, by another fault, and has said nothing yet is not there to
        # hear of it, and ends as any process does.
        expected = {0} if self._hears else {0, 128 + signal.SIGTERM}
        if status not in expected or took - self.length > world.drain_seconds + _SPARE:
            text = f"{part.name}: status {status} after {took:.1f} s"
            world.found.append(Breach(Trouble.SLOW_DRAIN, text))
        await world.start(part)


class Memory(PartFault):
    """A limit of memory just above what is in use; if it ends of that, another one is started."""

    kind = "memory"
    lengths = (1.0, 6.0)
    weight = 2
    candidates = tuple(name for name in _PARTS if name.startswith("broker"))

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._left = rng.randrange(256 * 1024, 16 * 1024 * 1024)

    async def begin(self, world: World) -> None:
        part = self.part(world)
        world.excuse(part)
        used = await trio.to_thread.run_sync(lambda: psutil.Process(part.server.pid).memory_info())
        limit = (used.vms + self._left, resource.RLIM_INFINITY)
        resource.prlimit(part.server.pid, resource.RLIMIT_AS, limit)

    async def heal(self, world: World) -> None:
        """Without memory anything may have broken in it: what is judged is what others see."""
        part = self.part(world)
        if part.server.is_running():
            part.server.kill()
        await world.start(part)


class Clock(PartFault):
    """The process is replaced by one whose wall clock is an hour off, and replaced again later."""

    kind = "clock"
    lengths = (6.0, 12.0)
    weight = 2

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._shift = rng.choice((-3600, 3600))

    def __str__(self) -> str:
        return f"{super().__str__()} ({self._shift:+} s)"

    async def begin(self, world: World) -> None:
        part = self.part(world)
        part.module = _CLOCK
        part.start_env["SHIFT_SECONDS"] = str(self._shift)
        await self._replace(world, part)

    async def heal(self, world: World) -> None:
        part = self.part(world)
        part.module = "parley"
        del part.start_env["SHIFT_SECONDS"]
        await self._replace(world, part)

    async def _replace(self, world: World, part: Part) -> None:
        part.life.is_ending = True
        part.server.kill()
        await world.start(part)
