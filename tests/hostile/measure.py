"""`python -m tests.hostile.measure [ATTACK …]`: each attack at scale, and what an honest pair felt.

It starts servers of its own (broker and API with the product's defaults), drives each attack from a
process of its own for SECONDS, meanwhile measures the pair's time from publishing to the event, and
prints a table: what the attackers met, the servers' memory at its peak, p50 and p99 before and
during. `--attackers N` (default 50; `half-open` opens a hundred connections for each),
`--seconds S`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tests.hostile.attacks import ATTACKS
from tests.hostile.force import Force
from tests.hostile.honest import Felt, honest_pair
from tests.hostile.target import Target
from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import pass_time
from workers.embedded.ports import free_port

_LARGE_MESSAGES = 30
_CALM_SECONDS = 3.0
_PATIENCE = 45.0
_CALM_ROOM = "calm"


async def main() -> None:
    """Run the attacks that are named, or all."""
    arguments = _parser().parse_args()
    force = Force(arguments.attackers, arguments.seconds)
    if arguments.target:
        name = arguments.attacks[0]
        met = Counter({"not ended in time": 1})
        with trio.move_on_after(force.seconds + _PATIENCE):
            met = await ATTACKS[name].run(Target.from_json(arguments.target), force)
        print(json.dumps(met))
        return
    print("| attack | met | memory | p50, p99 before | p50, p99 during |")
    print("|---|---|---|---|---|")
    metrics_port = free_port()
    async with _deployment(metrics_port) as deployment:
        target = await _target(deployment, metrics_port)
        for name in arguments.attacks or ATTACKS:
            print(await _measure(name, target, force), flush=True)


async def _measure(name: str, target: Target, force: Force) -> str:
    before = await _feel(target, partial(pass_time, _CALM_SECONDS))
    peak = [target.memory()]
    met: Counter[str] = Counter()

    async def attack() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_memory, target, peak)
            met.update(await _attack(name, target, force))
            nursery.cancel_scope.cancel()

    during = await _feel(target, attack)
    outcomes = ", ".join(f"{count} x {what}" for what, count in met.most_common())
    memory = f"{peak[0] // 2**20} -> {max(peak) // 2**20} MiB"
    return f"| {name} | {outcomes} | {memory} | {_pair(before)} | {_pair(during)} |"


def _pair(felt: Felt) -> str:
    return f"{felt.percentile(0.5):.1f}, {felt.percentile(0.99):.1f} ms"


async def _feel(target: Target, work: object) -> Felt:
    async with honest_pair(target.broker_url, _CALM_ROOM, pause=0.025) as felt:
        await work()  # type: ignore[operator]
    return felt


async def _attack(name: str, target: Target, force: Force) -> dict[str, int]:
    """In a process of its own, so that its work is not felt as the server's."""
    ended = await trio.run_process(
        [
            sys.executable, "-m", "tests.hostile.measure", name, "--target", target.as_json(),
            "--attackers", str(force.attackers), "--seconds", str(force.seconds),
        ],
        capture_stdout=True,
    )  # fmt: skip
    met: dict[str, int] = json.loads(ended.stdout)
    return met


async def _watch_memory(target: Target, peak: list[int]) -> None:
    while True:
        peak.append(target.memory())
        await pass_time(0.1)


@asynccontextmanager
async def _deployment(metrics_port: int) -> AsyncIterator[Deployment]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
        processes = Processes(folder / "processes", {})
        redis.start()
        postgres.start()
        try:
            url = postgres.create_database()
            deployment = await start_deployment(
                processes,
                redis,
                url,
                brokers=0,
                RATE_MESSAGES_PER_SECOND="50",
                RATE_REQUESTS_PER_SECOND="50",
            )
            broker = await processes.start_broker(METRICS_PORT=str(metrics_port))
            deployment.brokers.append(broker)
            yield deployment
        finally:
            processes.kill_all()
            redis.stop()
            postgres.stop()


async def _target(deployment: Deployment, metrics_port: int) -> Target:
    await deployment.create_room("noise", "mallory")
    await deployment.create_room(_CALM_ROOM, "alice", "bob")
    body = {"user_id": "mallory", "content": "x" * 30_000}
    for _ in range(_LARGE_MESSAGES):
        await deployment.ok("POST", "/v1/rooms/noise/messages", body)
    broker, api = deployment.brokers[0], deployment.api
    assert api is not None
    return Target(broker.url, broker.pid, api.base_url, api.pid, "noise", metrics_port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.measure", description=__doc__)
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []])
    parser.add_argument("--attackers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    trio.run(main)
