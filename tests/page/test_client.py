"""parley.js against a real broker, through a proxy that cuts, swallows and refuses.

The module runs in a bare document of the API (no page around it). `parley` and what it told are
kept in `window`, and looked at from here.
"""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.page.browser import Browser, Page
from tests.page.conftest import Room
from tests.support.proxy import TcpProxy, open_proxy
from tests.support.system import UpProcess

START = """
(async () => {
  const { Parley } = await import("/parley.js");
  window.tokens = 0;
  window.told = [];
  window.states = [];
  window.parley = new Parley({ url: URL, token: TOKEN });
  parley.on("state", ({ state, code }) => states.push(code === null ? state : `${state} ${code}`));
  window.room = parley.room(ROOM, { history: 20 });
  room.on("reset", ({ messages }) => told.push(`reset ${messages.map((m) => m.content)}`));
  room.on("event", ({ event, data }) => event.startsWith("message.") && told.push(data.content));
  room.on("end", ({ code }) => told.push(`end ${code}`));
  parley.connect();
})()
"""


@pytest.fixture
async def proxy(up: UpProcess) -> AsyncIterator[TcpProxy]:
    """A way to the broker that can fail."""
    async with open_proxy(urlsplit(up.env["BROKER_URL"]).port or 0) as opened:
        yield opened


@pytest.fixture
async def page(browser: Browser, up: UpProcess) -> Page:
    """An empty document of the API's origin, without the page's policy."""
    url = f"{up.env['API_URL']}/healthz"
    page = await browser.open_page(url)
    # An empty page of the same origin; what it may load is not what these tests are about.
    await page.call("Page.setBypassCSP", enabled=True)
    await page.go(url)
    return page


async def start(page: Page, room: Room, url: str, token: str | None = None) -> None:
    """`parley` as Alice in the room; `token`: a JavaScript expression."""
    script = START.replace("URL", json.dumps(url)).replace("ROOM", json.dumps(room.id))
    script = script.replace("TOKEN", token or json.dumps(room.up.env["ALICE_TOKEN"]))
    await page.evaluate(script)


async def told(page: Page, count: int) -> list[Any]:
    """What the room has told, once it is so much."""
    await page.wait(f"told.length >= {count}", what=f"{count} told", deadline=30)
    found: list[Any] = await page.evaluate("told")
    return found


async def test_after_every_cut_it_goes_on_where_it_was(
    page: Page, room: Room, proxy: TcpProxy, up: UpProcess
) -> None:
    await room.post("first")
    await start(page, room, proxy.replace_port(up.env["BROKER_URL"]))
    assert await told(page, 1) == ["reset first"]
    expected = ["reset first"]
    for number in range(3):
        proxy.cut()
        expected.append(f"while away {number}")
        await room.post(expected[-1])
        assert await told(page, len(expected)) == expected
    states = await page.evaluate("states")
    assert states[:2] == ["connecting", "online"]
    assert states.count("waiting 1006") >= 3


async def test_a_gap_that_can_not_be_filled_is_a_reset(
    page: Page, room: Room, proxy: TcpProxy, up: UpProcess
) -> None:
    await room.post("first")
    await start(page, room, proxy.replace_port(up.env["BROKER_URL"]))
    await told(page, 1)
    await page.evaluate("room.position = {epoch: '0'.repeat(32), offset: 1}; 0")
    proxy.cut()
    assert await told(page, 2) == ["reset first", "reset first"]


async def test_a_message_whose_answer_was_lost_is_sent_again_and_is_one(
    page: Page, room: Room, proxy: TcpProxy, up: UpProcess
) -> None:
    await start(page, room, proxy.replace_port(up.env["BROKER_URL"]))
    await told(page, 1)
    # The publish gets through, the answer (and the event) does not.
    proxy.cut_after(0, "to_client")
    await page.evaluate(
        "window.sent = Promise.all(['a', 'b', 'c'].map((content) => room.publish({content}))); 0"
    )
    answers = await page.evaluate("sent")
    assert [answer["duplicate"] for answer in answers] == [True, False, False]
    assert [item["content"] for item in await room.messages()] == ["a", "b", "c"]
    assert await told(page, 4) == ["reset ", "a", "b", "c"]
    assert await page.evaluate("parley.unsent") == 0


async def test_a_peer_that_vanished_is_noticed(
    page: Page, room: Room, proxy: TcpProxy, up: UpProcess
) -> None:
    """Half-open: nothing is closed, nothing comes. The page's `check` (or a ping) finds out."""
    await start(page, room, proxy.replace_port(up.env["BROKER_URL"]))
    await told(page, 1)
    proxy.swallow()
    await page.evaluate("parley.check()")
    await page.wait("states.at(-1).startsWith('waiting')", deadline=20)
    proxy.stop_swallowing()
    await room.post("back")
    assert await told(page, 2) == ["reset ", "back"]


async def test_a_refused_message_is_an_error_and_the_next_goes_on(
    page: Page, room: Room, up: UpProcess
) -> None:
    await start(page, room, up.env["BROKER_URL"])
    await told(page, 1)
    code = await page.evaluate(
        "room.publish({content: 'x', reply_to: 99}).catch((e) => [e.name, e.code, e.field])"
    )
    assert code == ["ParleyError", "message_not_found", "reply_to"]
    await page.evaluate("room.publish({content: 'y'})")
    assert await told(page, 2) == ["reset ", "y"]


async def test_a_bad_token_is_final(page: Page, room: Room, up: UpProcess) -> None:
    """Ruling 57: after 44xx one does not come back with the same token."""
    await start(page, room, up.env["BROKER_URL"], token="'nonsense'")
    await page.wait("parley.state === 'closed'")
    assert await page.evaluate("states") == ["connecting", "closed 4401"]
    code = await page.evaluate("room.publish({content: 'x'}).catch((e) => e.code)")
    assert code == "closed"


async def test_a_source_of_tokens_is_asked_once_more_and_not_for_ever(
    page: Page, room: Room, up: UpProcess
) -> None:
    good = json.dumps(up.env["ALICE_TOKEN"])
    await start(page, room, up.env["BROKER_URL"], token=f"() => tokens++ ? {good} : 'nonsense'")
    await told(page, 1)
    assert await page.evaluate("[tokens, ...states]") == [2, "connecting", "connecting", "online"]
    await page.evaluate("parley.close()")
    await start(page, room, up.env["BROKER_URL"], token="() => `nonsense ${tokens++}`")
    await page.wait("parley.state === 'closed'")
    assert await page.evaluate("tokens") == 2


async def test_a_token_is_renewed_before_it_ends(page: Page, room: Room, up: UpProcess) -> None:
    answer = await up.request("POST", "/v1/users/alice/token", {"ttl": 20})
    short, long = json.dumps(answer.json()["token"]), json.dumps(up.env["ALICE_TOKEN"])
    await start(page, room, up.env["BROKER_URL"], token=f"() => tokens++ ? {long} : {short}")
    await told(page, 1)
    await page.wait("tokens === 2", deadline=15)
    assert await page.evaluate("states") == ["connecting", "online"]


async def test_closing_is_for_good(page: Page, room: Room, up: UpProcess) -> None:
    await start(page, room, up.env["BROKER_URL"])
    await told(page, 1)
    await page.evaluate("parley.close()")
    assert await page.evaluate("states") == ["connecting", "online", "closed 1000"]
    await room.post("unheard")
    assert await page.evaluate("told") == ["reset "]


async def test_a_removed_member_is_told_and_does_not_come_back(
    page: Page, room: Room, up: UpProcess
) -> None:
    token = json.dumps(up.env["BOB_TOKEN"])
    await start(page, room, up.env["BROKER_URL"], token=token)
    await told(page, 1)
    answer = await up.request("DELETE", f"/v1/rooms/{room.id}/members/bob")
    assert answer.status == 204
    assert await told(page, 2) == ["reset ", "end not_a_member"]
    assert await page.evaluate("[room.isEnded, parley.state]") == [True, "online"]
