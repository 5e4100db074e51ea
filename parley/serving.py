"""`parley broker`, `api` and `archiver`: settings, logs, then the composition root under trio.

Each root is `async def serve_x(settings, *, ready)`: it returns after a drain and calls `ready`
once, with the address, when it serves. Here stands what they have in common, and the case of
several broker processes on one port.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NoReturn

import click
import trio

from broker.domain.identity import TokenVerifier
from config.errors import ConfigError
from config.logging import configure_logging
from config.process_limits import COLLECT_ALL_AFTER, COLLECT_ALL_AFTER_BROKER, COLLECT_AT
from config.settings import Process, Settings, load_settings
from config.stopping import end_process
from storage.redis.address import require_address

# Set by `run_broker` for its children only: which one of BROKER_PROCESSES this is.
INDEX_VARIABLE: Final = "PARLEY_BROKER_INDEX"

Serve = Callable[..., Awaitable[Any]]


def run_broker() -> NoReturn:
    """Serve as one broker, or start BROKER_PROCESSES of them and wait for their end."""
    settings = _start("broker")
    index = os.environ.get(INDEX_VARIABLE)
    if settings.broker_processes > 1 and index is None:
        from parley.broker_processes import run_broker_processes

        raise SystemExit(run_broker_processes(settings))
    if index is not None and settings.metrics_port:
        metrics_port = settings.metrics_port + _parse_index(index, settings)
        settings = settings.model_copy(update={"metrics_port": metrics_port})
    from broker.main import serve_broker

    _serve("broker", serve_broker, settings)


def run_api() -> NoReturn:
    """Serve the REST API until it has drained."""
    settings = _start("api")
    from api.main import serve_api

    _serve("api", serve_api, settings)


def run_archiver() -> NoReturn:
    """Archive until told to stop."""
    settings = _start("archiver")
    from workers.archiver.main import serve_archiver

    _serve("archiver", serve_archiver, settings)


def _start(process: Process) -> Settings:
    settings = load_settings()
    settings.require_for(process)
    require_address(settings.redis_url)
    if process != "archiver":
        # A key that can not be used is told at once, not when both storages have answered.
        TokenVerifier.from_settings(settings)
    configure_logging(settings.log_level, settings.log_format)
    return settings


def _serve(process: str, serve: Serve, settings: Settings) -> NoReturn:
    def ready(where: str) -> None:
        click.echo(f"parley {process} is ready: {where}", err=True)

    _calm_collector(process)
    try:
        trio.run(
            partial(serve, settings, ready=ready),
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except (OSError, BaseExceptionGroup) as error:
        wrong = _wrong_address(error, settings)
        if wrong is None:
            raise
        raise wrong from None
    end_process()


def _calm_collector(process: str) -> None:
    rounds = COLLECT_ALL_AFTER_BROKER if process == "broker" else COLLECT_ALL_AFTER
    gc.freeze()
    gc.set_threshold(COLLECT_AT, 10, rounds)


def _wrong_address(error: BaseException, settings: Settings) -> ConfigError | None:
    """Return the variable to blame if all that went wrong is that the port can not be had."""
    if isinstance(error, BaseExceptionGroup):
        found = [_wrong_address(member, settings) for member in error.exceptions]
        return None if None in found else found[0]
    if not isinstance(error, OSError):
        return None
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return ConfigError("HOST", f"can not serve on {settings.host}: {error.strerror}")
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        port = "the default port" if settings.port is None else f"port {settings.port}"
        return ConfigError(
            "PORT",
            f"can not serve on {port} of {settings.host}: {error.strerror}; allowed: a free one",
        )
    return None


def _parse_index(text: str, settings: Settings) -> int:
    if not text.isdecimal() or int(text) >= settings.broker_processes:
        raise ConfigError(INDEX_VARIABLE, "it is set by parley itself and by nobody else")
    return int(text)
