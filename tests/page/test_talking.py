"""Two people in two browsers: what one does, the other sees."""

from tests.page.conftest import OpenAs, Room, make_room, message, say, shown, use_tool
from tests.support.system import UpProcess


async def test_what_one_writes_both_see_once(open_as: OpenAs, room: Room) -> None:
    alice, bob = await open_as("alice", room), await open_as("bob", room)
    await say(alice, "Lunch?")
    await bob.wait_text("Lunch?", ".log")
    await say(bob, "At one.")
    await alice.wait_text("At one.", ".log")
    assert await shown(alice) == await shown(bob) == ["Lunch?", "At one."]
    assert await alice.texts(".is-pending") == []
    assert await alice.texts(".message:not(.is-own) .sender") == ["Bob"]


async def test_a_reply_shows_what_it_answers(open_as: OpenAs, room: Room) -> None:
    alice, bob = await open_as("alice", room), await open_as("bob", room)
    await say(alice, "Tea or coffee?")
    await use_tool(bob, "Tea or coffee?", "Reply")
    assert await bob.focused() == "Message"
    await say(bob, "Tea")
    await alice.wait_text("Tea", ".quote + .content")
    assert await alice.texts(".quote-text") == ["Tea or coffee?"]
    (first, second) = await room.messages()
    assert (second["reply_to"], first["reply_count"]) == (first["seq"], 1)


async def test_an_edit_is_seen_and_marked(open_as: OpenAs, room: Room) -> None:
    alice, bob = await open_as("alice", room), await open_as("bob", room)
    await say(alice, "See you at noo")
    await bob.wait_text("See you at noo", ".log")
    await alice.press("ArrowUp")  # in the empty field: the last own message
    await alice.wait("document.querySelector('#composer').value === 'See you at noo'")
    await alice.type("n")
    await alice.press("Enter")
    await bob.wait_text("See you at noon", ".log")
    await bob.wait_text("edited", ".bubble")
    assert await alice.evaluate("document.querySelector('#composer').value") == ""


async def test_a_deleted_message_leaves_its_place(open_as: OpenAs, room: Room) -> None:
    alice, bob = await open_as("alice", room), await open_as("bob", room)
    await say(bob, "Forget this")
    await alice.wait_text("Forget this", ".log")
    await use_tool(bob, "Forget this", "Delete")
    await bob.click("dialog .is-danger")
    await alice.wait_text("This message was deleted.", ".log")
    assert await shown(alice) == ["This message was deleted."]
    assert await alice.texts(".tools") == []


async def test_reactions_are_counted_and_taken_back(open_as: OpenAs, room: Room) -> None:
    alice, bob = await open_as("alice", room), await open_as("bob", room)
    await say(alice, "Friday off!")
    for page in (bob, alice):
        await use_tool(page, "Friday off!", "React")
        await page.click(".palette [aria-label='React with 🎉']")
        await page.wait("document.querySelector('.chip[aria-pressed=true]')")
    await bob.wait_text("2", ".chip")
    label = await bob.evaluate("document.querySelector('.chip').getAttribute('aria-label')")
    assert label == "🎉 2: Bob and Alice"
    await bob.click(".chip")
    await alice.wait_text("1", ".chip")
    await alice.click(".chip")
    await bob.wait("document.querySelector('.chip') === null")


async def test_typing_is_shown_until_the_message_comes(open_as: OpenAs, room: Room) -> None:
    alice, bob = await open_as("alice", room), await open_as("bob", room)
    await alice.evaluate("document.querySelector('#composer').focus()")
    await alice.type("Hm")
    await bob.wait_text("Alice is typing", ".typing")
    await alice.press("Enter")
    await bob.wait("document.querySelector('.typing').innerText === ''")
    assert await alice.texts(".typing") == [""]


async def test_who_is_here_is_said(open_as: OpenAs, room: Room) -> None:
    alice = await open_as("alice", room)
    await alice.wait_text("Only you are here", ".subtitle")
    bob = await open_as("bob", room)
    await alice.wait_text("Bob is here", ".subtitle")
    await bob.close()
    await alice.wait_text("Only you are here", ".subtitle")


async def test_unread_messages_are_counted_and_marked_as_read(open_as: OpenAs, room: Room) -> None:
    alice = await open_as("alice", room)
    bob = await open_as("bob", await make_room(room.up))
    entry = f"a[href='#/{room.id}']"
    for text in ("One", "Two"):
        await say(alice, text)
    await bob.wait_text("2", f"{entry} .badge")
    await bob.wait_text("Alice: Two", entry)
    await bob.click(entry)
    await bob.wait_text("Two", ".log")
    await alice.wait(f"{message('Two')}.querySelector('.read-marks')?.title === 'Read by Bob'")
    await bob.wait(f"document.querySelector({entry + ' .badge'!r}) === null")
    assert await bob.texts(".divider.is-new") == ["New"]


async def test_searching_finds_all_words_and_goes_there(open_as: OpenAs, room: Room) -> None:
    await room.post("The quick brown fox")
    for number in range(70):
        await room.post(f"Filling {number}")
    alice = await open_as("alice", room)
    await alice.click("[aria-label='Search in this room']")
    assert await alice.focused() == "Search in this room"
    await alice.type("quick fox")
    # Search finds what is archived: a moment later.
    await alice.press("Enter")
    state = "document.querySelector('.search .hint').innerText"
    again = "document.querySelector('.search-row').requestSubmit()"
    await alice.wait(
        f"{state}.includes('1 message found') || ({state} === 'Nothing found' && {again})"
    )
    assert await alice.evaluate(f"{message('The quick brown fox')} === undefined")
    await alice.click(".hit")
    await alice.wait(f"{message('The quick brown fox')}?.contains(document.activeElement)")


async def test_history_loads_upwards_and_the_place_stays(open_as: OpenAs, room: Room) -> None:
    for number in range(120):
        await room.post(f"Message {number}")
    alice = await open_as("alice", room)
    await alice.wait_text("Message 119", ".log")
    assert len(await shown(alice)) < 120
    while len(await shown(alice)) < 120:
        await alice.evaluate("document.querySelector('.scroller').scrollTop = 0")
        count = len(await shown(alice))
        await alice.wait(f"document.querySelectorAll('.message[data-seq]').length > {count}")
        assert await alice.evaluate("document.querySelector('.scroller').scrollTop > 100")
    assert await shown(alice) == [f"Message {number}" for number in range(120)]
    await alice.wait("document.querySelector('.older').hidden")


async def test_a_new_room_is_found_and_a_closed_one_goes(open_as: OpenAs, up: UpProcess) -> None:
    bob = await open_as("bob", await make_room(up))
    other = await make_room(up)
    # What happens when one comes back to the tab.
    await bob.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await bob.wait_text(other.id, ".rooms")
    await bob.click(f"a[href='#/{other.id}']")
    await bob.wait_text(other.id, ".room-head h2")
    answer = await up.request("DELETE", f"/v1/rooms/{other.id}/members/bob")
    assert answer.status == 204
    await bob.wait_text(f"{other.id} is closed to you", ".main")
    await bob.wait(f"document.querySelector(\"a[href='#/{other.id}']\") === null")
