"""Restart every broker in turn under load, and tell what clients felt.

As a command, at any scale:

    python -m tests.deploy.rolling --clients 3000 --rate 2000

It starts its own Redis and PostgreSQL, three brokers and a balancer, and prints a table. Exit
status 1 and the breaches if anything was lost, doubled, out of order, or announced as gone. The
generator is one Python process: on a small machine it competes with what it measures.
"""

import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import psutil
import trio

from storage.postgres.pool import open_database
from tests.deploy.balancers import Balancer, HAProxy, Nginx
from tests.deploy.crowd import Crowd, open_crowd, percentile
from tests.deploy.shares import measure_shares, pids_of
from tests.deploy.site import Site, open_site, wait_settled
from tests.support.deployment import Deployment
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import pass_time, wait_until

STEADY = 5.0
READING_TIMEOUT = 60.0
"""Seconds to read what is stored: half an hour of messages on a busy machine."""
KINDS: dict[str, type[Balancer]] = {"haproxy": HAProxy, "nginx": Nginx}


@dataclass(frozen=True)
class Load:
    """How many clients, in rooms of how many, and how many messages a second they publish.

    `deaf`: one of so many clients does not know `drain`; 0: all do. `arrivals`: how many of them
    come in a second at the beginning.
    """

    clients: int
    room_size: int
    rate: float
    deaf: int = 0
    arrivals: float = 2000.0


async def gather(site: Site, crowd: Crowd, load: Load) -> None:
    """Make the rooms, then let everybody come, and forget what coming felt like."""
    rooms = -(-load.clients // load.room_size)
    users = [f"u{number}" for number in range(load.clients)]
    async with trio.open_nursery() as nursery:
        limiter = trio.CapacityLimiter(8)
        for room in range(rooms):
            nursery.start_soon(_create, site, limiter, f"room{room}", users[room::rooms])
    for number, user in enumerate(users):
        member = crowd.add(user, f"room{number % rooms}")
        member.follows_drain = not (load.deaf and number % load.deaf == 0)
        if number % 100 == 99:
            await pass_time(100 / load.arrivals)
    await wait_settled(crowd.is_settled, crowd.unsettled, 60 + load.clients / 20)
    crowd.pauses.clear()
    crowd.gone.clear()
    crowd.refusals.clear()


async def _create(site: Site, limiter: trio.CapacityLimiter, room: str, users: list[str]) -> None:
    async with limiter:
        for first in range(0, len(users), 100):
            if first == 0:
                await site.system.create_room(room, *users[:100])
            else:
                body = {"users": users[first : first + 100]}
                await site.system.ok("POST", f"/v1/rooms/{room}/members", body)


async def roll(site: Site, crowd: Crowd, rate: float, *, steady: float = 2.0) -> float:
    """Publish all the time, restart every broker in turn, and wait until everybody is back.

    Returns how long that took, in seconds. `steady`: time before, between and after.
    """
    stop = trio.Event()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.publish_at, rate, stop)
        await pass_time(steady)
        for place in range(len(site.brokers)):
            await site.restart(site.brokers, place)
            await pass_time(steady)
        stop.set()
    took = trio.current_time() - began
    await wait_settled(crowd.is_settled, crowd.unsettled, 120)
    await wait_until(
        lambda: site.system.redis.command("ZCARD", "parley:leases") == len(site.brokers),
        deadline=40,
        what="the presence that drained nodes left behind is gone",
    )
    return took


async def check_stored(system: Deployment, crowd: Crowd) -> list[str]:
    """A sentence for every answer that is not in PostgreSQL, once, as it was answered."""
    await system.wait_archived(deadline=120)
    async with open_database(
        system.database_url, pool_size=1, statement_timeout=READING_TIMEOUT
    ) as db:
        rows = await db.fetch(
            "SELECT r.id AS room, m.id::text AS id, m.event_offset, m.client_id "
            "FROM messages m JOIN rooms r ON r.pk = m.room_pk"
        )
    faults = []
    stored: dict[tuple[str, str], tuple[str, int]] = {}
    for row in rows:
        key = (row["room"], row["client_id"])
        if key in stored:
            faults.append(f"{key} is stored twice")
        stored[key] = (row["id"], row["event_offset"])
    for room, ledger in crowd.rooms.items():
        faults += [
            f"{room}: {client_id} was answered with {place}, not {stored.get((room, client_id))}"
            for client_id, place in ledger.answers.items()
            if stored.get((room, client_id)) != place
        ]
    return faults


def report(site: Site, crowd: Crowd, took: float) -> str:
    """What it felt like, one figure a line."""
    pauses = [pause for _, pause in crowd.pauses]
    latencies = [latency for _, latency in crowd.latencies]
    shares = [left / within for left, within in crowd.leaving if within]
    lines = [
        ("messages published", f"{crowd.published}, {crowd.published / took:.0f} a second"),
        ("of them answered", f"{crowd.answered()}, repeated after a lost answer {crowd.repeated}"),
        ("deliveries seen", f"{len(latencies)} (others' messages, live or by resume)"),
        ("reconnects", f"{len(pauses)}; told to reload {crowd.reloads}"),
        ("pause of a reconnect", _spread(pauses)),
        ("publish to event", _spread(latencies)),
        ("left in quarters of the window", ", ".join(map(str, quarters(shares)))),
        ("a drain took", ", ".join(f"{seconds:.1f} s" for seconds in site.drains)),
        ("connects refused or ended", str(dict(crowd.refusals))),
    ]
    return "\n".join(f"{name:<32} {value}" for name, value in lines)


def quarters(shares: list[float]) -> list[int]:
    """How many lie in each quarter of 0 to 1."""
    return [sum(n / 4 <= share < (n + 1) / 4 for share in shares) for n in range(4)]


def _spread(seconds: list[float]) -> str:
    parts = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return ", ".join(f"{n} {percentile(seconds, p) * 1000:.0f} ms" for n, p in parts.items())


async def run(load: Load, balancer: str, drain_seconds: int) -> int:
    """The whole command; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="rolling-"))
    redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
    try:
        redis.start()
        postgres.start()
        async with (
            open_site(
                folder / "site",
                redis,
                postgres.create_database(),
                kind=KINDS[balancer],
                DRAIN_SECONDS=str(drain_seconds),
            ) as site,
            open_crowd(lambda: site.balancer.url) as crowd,
        ):
            await gather(site, crowd, load)
            click.echo(f"{load.clients} clients are there; load {psutil.getloadavg()[0]:.1f}")
            shares: dict[str, float] = {}

            async def watch() -> None:
                shares.update(await measure_shares(pids_of(site, postgres), STEADY - 1.0))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                took = await roll(site, crowd, load.rate, steady=STEADY)
            faults = crowd.judge() + await check_stored(site.system, crowd)
            click.echo(report(site, crowd, took))
            used = ", ".join(f"{name} {cores:.2f}" for name, cores in shares.items())
            click.echo(f"{'cores used before the first drain':<32} {used}")
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"{'breaches':<32} {len(faults)}")
    for fault in faults[:20]:
        click.echo(fault)
    return 1 if faults else 0


@click.command(help=__doc__)
@click.option("--clients", default=300, show_default=True)
@click.option("--rate", default=200.0, show_default=True, help="Messages a second, of all.")
@click.option("--room-size", default=5, show_default=True)
@click.option("--deaf", default=10, show_default=True, help="One of so many knows no drain.")
@click.option("--balancer", type=click.Choice(list(KINDS)), default="haproxy", show_default=True)
@click.option("--drain-seconds", default=20, show_default=True)
def main(
    clients: int, rate: float, room_size: int, deaf: int, balancer: str, drain_seconds: int
) -> None:
    load = Load(clients, room_size, rate, deaf, arrivals=250.0)
    sys.exit(trio.run(partial(run, load, balancer, drain_seconds)))


if __name__ == "__main__":
    main()
