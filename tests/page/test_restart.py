"""The broker is killed in front of both: they say so, go on, and nothing is lost or doubled."""

from tests.page.conftest import OpenAs, Room, say, shown


async def test_both_go_on_after_a_restart_of_the_broker(open_as: OpenAs, room: Room) -> None:
    alice, bob = await open_as("alice", room), await open_as("bob", room)
    await say(alice, "Before")
    await bob.wait_text("Before", ".log")
    broker = room.up.family()["broker"]
    broker.kill()
    for page in (alice, bob):
        await page.wait_text("Connection lost", ".status")
    written = ["Alice meanwhile", "Alice once more", "Bob meanwhile"]
    for page, text in ((alice, written[0]), (alice, written[1]), (bob, written[2])):
        await say(page, text)
    # What the server's side wrote meanwhile is resumed, not only what one wrote oneself.
    await room.post("From the backend")
    for page in (alice, bob):
        await page.wait("document.querySelector('.frame').dataset.state === 'online'", deadline=40)
        for text in (*written, "From the backend"):
            await page.wait_text(text, ".log")
        await page.wait("document.querySelector('.is-pending') === null")
    expected = [item["content"] for item in await room.messages()]
    assert sorted(expected) == sorted(["Before", "From the backend", *written])
    assert [text for text in expected if text.startswith("Alice")] == written[:2]
    assert await shown(alice) == await shown(bob) == expected
    await say(bob, "After")
    await alice.wait_text("After", ".log")
    assert (await shown(alice))[-1] == "After"
    # The kill is what the console may speak of.
    for page in (alice, bob):
        page.problems[:] = [text for text in page.problems if "WebSocket connection to" not in text]
