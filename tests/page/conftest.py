"""One `parley up` and one Chromium for the run; rooms of its own for each test."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio

from tests.page.browser import DESKTOP, Browser, ChromiumProcess, Page
from tests.support.system import UpProcess

OpenAs = Callable[..., Awaitable[Page]]


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """The system, as a newcomer starts it. Tests may kill its broker: it comes back."""
    process = UpProcess.start(tmp_path_factory.mktemp("up") / "up", "--ephemeral")
    try:
        trio.run(partial(process.wait_ready, 90.0))
        yield process
        assert trio.run(process.stop) == 0
    finally:
        process.end()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromiumProcess]:
    """The browser of the run."""
    process = ChromiumProcess(tmp_path_factory.mktemp("chromium"))
    yield process
    process.stop()


@pytest.fixture
async def browser(chromium: ChromiumProcess) -> AsyncIterator[Browser]:
    """A connection to the browser; whatever this test opened is closed at the end."""
    async with Browser.connect(await chromium.url()) as opened:
        yield opened


@dataclass(frozen=True)
class Room:
    """A room of this test: Alice owns it, Bob is a member."""

    up: UpProcess
    id: str

    async def post(self, content: str, user: str = "bob", **fields: Any) -> Any:
        """A message over REST."""
        path = f"/v1/rooms/{self.id}/messages?user_id={user}"
        answer = await self.up.request("POST", path, {"content": content, **fields})
        assert answer.status == 201, answer.body
        return answer.json()

    async def messages(self) -> list[dict[str, Any]]:
        """The newest messages, as the server has them."""
        answer = await self.up.request("GET", f"/v1/rooms/{self.id}/messages?limit=100")
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@pytest.fixture
async def room(up: UpProcess) -> Room:
    """A fresh room, named like its id."""
    return await make_room(up)


async def make_room(up: UpProcess, **fields: Any) -> Room:
    room = f"room-{uuid.uuid4().hex[:8]}"
    body = {"id": room, "name": room, "created_by": "alice", "members": ["bob"], **fields}
    answer = await up.request("POST", "/v1/rooms", body)
    assert answer.status == 201, answer.body
    return Room(up, room)


@pytest.fixture
async def open_as(browser: Browser, up: UpProcess) -> AsyncIterator[OpenAs]:
    """Opens the page as a user of the demo, in a room. What its console said must be nothing."""
    opened: list[Page] = []

    async def open_page(
        user: str, room: Room | None, *, size: tuple[int, int] = DESKTOP, is_dark: bool = False
    ) -> Page:
        path = f"/#/{room.id}" if room else "/"
        page = await browser.open_page(up.env["API_URL"] + path, size=size, is_dark=is_dark)
        opened.append(page)
        await page.click(f".pick:nth-child({1 + ['alice', 'bob'].index(user)})")
        if room is not None:
            await page.wait_text(room.id, ".room-head h2")
            await page.wait("document.querySelector('.subtitle').innerText !== ''")
        return page

    yield open_page
    assert [problem for page in opened for problem in page.problems] == []


async def say(page: Page, text: str) -> None:
    """Write into the composer and send."""
    await page.evaluate("document.querySelector('#composer').focus()")
    await page.type(text)
    await page.press("Enter")


async def shown(page: Page) -> list[str]:
    """The messages that are shown, in order, without those on their way."""
    return await page.texts(".message[data-seq] .bubble .content, .message[data-seq] .tombstone")


def message(text: str) -> str:
    """JavaScript: the list entry that shows this text."""
    return (
        "[...document.querySelectorAll('.message[data-seq]')]"
        f".find((e) => e.querySelector('.content')?.innerText === {text!r})"
    )


async def use_tool(page: Page, text: str, label: str) -> None:
    """Focus a message, then press one of its buttons."""
    await page.wait(f"{message(text)} !== undefined", what=f"{text!r} shown")
    await page.evaluate(f"{message(text)}.querySelector('article').focus()")
    button = json.dumps(f".tools > [aria-label={label}]")
    await page.evaluate(f"{message(text)}.querySelector({button}).click()")
