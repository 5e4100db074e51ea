"""The chat page's files, its policy, where the broker is, and who gets a token of the demo."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from broker.domain.identity import TokenVerifier
from config.errors import ConfigError
from config.settings import load_settings
from tests.api.conftest import Api, open_api
from tests.support.http import Response
from tests.support.tokens import JWT_SECRET

BROKER = "ws://127.0.0.1:8765/v1/connect"


@pytest.fixture
async def demo(redis_url: str, database_url: str, nursery: trio.Nursery) -> AsyncIterator[Api]:
    """The API as `parley up` starts it."""
    more: dict[str, Any] = {"demo_users": ("alice", "bob"), "broker_url": BROKER}
    async with open_api(redis_url, database_url, nursery, **more) as api:
        yield api.as_nobody()


async def ask(api: Api, user: str = "alice", **headers: str) -> Response:
    return await api.send("POST", "/page/token", {"user": user}, **headers)


async def test_the_page_and_every_file_that_it_asks_for_are_there(api):
    page = await api.as_nobody().send("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    seen: set[str] = set()
    while wanted:
        path = wanted.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = await api.as_nobody().send("GET", f"/{path}")
        assert answer.status == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        if path.endswith(".js"):
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
            modules = re.findall(r'^import .* from "([^"]+)"', answer.body.decode(), re.MULTILINE)
            wanted += [
                "parley.js" if name == "../parley.js" else f"page/{name.removeprefix('./')}"
                for name in modules
            ]
    assert {"parley.js", "page/main.js", "page/style.css", "page/icon.svg"} <= seen


async def test_a_file_is_sent_again_only_when_it_has_changed(api):
    first = await api.as_nobody().send("GET", "/parley.js")
    again = await api.as_nobody().send("GET", "/parley.js", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    other = await api.as_nobody().send("GET", "/parley.js", If_None_Match='"other"')
    assert (other.status, other.body) == (200, first.body)
    assert first.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("name", ["../app.py", "..%2Fapp.py", "routes.py", "index.html", "nothing"])
async def test_nothing_but_the_files_of_the_page_is_served(api, name):
    assert (await api.as_nobody().send("GET", f"/page/{name}")).status == 404


async def test_the_policy_allows_the_page_and_the_broker_alone(api, demo):
    for page, connect in ((api, "'self'"), (demo, "'self' ws://127.0.0.1:8765")):
        answer = await page.as_nobody().send("GET", "/")
        policy = answer.headers["content-security-policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        assert f"connect-src {connect}" in policy
        assert {"script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(policy)
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"


async def test_without_a_demo_there_are_no_users_and_no_tokens(api):
    about = await api.as_nobody().ok("GET", "/page.json")
    assert about == {"broker_url": None, "demo_users": []}
    assert (await ask(api.as_nobody())).status == 404


async def test_the_demo_gives_tokens_of_its_users_alone(demo):
    answer = await demo.send("GET", "/page.json")
    assert answer.json() == {"broker_url": BROKER, "demo_users": ["alice", "bob"]}
    assert answer.headers["cache-control"] == "no-store"
    answer = await ask(demo, Origin=demo.url, Sec_Fetch_Site="same-origin")
    assert answer.headers["cache-control"] == "no-store"
    verifier = TokenVerifier.from_settings(demo.services.settings)
    assert verifier.verify(answer.json()["token"]).user == "alice"
    refused = await ask(demo, user="carol")
    assert (refused.status, refused.json()["field"]) == (400, "user")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "chat.example.org"},
        {"Host": "127.0.0.1.example.org:8080"},
        {"Host": "localhost@example.org"},
        {"Origin": "https://example.org"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"X_Forwarded_For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers.items()),
)
async def test_the_demo_is_for_the_page_on_this_machine(demo, headers):
    """A foreign name that resolves here, another page, a proxy: there is no demo for them."""
    answer = await ask(demo, **headers)
    assert (answer.status, answer.json()["code"]) == (404, "not_found")
    assert b"token" not in answer.body
    about = await demo.send("GET", "/page.json", None, **headers)
    assert about.json()["demo_users"] == []


async def test_a_visitor_from_another_machine_is_sent_to_the_broker_there(demo):
    """`parley up` on 0.0.0.0 knows itself as 127.0.0.1; the visitor's name for it is the Host."""
    host = "chat.example.org:8080"
    about = (await demo.send("GET", "/page.json", Host=host)).json()
    assert about["broker_url"] == "ws://chat.example.org:8765/v1/connect"
    policy = (await demo.send("GET", "/", Host=host)).headers["content-security-policy"]
    assert "connect-src 'self' ws://chat.example.org:8765;" in policy
    odd = (await demo.send("GET", "/", Host="a;b")).headers["content-security-policy"]
    assert "a;b" not in odd


async def test_the_page_can_be_switched_off(redis_url, database_url, nursery):
    async with open_api(redis_url, database_url, nursery, chat_page=False) as api:
        for path in ("/", "/page.json", "/page/main.js"):
            assert (await api.as_nobody().send("GET", path)).status == 404
        assert (await api.as_nobody().send("GET", "/parley.js")).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "chat.example.org"])
def test_a_process_that_others_can_reach_has_no_demo(host):
    with pytest.raises(ConfigError, match="DEMO_USERS: it gives tokens to everybody"):
        load_settings(None, host=host, demo_users="alice", jwt_secret=JWT_SECRET)


def test_a_demo_needs_a_secret_to_sign_with():
    with pytest.raises(ConfigError, match="DEMO_USERS: it is set without JWT_SECRET"):
        load_settings(None, demo_users="alice")


def test_the_users_of_a_demo_are_a_list_of_ids():
    settings = load_settings(None, demo_users="alice, bob,", jwt_secret=JWT_SECRET)
    assert settings.demo_users == ("alice", "bob")
    with pytest.raises(ConfigError, match="is not an id"):
        load_settings(None, demo_users="a lice", jwt_secret=JWT_SECRET)
