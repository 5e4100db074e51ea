"""After a session that uses every secret, rightly and wrongly, none of them is anywhere.

Looked through: what each process has written, every answer over HTTP and every frame, the pages of
metrics, the traces, the arguments. Passwords are wrong for a while, too, so that the processes tell
that they can not get in.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
import pytest
import trio

from broker.domain.api_keys import key_digest
from tests.support.client import ChatClient
from tests.support.collector import ENDPOINT, Collector, open_collector
from tests.support.deployment import Deployment, make_key, room_path, start_deployment
from tests.support.http import Response, request
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer, run_sql
from tests.support.tokens import make_token
from tests.support.waiting import wait_until
from tests.support.wire_client import WireClient, open_wire_client
from workers.embedded.ports import LOOPBACK, free_port

SECRET = "canary-1d6f-with-which-tokens-are-signed-now"
PREVIOUS = "canary-2a90-with-which-tokens-were-signed-before"
REDIS_PASSWORD = "canary-3c77-of-redis"
POSTGRES_PASSWORD = "canary-4b15-of-postgres"
COLLECTOR_KEY = "canary-5e02-of-the-collector"
ROOM = "general"


class Session:
    """The deployment with secrets of its own, and everything that it ever said."""

    def __init__(self, chat: Deployment, collector: Collector, ports: list[int]) -> None:
        self.chat, self.collector, self._ports = chat, collector, ports
        self.said: list[tuple[str, str]] = []
        """Where it was said, and what."""

    async def ask(self, what: str, method: str, url: str, **given: Any) -> Response:
        """One request; its answer is kept."""
        answer = await request(method, url, **given)
        text = f"{answer.status} {answer.headers} {answer.body.decode('utf-8', 'replace')}"
        self.said.append((f"answer to {what}: {method}", text))
        return answer

    async def look(self) -> None:
        """Metrics, logs, arguments and traces as they are now."""
        for port in self._ports:
            await self.ask("metrics", "GET", f"http://{LOOPBACK}:{port}/metrics")
        for process in self.chat.processes.started:
            self.said.append((f"output of {process.kind}", process.output()))
            self.said.append((f"arguments of {process.kind}",
                              " ".join(psutil.Process(process.pid).cmdline())))  # fmt: skip
        self.said += [("a span", f"{where} {span}") for where, span in self.collector.spans]


@pytest.fixture
def redis(private_redis: RedisServer) -> RedisServer:
    set_redis_password(private_redis, REDIS_PASSWORD)
    return private_redis


@pytest.fixture
def collector() -> Iterator[Collector]:
    with open_collector() as opened:
        yield opened


def set_redis_password(server: RedisServer, password: str) -> None:
    """From now on; whoever came with another one has to come again."""
    server.add_user()
    server.command("ACL", "SETUSER", "parley", "resetpass", f">{password}")
    server.command("CLIENT", "KILL", "USER", "parley")


def set_postgres_password(server: PostgresServer, role: str, password: str) -> None:
    """The same."""
    server.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
    server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    )


@asynccontextmanager
async def login(server: PostgresServer, url: str) -> AsyncIterator[tuple[str, str]]:
    """A role that may what the processes may, and the address with it."""
    server.restrict(url)
    role = f"app_{url.rpartition('_')[2]}"
    server.execute(f"CREATE ROLE {role} LOGIN IN ROLE parley_service")
    set_postgres_password(server, role, POSTGRES_PASSWORD)
    try:
        account = urlsplit(url).netloc.partition("@")[0]
        yield role, url.replace(account, f"{role}:{POSTGRES_PASSWORD}")
    finally:
        server.execute(f"DROP ROLE {role}")


def tokens() -> dict[str, str]:
    """Those that are good, and those that are not."""
    return {
        "good": make_token("alice", secret=SECRET),
        "by the former secret": make_token("alice", secret=PREVIOUS),
        "by another secret": make_token("alice", secret="no secret of ours, and long enough"),
        "expired": make_token("alice", secret=SECRET, ttl=-600),
        "of nobody": make_token("", secret=SECRET),
        "cut": make_token("alice", secret=SECRET)[:-4],
    }


async def use_over_http(session: Session, secrets: dict[str, str]) -> None:
    """Each where it belongs and where it does not: nothing gives it back."""
    assert session.chat.api is not None
    api = session.chat.api.base_url
    broker = session.chat.brokers[0].base_url
    for name, secret in secrets.items():
        basic = base64.b64encode(f"x:{secret}".encode()).decode()
        quoted = quote(secret, safe="")
        for headers in (
            {"X-API-Key": secret},
            {"Authorization": f"Bearer {secret}"},
            {"Authorization": secret},
            {"Authorization": f"Basic {basic}", "Cookie": f"token={secret}"},
            {"X-API-Key": session.chat.key, "Idempotency-Key": secret},
        ):
            body = {"content": [secret], "kind": secret}
            url = f"{api}{room_path(ROOM)}/messages"
            await session.ask(name, "POST", url, body=body, headers=headers)
        for url in (
            f"{api}/v1/me?token={quoted}", f"{api}/v1/rooms?api_key={quoted}&page={quoted}",
            f"{api}/v1/rooms/{quoted}/messages?limit={quoted}", f"{api}/{quoted}",
            f"{api}/readyz?token={quoted}", f"{broker}/readyz?token={quoted}",
            f"{broker}/{quoted}", f"{broker}/v1/connect?token={quoted}",
        ):  # fmt: skip
            await session.ask(name, "GET", url, key=session.chat.key)
        for data in (secret.encode(), b'{"content":"%b' % secret.encode()):
            await session.ask(
                name, "POST", f"{api}/v1/rooms", body=data, key=session.chat.key,
                headers={"Content-Type": "application/json"},
            )  # fmt: skip


async def use_over_websocket(session: Session, secrets: dict[str, str]) -> None:
    """In the query, as frames, in fields that are no secret's."""
    url = session.chat.brokers[0].url
    for name, secret in secrets.items():
        async with open_wire_client(url, quote(secret, safe="")) as client:
            await client.wait(partial(has_heard, client))
            session.said.append((f"frames for {name} in the query", str(client.frames)))
    good = secrets["good"]
    async with ChatClient.connect(url, good, way="header", check=False) as alice:
        await alice.subscribe(ROOM)
        await alice.publish(ROOM, "a message that says nothing")
        for secret in secrets.values():
            for frame in (
                {"type": "refresh", "token": secret}, {"type": "auth", "token": [secret]},
                {"type": secret}, {"type": "subscribe", "room": secret},
                {"type": "publish", "room": ROOM, "kind": [secret], "content": "x"},
                {"type": "react", "room": ROOM, "seq": secret, "reaction": "x"},
            ):  # fmt: skip
                await alice.send(frame)
        await alice.call("ping")
        session.said.append(("frames for alice", str(alice.frames)))
        session.said.append(("the end of alice", f"{alice.close_code} {alice.close_reason}"))


async def lock_out(
    session: Session, set_password: Callable[[str], None], password: str, *, also: bool
) -> None:
    """The password of a storage is another for a while; the API, or all, are out, and come back."""
    chat = session.chat
    assert chat.api is not None
    set_password("another")
    for process in (*chat.brokers[:also], chat.api):
        is_out = partial(not_ready, session, process.base_url)
        await wait_until(is_out, deadline=40, what=f"{process.kind} is not ready")
        url = f"{process.base_url}{room_path(ROOM)}/messages"
        await session.ask("a request meanwhile", "GET", url, key=chat.key)
    await session.look()
    set_password(password)
    for process in (*chat.brokers, chat.api):
        await process.wait_ready(60)


def has_heard(client: WireClient) -> bool:
    return bool(client.frames) or client.is_ended


async def not_ready(session: Session, url: str) -> bool:
    return (await session.ask("readiness", "GET", f"{url}/readyz")).status == 503


@pytest.mark.timeout(180)
async def test_no_secret_is_anywhere_after_all_were_used(
    redis: RedisServer, postgres_server: PostgresServer, database_url: str,
    collector: Collector, tmp_path: Path,
) -> None:  # fmt: skip
    ports = [free_port() for _ in range(3)]
    processes = Processes(tmp_path / "processes", {})
    redis_url = redis.url.replace("redis://", f"redis://parley:{REDIS_PASSWORD}@")
    async with login(postgres_server, database_url) as (role, url):
        env = {
            "REDIS_URL": redis_url, "DATABASE_URL": url, "JWT_SECRET": SECRET,
            "JWT_SECRET_PREVIOUS": PREVIOUS, "LOG_LEVEL": "debug", "LOG_FORMAT": "json",
            ENDPOINT: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={COLLECTOR_KEY}",
        }  # fmt: skip
        try:
            chat = await start_deployment(
                processes, redis, database_url, brokers=0, api=False, archiver=False, **env
            )
            # Run as they are, not forked: their arguments count.
            kinds = ("broker", "api", "archiver")
            started = [
                await processes.start(kind, env={"METRICS_PORT": str(port)}, execute=True)
                for kind, port in zip(kinds, ports, strict=True)
            ]
            chat.brokers, chat.api, chat.archiver = [started[0]], started[1], started[2]
            revoked = await make_key(database_url)
            session = Session(chat, collector, ports)
            secrets = tokens() | {
                "the key": chat.key, "a revoked key": revoked, "no key": chat.key[:-1] + "-",
                "the secret": SECRET, "the former secret": PREVIOUS,
                "Redis' password": REDIS_PASSWORD, "PostgreSQL's password": POSTGRES_PASSWORD,
            }  # fmt: skip
            revoke = "UPDATE api_keys SET revoked_at = now() WHERE hash = $1"
            run_sql(database_url, lambda c: c.execute(revoke, key_digest(revoked)))
            await chat.create_room(ROOM, "alice", "bob")
            await use_over_http(session, secrets)
            await use_over_websocket(session, secrets)
            of_redis = partial(set_redis_password, redis)
            await lock_out(session, of_redis, REDIS_PASSWORD, also=True)
            # A broker serves warm rooms without PostgreSQL.
            of_postgres = partial(set_postgres_password, postgres_server, role)
            await lock_out(session, of_postgres, POSTGRES_PASSWORD, also=False)
            await use_over_http(session, {"good": secrets["good"]})
            await wait_until(lambda: collector.spans, deadline=30, what="traces")
            with trio.fail_after(40):
                for process in started:
                    process.terminate()
                for process in started:
                    await process.wait_ended()
        finally:
            processes.kill_all()
    check(session, secrets | {"the collector's key": COLLECTOR_KEY})


def check(session: Session, secrets: dict[str, str]) -> None:
    """That it was looked in all places, and nothing found in any."""
    for process in session.chat.processes.started:
        session.said.append((f"output of {process.kind}", process.output()))
        assert "Traceback" not in process.output()
    assert COLLECTOR_KEY in session.collector.keys
    for word in ("password", "parley_requests_total", "unauthenticated", "GET /v1/me", "archiver"):
        assert any(word in text for _, text in session.said), word
    found = [
        f"{name} in {where}" for where, text in session.said for name, secret in secrets.items()
        if secret in text
    ]  # fmt: skip
    assert found == []
