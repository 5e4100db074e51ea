"""A soak: ordinary load for half an hour, a fault each minute, and nothing may grow.

    python -m tests.deploy.soak --minutes 30 --clients 300 --rate 100 --seed 1

Three brokers, two archivers, an API, a Redis and a PostgreSQL of its own. The clients publish,
come and go; a backend reads pages, reacts, edits and marks over REST. Prints a line each minute and
the judgement: every part that lived through it has the memory, descriptors and tasks that it had in
the fifth minute, nothing that was answered is lost. Exit status 1 otherwise.
"""

import random
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import click
import psutil
import trio

from tests.deploy.crowd import Crowd, open_crowd, percentile
from tests.deploy.rolling import check_stored
from tests.deploy.site import wait_settled
from tests.deploy.soak.faults import in_some_order
from tests.deploy.soak.samples import MIB, Sample, growths, table
from tests.deploy.soak.world import World, open_world
from tests.support.http import request
from tests.support.tokens import make_token
from tests.support.waiting import pass_time

ROOM_SIZE = 5
FROM_MINUTE = 5
SAMPLE_AT = 50.0
"""Seconds of a minute after its fault: whatever it was, it is over."""


async def gather(world: World, crowd: Crowd, clients: int) -> None:
    """Rooms whose members are on all brokers, each client always on the same one."""
    rooms = -(-clients // ROOM_SIZE)
    users = [f"u{number}" for number in range(clients)]
    for room in range(rooms):
        await world.system.create_room(f"room{room}", *users[room::rooms])
    for number, user in enumerate(users):
        member = crowd.add(user, f"room{number % rooms}")
        member.url = partial(url_of, world, f"broker{1 + number % 3}")
        if number % 20 == 19:
            await pass_time(0.05)
    await wait_settled(crowd.is_settled, crowd.unsettled, 60 + clients / 20)


def url_of(world: World, name: str) -> str:
    return world.parts[name].url


async def churn(crowd: Crowd) -> None:
    """Somebody leaves and comes back each second."""
    while True:
        await pass_time(random.uniform(0.5, 1.5))
        online = crowd.online()
        if online:
            random.choice(online).leave()


async def use_rest(world: World, crowd: Crowd, statuses: Counter[int]) -> None:
    """A backend that reads and changes; it may be refused while a fault lasts."""
    while True:
        await pass_time(0.2)
        member = random.choice(crowd.members)
        room = f"/v1/rooms/{member.room}"
        method, path = random.choice(
            [
                ("GET", f"{room}/messages?limit=20"),
                ("GET", f"{room}/members"),
                ("GET", f"{room}/search?q=u1"),
                ("GET", "/v1/me/rooms?limit=10"),
                ("PUT", f"{room}/messages/1/reactions/x"),
                ("DELETE", f"{room}/messages/1/reactions/x"),
                ("POST", f"{room}/read"),
            ]
        )
        body: dict[str, str] | None = {} if method == "POST" else None
        try:
            url, token = world.parts["api"].base_url + path, make_token(member.user)
            answer = await request(method, url, token=token, body=body, timeout=30)
        except OSError:
            statuses[0] += 1
        else:
            statuses[answer.status] += 1


async def soak(world: World, crowd: Crowd, *, minutes: int, rate: float, seed: int) -> None:
    """Everything at once for so long; prints a line each minute."""
    faults = in_some_order(seed)
    statuses: Counter[int] = Counter()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.publish_at, rate, stop)
        nursery.start_soon(churn, crowd)
        nursery.start_soon(use_rest, world, crowd, statuses)
        began = trio.current_time()
        for minute in range(1, minutes + 1):
            fault = next(faults)
            await fault(world, crowd)
            await pass_time(began + 60 * minute - 60 + SAMPLE_AT - trio.current_time())
            now = await world.sample(minute)
            click.echo(f"{minute:>3} {line(crowd, now)} {fault.__name__}")
            await pass_time(max(0.0, began + 60 * minute - trio.current_time()))
        stop.set()
        nursery.cancel_scope.cancel()
    click.echo(f"REST answers: {dict(statuses)}")


def line(crowd: Crowd, now: dict[str, Sample]) -> str:
    """The state of a minute in one line: PSS of each, in MiB."""
    sizes = " ".join(f"{name} {sample.pss / MIB:.0f}" for name, sample in now.items())
    return (
        f"{sizes} | online {len(crowd.online())}, published {crowd.published}, "
        f"answered {crowd.answered()}, load {psutil.getloadavg()[0]:.1f} |"
    )


async def run(clients: int, rate: float, minutes: int, seed: int) -> int:
    """The whole command; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        async with (
            open_world(folder) as world,
            open_crowd(lambda: world.parts["broker1"].url) as crowd,
        ):
            await gather(world, crowd, clients)
            await soak(world, crowd, minutes=minutes, rate=rate, seed=seed)
            await wait_settled(crowd.is_settled, crowd.unsettled, 120)
            # Whoever was on a node that was stopped for longer than its lease was gone indeed.
            crowd.gone.clear()
            faults = crowd.judge() + world.broken() + growths(world.series, FROM_MINUTE)
            click.echo(table(world.series, FROM_MINUTE))
            click.echo(f"breaches before what is stored was read: {len(faults)}")
            faults += await check_stored(world.system, crowd)
            latencies = [took for _, took in crowd.latencies]
            click.echo(
                f"published {crowd.published}, answered {crowd.answered()}, repeated "
                f"{crowd.repeated}, reconnects {len(crowd.pauses)}, reloads {crowd.reloads}; "
                f"publish to event p50 {percentile(latencies, 0.5) * 1000:.0f} ms, "
                f"p99 {percentile(latencies, 0.99) * 1000:.0f} ms, faults included"
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"breaches: {len(faults)}")
    for fault in faults[:20]:
        click.echo(fault)
    return 1 if faults else 0


@click.command(help=__doc__)
@click.option("--minutes", default=30, show_default=True)
@click.option("--clients", default=300, show_default=True)
@click.option("--rate", default=100.0, show_default=True, help="Messages a second, of all.")
@click.option("--seed", default=1, show_default=True)
def main(minutes: int, clients: int, rate: float, seed: int) -> None:
    sys.exit(trio.run(run, clients, rate, minutes, seed))


if __name__ == "__main__":
    main()
