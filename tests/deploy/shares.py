"""Where the processor's time goes while something is measured: cores used, by who used them."""

import time
from collections.abc import Mapping, Sequence

import psutil

from tests.deploy.site import Site
from tests.support.servers import PostgresServer
from tests.support.waiting import pass_time


def pids_of(site: Site, postgres: PostgresServer) -> dict[str, list[int]]:
    """Everybody at work, by name; PostgreSQL is all of its processes."""
    family = psutil.Process(postgres.pid).children(recursive=True)
    assert site.system.archiver is not None
    return {
        "brokers": [server.pid for server in site.brokers],
        "Redis": [site.system.redis.pid],
        "PostgreSQL": [postgres.pid, *(process.pid for process in family)],
        "archiver": [site.system.archiver.pid],
        "balancer": [site.balancer.pid],
        "generator": [psutil.Process().pid],
    }


async def measure_shares(pids: Mapping[str, Sequence[int]], seconds: float) -> dict[str, float]:
    """Cores used by each for so long, and by everybody else as `others`."""
    before, busy, began = {name: _used(some) for name, some in pids.items()}, _busy(), time.time()
    await pass_time(seconds)
    took = time.time() - began
    shares = {name: (_used(some) - before[name]) / took for name, some in pids.items()}
    others = (_busy() - busy) / took - sum(shares.values())
    return shares | {"others": max(0.0, others)}


def _used(pids: Sequence[int]) -> float:
    used = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system
    return used


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq)
