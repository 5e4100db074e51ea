"""Several broker processes behind one port: BROKER_PROCESSES children, ended together.

The kernel spreads connections over them (SO_REUSEPORT); each is a node of its own. They run under
a guard each, so that none outlives this process, even if it is killed with -9. SIGTERM and SIGINT
are passed on, and all of them drain. A child that ends by itself ends the others: whoever runs
`parley broker` restarts it as a whole. Nothing here serves anything.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import click
import structlog
import trio

from config import limits
from config.settings import Settings
from parley.serving import INDEX_VARIABLE
from workers.embedded.guarded import GuardedProcess, StartError

_COMMAND: Final = (sys.executable, "-m", "parley", "broker")


def run_broker_processes(settings: Settings) -> int:
    """Start the children and wait until all have ended; the first bad exit status, else 0."""
    return trio.run(_supervise, settings)


async def _supervise(settings: Settings) -> int:
    log = structlog.get_logger()
    children: list[GuardedProcess] = []
    statuses: list[int] = []
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            for index in range(settings.broker_processes):
                children.append(await _start_child(settings, index))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, signals, children)
                async with trio.open_nursery() as waiting:
                    for child in children:
                        waiting.start_soon(_wait_for, child, children, statuses)
                nursery.cancel_scope.cancel()
        finally:
            _request_stop(children)
    failed = [status for status in statuses if status != 0]
    if failed:
        log.error("broker processes ended", statuses=statuses)
    return failed[0] if failed else 0


async def _start_child(settings: Settings, index: int) -> GuardedProcess:
    start = partial(
        GuardedProcess.start,
        _COMMAND,
        env={**os.environ, INDEX_VARIABLE: str(index)},
        stdout=sys.stdout.fileno(),
        stderr=sys.stderr.fileno(),
        grace=settings.drain_seconds + limits.CHILD_STOP_EXTRA,
    )
    try:
        return await trio.to_thread.run_sync(start)
    except StartError as error:
        raise click.ClickException(str(error)) from None


async def _wait_for(
    child: GuardedProcess, children: list[GuardedProcess], statuses: list[int]
) -> None:
    await trio.lowlevel.wait_readable(child.ended_fd)
    status = await trio.to_thread.run_sync(child.wait)
    statuses.append(status)
    _request_stop(children)


async def _stop_on_signal(signals: AsyncIterator[int], children: list[GuardedProcess]) -> None:
    """The first signal asks for a drain; further ones are passed on and end a child at once."""
    await anext(signals)
    _request_stop(children)
    async for _ in signals:
        for child in children:
            child.send_signal(signal.SIGTERM)


def _request_stop(children: list[GuardedProcess]) -> None:
    """Ask every guard for a drain; those that have ended already do not mind."""
    for child in children:
        child.request_stop()
