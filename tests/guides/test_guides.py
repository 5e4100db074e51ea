"""The Python programs of the guides do what their pages say."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from broker.domain.api_keys import create_api_key
from storage.postgres.pool import open_database
from tests.guides.blocks import block
from tests.support import http
from tests.support.processes import Processes, ServerProcess
from tests.support.tokens import make_token
from tests.support.waiting import wait_until


class System:
    """A broker and an api, a key, and a room of Alice and Bob."""

    def __init__(self, processes: Processes, broker: ServerProcess, api: ServerProcess, key: str):
        self.processes = processes
        self.broker = broker
        self.api = api
        self.key = key

    async def ok(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        key = None if token else self.key
        answer = await http.request(
            method, self.api.base_url + path, body=body, key=key, token=token
        )
        assert answer.status in (200, 201, 204), answer.body
        return answer.json() if answer.body else None

    async def contents(self, room: str) -> list[str]:
        page = await self.ok("GET", f"/v1/rooms/{room}/messages")
        return [message["content"] for message in page["items"]]


@pytest.fixture
async def system(processes: Processes, database_url: str) -> System:
    broker = await processes.start_broker()
    api = await processes.start_api()
    async with open_database(database_url, pool_size=1) as database:
        _, key = await create_api_key(database, "default")
    return System(processes, broker, api, key)


async def test_the_python_client_goes_on_after_a_restart_and_sends_once(
    system: System, tmp_path: Path, nursery: trio.Nursery
) -> None:
    await system.ok("POST", "/v1/rooms", {"id": "lunch", "created_by": "alice", "members": ["bob"]})
    await system.ok("POST", "/v1/rooms/lunch/messages?user_id=bob", {"content": "before"})
    program = tmp_path / "client.py"
    program.write_text(block("python-client.md", "python"), encoding="utf-8")
    variables = {
        "BROKER_URL": system.broker.url,
        "TOKEN": make_token("alice"),
        "ROOM": "lunch",
        "WEBSOCKETS_BACKOFF_INITIAL_DELAY": "0.2",
    }
    shown = tmp_path / "shown"
    with shown.open("wb") as output:
        run = partial(
            trio.run_process,
            [sys.executable, program],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            check=False,
            env=dict(os.environ) | variables,
        )
        process: trio.Process = await nursery.start(run)
        stdin = process.stdin
        assert stdin is not None

        async def is_shown(*lines: str) -> None:
            await wait_until(lambda: shown.read_text().splitlines() == [*lines], what=f"{lines}")

        await is_shown("bob: before")
        await stdin.send_all(b"hello\n")
        await is_shown("bob: before", "alice: hello")
        port = system.broker.port
        system.broker.kill()
        await stdin.send_all(b"meanwhile\n")
        await system.ok("POST", "/v1/rooms/lunch/messages?user_id=bob", {"content": "unseen"})
        system.broker = await system.processes.start("broker", port=port)
        await is_shown("bob: before", "alice: hello", "bob: unseen", "alice: meanwhile")
        assert await system.contents("lunch") == ["before", "hello", "unseen", "meanwhile"]
        # Voiding the tokens ends it: 44xx is no reason to come back.
        await system.ok("DELETE", "/v1/users/alice/tokens")
        await wait_until(lambda: "4403" in shown.read_text(), what="told to stay away")
        await stdin.aclose()
        await wait_until(lambda: process.poll() is not None, what="the end of the client")
        assert process.returncode == 1


async def test_the_module_for_applications(system: System, monkeypatch: Any) -> None:
    monkeypatch.setenv("API_URL", system.api.base_url)
    monkeypatch.setenv("API_KEY", system.key)
    module: dict[str, Any] = {}
    exec(compile(block("your-application.md", "python"), "parley.py", "exec"), module)

    async def run(name: str, *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(module[name], *arguments)

    token = await run("token_for", "ann@example.org", "Ann")
    assert await run("token_for", "ann@example.org", "Ann") != token  # the user is there already
    me = await system.ok("GET", "/v1/me", token=token)
    assert (me["id"], me["display_name"]) == ("ann@example.org", "Ann")
    room = await run("room_for", "order-7", "ann@example.org", ["bob"])
    assert await run("room_for", "order-7", "ann@example.org") == room
    seq = await run("announce", room, "It is on its way.", "7-shipped")
    assert await run("announce", room, "It is on its way.", "7-shipped") == seq
    assert await system.contents(room) == ["It is on its way."]
    await run("remove", room, "bob")
    await run("add", room, "carol")
    members = await system.ok("GET", f"/v1/rooms/{room}/members")
    assert {item["user"] for item in members["items"]} == {"ann@example.org", "carol"}
    with pytest.raises(module["ParleyError"]) as refused:
        await run("add", "no-such-room", "bob")
    assert (refused.value.status, refused.value.code) == (404, "room_not_found")


@pytest.mark.parametrize("number", [1, 2], ids=["django", "fastapi"])
def test_what_stands_beside_a_framework_is_python_and_uses_the_module(number: int) -> None:
    source = block("your-application.md", "python", number)
    compile(source, "guide", "exec")
    module = block("your-application.md", "python")
    for name in ("token_for", "room_for", "announce"):
        assert f"parley.{name}(" in source
        assert f"def {name}(" in module


def test_the_clients_are_as_short_as_they_say() -> None:
    for page, language, most in (
        ("python-client.md", "python", 50),
        ("browser-client.md", "html", 44),
    ):
        lines = [line for line in block(page, language).splitlines() if line.strip()]
        assert len(lines) <= most
