"""`parley demo`: the script makes sense, and over real connections it fills a room."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from broker.domain.api_keys import create_api_key
from config.errors import ConfigError
from storage.postgres.pool import open_database
from tests.support import http
from tests.support.processes import Processes
from workers.demo.main import DemoOptions, read_env_file, run_demo
from workers.demo.script import STEPS, USERS


def test_every_step_does_one_thing_to_a_message_that_is_there() -> None:
    keys: set[str] = set()
    for step in STEPS:
        assert step.user in USERS
        assert sum(bool(deed) for deed in (step.say, step.react, step.edit, step.delete)) == 1
        assert step.to in {*keys, ""}
        assert step.to or step.say
        keys |= {step.key} - {""}
    assert len(keys) == len([step for step in STEPS if step.key])


async def test_they_talk_reply_react_edit_and_delete(
    processes: Processes, database_url: str
) -> None:
    broker, api = await processes.start_broker(), await processes.start_api()
    async with open_database(database_url, pool_size=1) as database:
        _, key = await create_api_key(database, "default")
    room = {"id": "demo", "created_by": "alice"}
    assert (
        await http.request("POST", f"{api.base_url}/v1/rooms", body=room, key=key)
    ).status == 201
    variables = {
        "API_URL": api.base_url,
        "API_KEY": key,
        "BROKER_URL": broker.url,
        "ROOM": "demo",
    }
    said: list[str] = []
    options = DemoOptions(variables, seconds=40, pace=100)
    assert await trio.to_thread.run_sync(run_demo, options, said.append) == 0, said
    assert said[-1].startswith("That was it")
    page = await http.request("GET", f"{api.base_url}/v1/rooms/demo/messages?limit=100", key=key)
    messages = page.json()["items"]
    assert len(messages) == len([step for step in STEPS if step.say])
    assert {message["sender"] for message in messages} == set(USERS)
    for of_some in ("reply_to", "edited_at", "deleted_at", "reactions", "attachments"):
        assert [message for message in messages if message[of_some]], of_some


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make up ARGS="):
        read_env_file(tmp_path / "env")
    (tmp_path / "env").write_text("API_URL=http://127.0.0.1:1\nAPI_KEY=x\n")
    with pytest.raises(ConfigError, match="does not hold BROKER_URL"):
        read_env_file(tmp_path / "env")


def test_an_api_that_is_away_is_one_line() -> None:
    variables = dict.fromkeys(("API_KEY", "BROKER_URL", "ROOM"), "x")
    said: list[str] = []
    options = DemoOptions({"API_URL": "http://127.0.0.1:1", **variables})
    assert run_demo(options, said.append) == 1
    assert len(said) == 1
    assert said[0].startswith("parley demo: POST /v1/users: ")
