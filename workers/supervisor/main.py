"""`parley up`: the whole system on one machine. The composition root of the supervisor.

Who is inside whom, and so the order of the end (from the inside out):

    lock of the folder
      Redis, PostgreSQL           embedded, unless their URLs are configured
        archiver                  ends after those who publish, so it can write what they left
          broker, api             drain first
            wait for a signal

SIGINT, SIGTERM and SIGHUP end it cleanly with status 0; a second one stops waiting for polite
good-byes. kill -9 is survived by nothing: every process below runs under a guard.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from config.errors import ConfigError
from config.settings import Settings, load_settings
from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.migrate import migrate
from workers.embedded.folder import keep_secret
from workers.embedded.guarded import StartError
from workers.supervisor.banner import banner, clear_env_file, write_env_file
from workers.supervisor.child import Child, ChildFailed, run_child
from workers.supervisor.console import Console
from workers.supervisor.demo import ensure_demo, ensure_key
from workers.supervisor.instance import FolderUnavailable, hold_folder
from workers.supervisor.plan import Plan, UpFailed, make_plan
from workers.supervisor.rest import Rest, RestFailed, is_ready
from workers.supervisor.servers import open_servers
from workers.supervisor.stopping import Stop

__all__ = ["UpOptions", "run_up"]

_READY_TIMEOUT = 60.0
_READY_INTERVAL = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXPECTED = (StartError, StorageRefused, StorageUnavailable, ChildFailed, RestFailed, UpFailed)


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of the command. A port of None is the default one, 0 any free one."""

    ephemeral: bool = False
    broker_port: int | None = None
    api_port: int | None = None
    env_file: Path | None = None
    data_dir: Path = Path(".parley")


def run_up(options: UpOptions) -> int:
    """Run the whole system until a signal; returns the exit status.

    0 after a signal, 1 when something can not be started, 2 for a wrong variable; the reason has
    been written then.
    """
    console = Console(sys.stdout)
    try:
        settings = load_settings()
        with _data_folder(options) as folder, hold_folder(folder) as was_killed:
            if options.env_file is not None:
                clear_env_file(options.env_file)
            plan = make_plan(
                settings,
                broker_port=options.broker_port,
                api_port=options.api_port,
                port_patience=10.0 if was_killed else 0.0,
            )
            return trio.run(partial(_run, options, settings, plan, folder, console))
    except ConfigError as error:
        print(f"parley: {error}", file=sys.stderr)
        return 2
    except (FolderUnavailable, UpFailed) as error:
        print(f"parley: {error}", file=sys.stderr)
        return 1


@contextmanager
def _data_folder(options: UpOptions) -> Iterator[Path]:
    if not options.ephemeral:
        yield options.data_dir
        return
    folder = Path(tempfile.mkdtemp(prefix="parley-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(
    options: UpOptions, settings: Settings, plan: Plan, folder: Path, console: Console
) -> int:
    stop = Stop()
    status = 0
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_signals, signals, stop, console)
            # The barrier: whatever fails below is one line, and everything has been stopped.
            try:
                await _run_system(options, settings, plan, folder, console, stop)
            except* _EXPECTED as group:
                status = _report(group, console)
            nursery.cancel_scope.cancel()
    console.say("stopped")
    return status


async def _watch_signals(signals: AsyncIterator[int], stop: Stop, console: Console) -> None:
    async for number in signals:
        if not stop.is_requested:
            name = signal.Signals(number).name
            console.say(f"{name}: stopping (once more: without waiting)")
        stop.request()


def _report(group: BaseExceptionGroup[BaseException], console: Console) -> int:
    """Show each failure; the exit status that the first of them asks for."""
    status = 1
    for error in _leaves(group):
        console.complain(str(error))
        if isinstance(error, ChildFailed) and error.status == 2:
            status = 2  # a wrong variable, which the child has just named
    return status


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


async def _run_system(
    options: UpOptions,
    settings: Settings,
    plan: Plan,
    folder: Path,
    console: Console,
    stop: Stop,
) -> None:
    urls = settings.redis_url, settings.database_url
    with stop.scope():
        async with open_servers(folder, *urls, console) as (redis_url, database_url):
            console.say("bringing the database to the newest schema")
            # May wait for another host's migration; each is one transaction, so leaving is safe.
            await trio.to_thread.run_sync(migrate, database_url, abandon_on_cancel=True)
            key = await ensure_key(folder, database_url)
            shared = plan.shared_variables | {
                "REDIS_URL": redis_url,
                "DATABASE_URL": database_url,
                "JWT_SECRET": _jwt_secret(settings, folder),
            }
            children = {
                name: Child(name=name, env=os.environ | shared | own, grace=plan.grace)
                for name, own in plan.own_variables.items()
            }
            async with _open_processes(children, console, stop):
                await _wait_ready(children, plan)
                demo = await ensure_demo(Rest(plan.api_url, key), key)
                for child in children.values():
                    child.is_past_start = True
                if options.env_file is not None:
                    write_env_file(options.env_file, plan, demo, shared)
                console.show(banner(plan, demo, folder, options.ephemeral))
                await trio.sleep_forever()


def _jwt_secret(settings: Settings, folder: Path) -> str:
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value()
    return keep_secret(folder / "jwt_secret")


@asynccontextmanager
async def _open_processes(
    children: Mapping[str, Child], console: Console, stop: Stop
) -> AsyncIterator[None]:
    """Run all children for the length of the block; a stop ends the archiver last."""
    publishers = [children["broker"], children["api"]]
    with stop.scope():
        async with _open_children([children["archiver"]], console, stop):
            with stop.scope():
                async with _open_children(publishers, console, stop):
                    with stop.scope():
                        yield


@asynccontextmanager
async def _open_children(
    children: list[Child], console: Console, stop: Stop
) -> AsyncIterator[None]:
    """Run the children for the length of the block; a fatal end of one ends the block."""
    async with trio.open_nursery() as nursery:
        for child in children:
            console.say(f"starting {child.name}")
            nursery.start_soon(run_child, child, console, stop.hurry)
        yield
        nursery.cancel_scope.cancel()


async def _wait_ready(children: Mapping[str, Child], plan: Plan) -> None:
    """Wait until every child has said that it is ready and its port confirms it."""
    with trio.move_on_after(_READY_TIMEOUT):
        for child in children.values():
            await child.said_ready.wait()
        await _wait_answering(plan.broker_http_url)
        await _wait_answering(plan.api_url)
        return
    silent = [name for name, child in children.items() if not child.said_ready.is_set()]
    waited_for = ", ".join(silent) or "/readyz"
    raise UpFailed(f"not ready within {_READY_TIMEOUT:g} s: {waited_for}")


async def _wait_answering(base_url: str) -> None:
    while True:
        if await is_ready(base_url):
            return
        await trio.sleep(_READY_INTERVAL)
