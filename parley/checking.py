"""`parley check`: the configuration and every connection, one line each.

A check returns what it found or raises; a failure does not stop the checks that do not depend on
it. A wrong variable ends the command before any check (exit status 2), a failed check gives 1.
It looks at the servers as a process does when it starts, and changes nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import click
import trio

from broker.domain.identity import TokenVerifier
from broker.domain.key_set import KeysUnavailable, fetch_keys
from config import limits
from config.errors import ConfigError
from config.logging import configure_logging
from config.settings import Settings, load_settings
from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import Database, open_database
from storage.postgres.schema import known_revisions, require_schema
from storage.redis.address import require_address
from storage.redis.client import RedisClient, open_redis
from storage.redis.clock import RedisClock
from storage.redis.fsck import check_rooms
from storage.redis.keys import Keys
from storage.redis.store import require_deployment

REDIS_VERSION_MIN: Final = (6, 2)
POSTGRES_VERSION_MIN: Final = 14
CLOCK_SKEW_MAX: Final = 2.0
"""Seconds; tokens have a tolerance of five."""
BACKLOG_AGE_MAX: Final = 60.0
"""Seconds: usually it is a fraction of one."""
# More would scroll the reason of the first ones away.
_PROBLEMS_SHOWN_MAX: Final = 50


class CheckFailed(Exception):
    """A check found something wrong; the text says what, in one line or a few."""


class CheckWarning(Exception):
    """Parley runs, but somebody should look; it does not change the exit status."""


@dataclass(frozen=True, slots=True)
class _Servers:
    """What the checks look at, and what they tell each other."""

    settings: Settings
    redis: RedisClient
    database: Database
    failed: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    run: Callable[[_Servers], Awaitable[str]]
    needs: frozenset[str] = frozenset()


def run_checks(*, with_rooms: bool) -> int:
    """Print a line for each check; returns 0 if all are well, else 1. Raises ConfigError."""
    settings = load_settings()
    settings.require_for("check")
    require_address(settings.redis_url)
    TokenVerifier.from_settings(settings)
    # What the transports log about a server that is away, the check's own line says better.
    configure_logging("critical", "text")
    checks = [*_CHECKS]
    if settings.jwt_jwks_url is not None:
        checks.append(_JWKS)
    if with_rooms:
        checks.append(_ROOMS)
    return trio.run(_run, settings, checks)


async def _run(settings: Settings, checks: Sequence[_Check]) -> int:
    click.echo(f"ok      configuration: {_describe(settings)}")
    async with _open_servers(settings) as servers:
        for check in checks:
            missing = check.needs & servers.failed
            if missing:
                servers.failed.add(check.name)
                click.echo(f"skipped {check.name}: it needs {' and '.join(sorted(missing))}")
                continue
            try:
                with trio.fail_after(math.inf if check is _ROOMS else 3 * limits.COMMAND_TIMEOUT):
                    click.echo(f"ok      {check.name}: {await check.run(servers)}")
            except CheckWarning as warning:
                click.echo(f"WARNING {check.name}: {warning}")
            except trio.TooSlowError:
                _fail(servers, check, "no answer in time")
            except (StorageUnavailable, StorageRefused) as error:
                _fail(servers, check, error.reason)
            except (CheckFailed, ConfigError) as error:
                _fail(servers, check, str(error))
        return 1 if servers.failed else 0


def _fail(servers: _Servers, check: _Check, reason: str) -> None:
    servers.failed.add(check.name)
    click.echo(f"FAILED  {check.name}: {reason}")


@asynccontextmanager
async def _open_servers(settings: Settings) -> AsyncIterator[_Servers]:
    async with (
        open_redis(settings.redis_url, name="parley-check") as redis,
        open_database(settings.database_url, pool_size=1, name="parley-check") as database,
    ):
        yield _Servers(settings=settings, redis=redis, database=database)


def _describe(settings: Settings) -> str:
    keys = [
        name
        for name, value in (
            ("HS256", settings.jwt_secret),
            ("the previous HS256 secret", settings.jwt_secret_previous),
            ("JWT_PUBLIC_KEY", settings.jwt_public_key),
            ("the keys of JWT_JWKS_URL", settings.jwt_jwks_url),
        )
        if value is not None
    ]
    return f"every variable is within its limits; tokens are verified with {', '.join(keys)}"


async def _check_redis(servers: _Servers) -> str:
    await servers.redis.wait_connected(trio.current_time() + limits.CONNECT_TIMEOUT + 1)
    commands: Any = servers.redis.commands  # redis-py types these for its own clients only
    server = await commands.info("server")
    memory = await commands.info("memory")
    name = str(server.get("server_name", "redis"))
    # Valkey tells which Redis it is compatible with in `redis_version`.
    text = str(server.get("redis_version", "0"))
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if version < REDIS_VERSION_MIN:
        raise CheckFailed(f"version {text} is too old; 6.2 or newer is needed")
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise CheckFailed(f"maxmemory-policy is {policy}; noeviction is needed, or messages vanish")
    found = f"{name} {server.get('valkey_version', text)}, maxmemory-policy {policy}"
    return "; ".join([found, *await _describe_sentinels(servers.redis)])


async def _describe_sentinels(redis: RedisClient) -> list[str]:
    """Who names the server that is connected, and what is wrong with the others."""
    answers = await redis.finder.ask_all()
    if not answers:
        return []
    agreeing = sum(answer.master == redis.server for answer in answers)
    found = [f"{redis.server} is the master by {agreeing} of {len(answers)} sentinels"]
    for answer in answers:
        if answer.problem is not None:
            found.append(answer.problem.reason)
        elif answer.master != redis.server:
            found.append(f"{answer.sentinel} names {answer.master}")
    return found


async def _check_postgres(servers: _Servers) -> str:
    number = int(await servers.database.fetchval("SHOW server_version_num"))
    if number // 10_000 < POSTGRES_VERSION_MIN:
        raise CheckFailed(f"version {number // 10_000} is too old; 14 or newer is needed")
    return f"version {number // 10_000}.{number % 10_000}"


async def _check_schema(servers: _Servers) -> str:
    version = await require_schema(servers.database)
    newest = known_revisions()[-1]
    newer = "" if version == newest else f", newer than {newest} of this version: it may be used"
    return f"schema {version}{newer}"


async def _check_deployment(servers: _Servers) -> str:
    partitions = servers.settings.room_partitions
    deployment = await ensure_deployment(servers.database, partitions)
    await require_deployment(servers.redis, deployment)
    return f"Redis and PostgreSQL belong together, {partitions} partitions"


async def _check_clocks(servers: _Servers) -> str:
    redis = await RedisClock().measure(servers.redis)
    asked_at = time.time()
    there = await servers.database.fetchval("SELECT extract(epoch FROM clock_timestamp())")
    postgres = float(there) - (asked_at + time.time()) / 2
    found = f"Redis is {redis:+.1f} s and PostgreSQL {postgres:+.1f} s from this machine"
    if max(abs(redis), abs(postgres), abs(redis - postgres)) > CLOCK_SKEW_MAX:
        raise CheckWarning(f"{found}; let all follow NTP")
    return found


async def _check_backlog(servers: _Servers) -> str:
    keys = Keys(servers.settings.room_partitions)
    size, oldest = 0, math.inf
    for partition in range(keys.partitions):
        length: Any = await servers.redis.execute("XLEN", keys.archive(partition))
        size += length
        first: Any = await servers.redis.execute(
            "XRANGE", keys.archive(partition), "-", "+", "COUNT", 1
        )
        oldest = min([oldest, *(int(entry.partition(b"-")[0]) for entry, _fields in first)])
    clock = RedisClock()
    age = max(0.0, time.time() + await clock.measure(servers.redis) - oldest / 1000)
    found = f"{size} events wait for an archiver"
    if size and age > BACKLOG_AGE_MAX:
        raise CheckWarning(f"{found}, the oldest for {age:.0f} s; does one run, does it say why?")
    return found


async def _check_letters(servers: _Servers) -> str:
    row = await servers.database.fetchrow(
        "SELECT count(*) AS letters, max(created_at) AS newest FROM dead_letters"
    )
    assert row is not None, "an aggregate has one row"
    if row["letters"]:
        raise CheckWarning(
            f"{row['letters']} events could not be archived, the newest at "
            f"{row['newest']:%Y-%m-%d %H:%M:%S}; see: parley deadletters list"
        )
    return "no event was put aside"


async def _check_jwks(servers: _Servers) -> str:
    url = servers.settings.jwt_jwks_url
    assert url is not None
    try:
        keys = await fetch_keys(url)
    except KeysUnavailable as error:
        raise CheckFailed(error.reason) from None
    named = ", ".join(f"{key.algorithm} {key.kid or 'without kid'}" for key in keys)
    return f"{len(keys)} keys: {named}"


async def _check_rooms(servers: _Servers) -> str:
    problems = await check_rooms(servers.redis, Keys(servers.settings.room_partitions))
    if problems:
        shown = problems[:_PROBLEMS_SHOWN_MAX]
        more = len(problems) - len(shown)
        raise CheckFailed("\n        ".join([*shown, *([f"and {more} more"] if more else [])]))
    return "every room in Redis is sound"


_CHECKS: Final = (
    _Check("redis", _check_redis),
    _Check("postgres", _check_postgres),
    _Check("schema", _check_schema, frozenset({"postgres"})),
    _Check("deployment", _check_deployment, frozenset({"redis", "postgres", "schema"})),
    _Check("clocks", _check_clocks, frozenset({"redis", "postgres"})),
    _Check("backlog", _check_backlog, frozenset({"deployment"})),
    _Check("letters", _check_letters, frozenset({"deployment"})),
)
_JWKS: Final = _Check("jwks", _check_jwks)
_ROOMS: Final = _Check("rooms", _check_rooms, frozenset({"redis"}))
