"""What an honest client feels, in a process of its own: pairs who talk on given brokers.

    python -m tests.deploy.probe --rate 10 URL [URL …]

Prints `ready`, and when its standard input ends, one line of JSON: for each message that the other
one of a pair saw, when (wall clock) and how long after it was published, in seconds; and what it
found wrong.
"""

import json
import sys
import time

import click
import trio

from tests.deploy.crowd import Crowd, open_crowd
from tests.support.waiting import pass_time, wait_until

PAIRS = 5


def room_of(place: int, pair: int) -> str:
    """The room of a pair on the broker at that place; its members are `ROOM-a` and `ROOM-b`."""
    return f"probe{place}-{pair}"


def rooms_of(brokers: int) -> list[str]:
    """All of them, to be made before."""
    return [room_of(place, pair) for place in range(brokers) for pair in range(PAIRS)]


async def run(urls: tuple[str, ...], rate: float) -> None:
    async with trio.open_nursery() as nursery:
        crowds: list[Crowd] = []
        stop = trio.Event()
        for place, url in enumerate(urls):
            await nursery.start(_open, crowds, place, url, stop)
        for crowd in crowds:
            await wait_until(crowd.is_settled, deadline=60)
            nursery.start_soon(crowd.publish_at, rate, stop)
        click.echo("ready")
        await trio.to_thread.run_sync(sys.stdin.read)
        offset = time.time() - trio.current_time()
        stop.set()
        for crowd in crowds:
            await wait_until(crowd.is_settled, deadline=60)
        samples = [(at + offset, took) for crowd in crowds for at, took in crowd.latencies]
        faults = [fault for crowd in crowds for fault in crowd.judge()]
        lost = sum(len(crowd.pauses) for crowd in crowds)
        click.echo(json.dumps({"samples": samples, "faults": faults, "reconnects": lost}))
        nursery.cancel_scope.cancel()


async def _open(
    crowds: list[Crowd],
    place: int,
    url: str,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with open_crowd(lambda: url) as crowd:
        for pair in range(PAIRS):
            room = room_of(place, pair)
            for side in "ab":
                crowd.add(f"{room}-{side}", room)
                await pass_time(0.02)
        crowds.append(crowd)
        task_status.started()
        await stop.wait()
        await trio.sleep_forever()


@click.command(help=__doc__)
@click.option("--rate", default=10.0, show_default=True, help="Messages a second and broker.")
@click.argument("urls", nargs=-1, required=True)
def main(rate: float, urls: tuple[str, ...]) -> None:
    trio.run(run, urls, rate)


if __name__ == "__main__":
    main()
