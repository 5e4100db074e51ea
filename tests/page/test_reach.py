"""The page for everybody: a phone's width, the keyboard alone, axe-core in light and dark."""

import json
from importlib.resources import files
from typing import Any

import pytest

from tests.page.browser import DESKTOP, PHONE, Browser, Page
from tests.page.conftest import OpenAs, Room, message, say, shown, use_tool
from tests.support.system import UpProcess


async def test_on_a_phone_one_thing_is_shown_at_a_time(open_as: OpenAs, room: Room) -> None:
    alice = await open_as("alice", room, size=PHONE)
    await say(alice, "A word that is so long that it has to be broken: " + "x" * 200)
    await alice.wait("document.querySelector('.message[data-seq]')")
    width = "document.documentElement.scrollWidth"
    assert await alice.evaluate(width) <= PHONE[0]
    # What is not drawn yet is not seen: a room that opens has no composer for a moment.
    is_seen = "document.querySelector('{}')?.checkVisibility() === true"
    assert await alice.evaluate(is_seen.format(".room-view"))
    assert not await alice.evaluate(is_seen.format(".side"))
    await alice.click("[aria-label='All rooms']")
    await alice.wait(is_seen.format(".side"))
    assert not await alice.evaluate(is_seen.format(".main"))
    assert await alice.evaluate(width) <= PHONE[0]
    await alice.click(f"a[href='#/{room.id}']")
    await alice.wait(is_seen.format(".composer"))
    small = await alice.evaluate(
        "[...document.querySelectorAll('button, a, textarea')]"
        ".filter((e) => e.checkVisibility() && !e.closest('.log'))"
        ".filter((e) => e.getBoundingClientRect().height < 32).map((e) => e.outerHTML)"
    )
    assert small == []  # a thumb hits them


async def test_everything_can_be_done_by_keyboard(
    open_as: OpenAs, room: Room, browser: Browser
) -> None:
    bob = await open_as("bob", room)
    alice = await browser.open_page(f"{room.up.env['API_URL']}/#/{room.id}")
    await alice.wait("document.activeElement.classList.contains('pick')")
    await alice.press("Enter")  # on Alice, the first
    await alice.wait("document.activeElement.id === 'composer'")
    await alice.type("By keyboard")
    await alice.press("Enter")
    await bob.wait_text("By keyboard", ".log")
    await say(bob, "Really?")
    await alice.wait_text("Really?", ".log")

    await to_messages(alice)
    assert (await alice.focused()).endswith("Really?")
    await alice.press("ArrowUp")
    assert (await alice.focused()).endswith("By keyboard")
    await alice.press("e")
    await alice.wait("document.querySelector('#composer').value === 'By keyboard'")
    await alice.type(" alone")
    await alice.press("Enter")
    await bob.wait_text("By keyboard alone", ".log")

    await to_messages(alice)
    await alice.press("End", "r")
    await alice.wait("document.activeElement.id === 'composer'")
    await alice.type("Yes!")
    await alice.press("Enter")
    await bob.wait_text("Yes!", ".quote + .content")

    await to_messages(alice)
    await alice.press("Home", "ArrowDown")
    assert (await alice.focused()).endswith("Really?")
    await alice.press("+")
    await alice.wait("document.activeElement.closest('.palette')")
    await alice.press("Enter")
    await bob.wait_text("1", ".chip")
    assert await alice.focused() == "React"

    await alice.press("End")
    await alice.press("Delete")
    await alice.wait("document.querySelector('dialog[open]')")
    await alice.press("Tab", "Enter")
    await bob.wait_text("This message was deleted.", ".log")
    await alice.press("Escape")
    await alice.wait("document.activeElement.id === 'composer'")
    assert alice.problems == []


async def to_messages(page: Page) -> None:
    """Shift+Tab from the field until a message has the focus."""
    await page.evaluate("document.querySelector('#composer').focus()")
    for _ in range(15):
        await page.press("Tab", shift=True)
        if await page.evaluate("document.activeElement.dataset.focus === 'message'"):
            return
    raise AssertionError(f"no message can be reached; the focus is on {await page.focused()!r}")


async def test_a_new_message_is_announced(open_as: OpenAs, room: Room) -> None:
    alice = await open_as("alice", room)
    await room.post("Can you hear me?")
    await alice.wait_text("Bob: Can you hear me?", "#announcer[aria-live=polite]")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing_serious(
    open_as: OpenAs, room: Room, browser: Browser, up: UpProcess, is_dark: bool
) -> None:
    entrance = await browser.open_page(up.env["API_URL"], is_dark=is_dark)
    await entrance.wait("document.querySelector('.pick')")
    assert await serious(entrance) == []
    await room.post(
        "Look: https://example.org/", attachments=[{"url": "https://example.org/a.pdf"}]
    )
    alice = await open_as("alice", room, is_dark=is_dark)
    await say(alice, "An answer")
    await alice.wait_text("An answer", ".log")
    await use_tool(alice, "An answer", "React")
    await alice.click(".palette [aria-label='React with 👍']")
    await alice.wait("document.querySelector('.chip')")
    await say(alice, "Gone")
    await use_tool(alice, "Gone", "Delete")
    await alice.click("dialog .is-danger")
    await alice.wait_text("This message was deleted.", ".log")
    await use_tool(alice, "An answer", "Reply")
    await alice.click("[aria-label='Attach a link']")
    await alice.click("[aria-label='Search in this room']")
    await alice.wait("document.querySelector('.search').checkVisibility()")
    for size in (DESKTOP, PHONE):
        await alice.look(size=size, is_dark=is_dark)
        assert await serious(alice) == []


async def serious(page: Page) -> list[Any]:
    """What axe-core calls serious or critical, with the elements."""
    source = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    await page.evaluate(f"{source}; 0")
    found = json.loads(
        await page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify("
            "r.violations.filter((v) => ['serious', 'critical'].includes(v.impact))"
            ".map((v) => [v.id, v.nodes.map((n) => n.html + ' ' + n.failureSummary)])))"
        )
    )
    return list(found)


async def test_text_can_be_twice_as_large(open_as: OpenAs, room: Room) -> None:
    alice = await open_as("alice", room, size=(640, 400))  # 1280 by 800 at 200 %
    await say(alice, "Still readable")
    await alice.wait("document.querySelector('.message[data-seq]')")
    assert await alice.evaluate("document.documentElement.scrollWidth") <= 640
    assert await shown(alice) == ["Still readable"]
    assert await alice.evaluate(f"{message('Still readable')}.checkVisibility()")
