"""The page at `/docs` in Chromium: read, searched, and requests sent; by mouse and keyboard."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.page.browser import DESKTOP, PHONE, Browser, Page
from tests.page.test_reach import serious
from tests.support.system import UpProcess

OpenDocs = Callable[..., Awaitable[Page]]
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture
async def open_docs(browser: Browser, up: UpProcess) -> AsyncIterator[OpenDocs]:
    """Opens the page. Its console said nothing but that a request was refused."""
    opened: list[Page] = []

    async def open_page(
        fragment: str = "", *, size: tuple[int, int] = DESKTOP, is_dark: bool = False
    ) -> Page:
        url = f"{up.env['API_URL']}/docs{fragment}"
        page = await browser.open_page(url, size=size, is_dark=is_dark)
        opened.append(page)
        await page.wait("document.querySelector('.operation')", what="the operations")
        return page

    yield open_page
    said = [problem for page in opened for problem in page.problems]
    assert [problem for problem in said if "status of 401" not in problem] == []


async def fill(page: Page, selector: str, text: str) -> None:
    """Put a text into a field, in place of what is there."""
    field = f"document.querySelector({json.dumps(selector)})"
    await page.wait(f"{field} !== null", what=f"{selector} there")
    await page.evaluate(f"{field}.focus(); {field}.select()")
    await page.type(text)


async def send(page: Page, operation: str) -> str:
    """Press Send; the status line of the answer."""
    await page.click(f"#{operation} .send")
    await page.wait(f"document.querySelector('#{operation} .result dl')", what="an answer")
    (line,) = await page.texts(f"#{operation} .result-status")
    return line


async def test_every_operation_of_the_document_is_shown(open_docs: OpenDocs, up: UpProcess) -> None:
    document = (await up.request("GET", "/openapi.json")).json()
    names = {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    page = await open_docs()
    shown = "[...document.querySelectorAll('.operation')].map((e) => e.id)"
    assert set(await page.evaluate(shown)) == names
    await page.evaluate("document.querySelectorAll('.operation').forEach((e) => (e.open = true))")
    await page.wait(f"document.querySelectorAll('.try').length === {len(names)}")
    assert "undefined" not in (await page.texts("main"))[0]
    assert await page.evaluate(WIDTH) <= DESKTOP[0]


async def test_an_operation_says_what_it_takes_and_answers(open_docs: OpenDocs) -> None:
    page = await open_docs()
    await page.click("#create_message > summary")
    await page.wait_text("Try it", "#create_message")
    asked = (await page.texts("#create_message .asked"))[0]
    for text in ("X-API-Key", "Authorization: Bearer", "Idempotency-Key", "1 to 64 characters"):
        assert text in asked
    assert "At least one of content, attachments is required." in asked
    assert "Fields of Attachment" in asked
    answered = (await page.texts("#create_message .answered"))[0]
    for text in ("201", "not_a_member", "room_not_found", "There is no such room."):
        assert text in answered
    assert "required" in asked
    assert "required" not in answered  # of what is received one asks what may be missing
    assert (await page.evaluate("location.hash")) == "#create_message"


async def test_a_request_with_a_key_and_one_with_a_wrong_key(
    open_docs: OpenDocs, up: UpProcess
) -> None:
    page = await open_docs("#get_project")
    key = up.env["API_KEY"]
    await fill(page, "#get_project [name=credential]", "no-such-key")
    refused = await send(page, "get_project")
    assert refused.startswith("401 Unauthorized in ")
    await page.wait_text("unauthenticated", "#get_project .problem")
    await fill(page, "#get_project [name=credential]", key)
    await page.click("#get_project .send")
    await page.wait_text("200", "#get_project .result-status")
    (body,) = await page.texts("#get_project .result pre")
    assert json.loads(body)["id"] == "default"
    (headers,) = await page.texts("#get_project .result dl")
    assert "X-Request-Id" in headers
    (curl,) = await page.texts("#get_project .try > .code pre")
    assert curl.endswith('/v1/project\' \\\n  -H "X-API-Key: $API_KEY"')
    everything = (
        "document.documentElement.outerHTML + JSON.stringify([{...localStorage},"
        " {...sessionStorage}, location.href, document.cookie])"
    )
    assert key not in await page.evaluate(everything)


async def test_a_room_is_made_from_the_changed_example(open_docs: OpenDocs, up: UpProcess) -> None:
    page = await open_docs("#create_room")
    (example,) = await page.evaluate(
        "[...document.querySelectorAll('#create_room textarea')].map((e) => e.value)"
    )
    room = f"room-{uuid.uuid4().hex[:8]}"
    body = json.loads(example) | {"id": room, "name": "It's <b>one</b>", "external_id": room}
    await fill(page, "#create_room [name=credential]", up.env["API_KEY"])
    await fill(page, "#create_room textarea", json.dumps(body))
    assert "201" in await send(page, "create_room")
    assert (await up.request("GET", f"/v1/rooms/{room}")).json()["name"] == body["name"]
    (shown,) = await page.texts("#create_room .result pre")
    assert json.loads(shown)["name"] == body["name"]
    (curl,) = await page.texts("#create_room .try > .code pre")
    assert r"It'\''s <b>one</b>" in curl
    assert up.env["API_KEY"] not in curl
    # The key is there in the next form of the same tab.
    await page.click("nav a[href='#get_room']")
    await fill(page, "#get_room [data-parameter=room]", room)
    assert "200" in await send(page, "get_room")
    await fill(page, "#create_room textarea", "{")
    await page.wait_text("Not JSON", "#create_room .hint")


async def test_a_token_is_sent_as_a_bearer(open_docs: OpenDocs, up: UpProcess) -> None:
    issued = (await up.request("POST", "/v1/users/alice/token", {})).json()
    page = await open_docs("#get_me")
    await fill(page, "#get_me [name=credential]", issued["token"])
    assert "200" in await send(page, "get_me")
    (curl,) = await page.texts("#get_me .try > .code pre")
    assert '-H "Authorization: Bearer $TOKEN"' in curl


async def test_what_deletes_is_named_by_hand(open_docs: OpenDocs) -> None:
    page = await open_docs("#delete_room")
    await page.click("#delete_room .send")
    await page.wait_text("Fill in room first.", "#delete_room .result-status")
    focused = "document.activeElement.dataset.parameter"
    assert await page.evaluate(focused) == "room"


async def test_searching_and_opening_by_keyboard_alone(open_docs: OpenDocs) -> None:
    page = await open_docs()
    await page.press("/")
    await page.type("delete member")
    await page.wait_text("operation", "#found")
    visible = (
        "[...document.querySelectorAll('.operation')]"
        ".filter((e) => e.checkVisibility()).map((e) => e.id)"
    )
    found = await page.evaluate(visible)
    assert "remove_member" in found
    assert "get_project" not in found
    await page.press("Enter")
    await page.wait(f"document.querySelector('#{found[0]}').open")
    assert await page.evaluate("document.activeElement.localName") == "summary"
    await page.press("Enter")
    await page.wait(f"!document.querySelector('#{found[0]}').open")
    await page.press("/", "Escape")
    await page.wait("document.querySelector('#get_project').checkVisibility()")


async def test_on_a_phone_the_contents_open_and_nothing_is_too_wide(open_docs: OpenDocs) -> None:
    page = await open_docs(size=PHONE)
    nav = "document.querySelector('nav').checkVisibility()"
    assert not await page.evaluate(nav)
    await page.click(".menu")
    await page.wait(nav)
    await page.click("nav a[href='#create_room']")
    await page.wait("document.querySelector('#create_room .try')")
    assert not await page.evaluate(nav)
    assert await page.evaluate(WIDTH) <= PHONE[0]


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing_serious(open_docs: OpenDocs, up: UpProcess, is_dark: bool) -> None:
    page = await open_docs("#get_room", is_dark=is_dark)
    await fill(page, "#get_room [name=credential]", "no-such-key")
    await send(page, "get_room")
    await page.click("#create_message > summary")
    await page.evaluate(
        "document.querySelectorAll('#create_message details').forEach((e) => (e.open = true))"
    )
    for size in (DESKTOP, PHONE):
        await page.look(size=size, is_dark=is_dark)
        assert await serious(page) == []
