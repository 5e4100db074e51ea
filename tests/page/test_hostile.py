"""Whatever others write stays text, and no address leads anywhere but to the web."""

from tests.page.browser import Page
from tests.page.conftest import OpenAs, make_room, shown
from tests.security.texts import BLOCKS, LINES
from tests.support.system import UpProcess
from tests.support.waiting import wait_until

TEXTS = [
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script>",
    "</p></article></li><h1>Hello</h1>",
    "&lt;b&gt; &amp; <b>bold</b>",
    "javascript:document.title='owned'",
    "https://example.org/\"onmouseover=\"document.title='owned'",
]
NAME = "<svg onload=\"document.title='owned'\">"


async def test_html_stays_text_everywhere(open_as: OpenAs, up: UpProcess) -> None:
    room = await make_room(up, name=NAME, topic="<i>topic</i>")
    answer = await up.request("PATCH", "/v1/users/bob", {"display_name": NAME})
    assert answer.status == 200
    try:
        for text in TEXTS:
            await room.post(text)
        first = (await room.messages())[0]
        await room.post("reply", reply_to=first["seq"])
        alice = await open_as("alice", None)
        await alice.click(f"a[href='#/{room.id}']")
        await alice.wait_text("reply", ".log")
        assert await shown(alice) == [*TEXTS, "reply"]
        assert await alice.texts(".room-head h2") == [NAME]
        assert await alice.texts(".message:not(.is-own) .sender") == [NAME]
        assert await alice.texts(".quote-text") == [TEXTS[0]]
        await alice.wait_text("<i>topic</i>", ".subtitle")
        foreign = "img, script:not([src]), svg:not(.icon), b, i, .log h1, [onerror], [onmouseover]"
        assert await alice.evaluate(f"document.querySelectorAll({foreign!r}).length") == 0
        assert "owned" not in await alice.evaluate("document.title")
    finally:
        await up.request("PATCH", "/v1/users/bob", {"display_name": "Bob"})


async def test_every_text_is_shown_as_it_is(open_as: OpenAs, up: UpProcess) -> None:
    """As a content and as an attachment's name, read from a page of history and as events."""
    texts = [*LINES, *BLOCKS]
    room = await make_room(up)
    alice = await open_as("alice", room)

    async def post_all() -> None:
        for text in texts:
            await room.post(f"{text}!", attachments=[{"url": "x:y", "name": text, "mime": text}])
        await room.post("the last one")

    await post_all()
    await alice.wait_text("the last one", ".log")
    assert await written(alice, ".content") == [f"{text}!" for text in texts] + ["the last one"]
    late = await open_as("alice", room)
    await late.wait_text("the last one", ".log")
    for page in (alice, late):
        assert await written(page, ".content") == [f"{text}!" for text in texts] + ["the last one"]
        assert await written(page, ".attachment > span > :first-child") == texts
        assert "owned" not in await page.evaluate("document.title")


async def test_names_that_every_object_has_are_only_names(open_as: OpenAs, up: UpProcess) -> None:
    """Reactions, users and rooms that are called like a property of JavaScript's objects."""
    names = ["__proto__", "constructor", "toString", "hasOwnProperty"]
    room = await make_room(up, members=["bob", *names])
    first = await room.post("vote")
    alice = await open_as("alice", room)
    await alice.wait_text("vote", ".log")
    for name in names:
        await room.post(f"by {name}", user=name)
        path = f"/v1/rooms/{room.id}/messages/{first['seq']}/reactions/{name}?user_id={name}"
        assert (await up.request("PUT", path)).status == 204
    await alice.wait(f"document.querySelectorAll('.chip').length === {len(names)}")
    await alice.click(".chip")
    await alice.wait("document.querySelector('.chip[aria-pressed=true]')")
    late = await open_as("alice", room)
    await late.wait(f"document.querySelectorAll('.chip').length === {len(names)}")
    for page in (alice, late):
        assert sorted(await page.texts(".chip .emoji")) == sorted(names)
        assert await page.texts(".message:not(.is-own) .sender") == ["Bob", *names]


async def written(page: Page, selector: str) -> list[str]:
    """The text in the elements, whatever of it is seen."""
    found: list[str] = await page.evaluate(
        f"[...document.querySelectorAll('.message[data-seq] {selector}')].map((e) => e.textContent)"
    )
    return found


async def test_only_addresses_of_the_web_become_links(open_as: OpenAs, up: UpProcess) -> None:
    room = await make_room(up)
    urls = ["ftp://example.org/a", "tel:+123", "intent://x", "file:///etc/passwd", "blob:x"]
    await room.post("files", attachments=[{"url": url, "name": "<b>n</b>"} for url in urls])
    await room.post("one", attachments=[{"url": "https://example.org/a%20b.pdf", "size": 1234567}])
    alice = await open_as("alice", room)
    await alice.wait_text("1.2 MB", ".log")
    assert await alice.texts(".attachment .facts") == ["1.2 MB"]
    links = "[...document.querySelectorAll('.log a')].map((a) => [a.href, a.rel, a.target])"
    assert await alice.evaluate(links) == [
        ["https://example.org/a%20b.pdf", "noopener noreferrer", "_blank"]
    ]
    assert await alice.evaluate("document.querySelectorAll('.log b').length") == 0


async def test_the_policy_refuses_what_the_page_does_not_do(open_as: OpenAs, up: UpProcess) -> None:
    """That the console is clean elsewhere means something: here it is not."""
    alice = await open_as("alice", await make_room(up))
    assert alice.problems == []
    attempts = {
        "document.body.innerHTML = '<b>x</b>'": "TrustedHTML",
        "fetch('http://127.0.0.1:1/').catch(() => 0)": "connect-src",
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:1/x'}))": "img",
    }
    for attempt, word in attempts.items():
        await alice.evaluate(
            f"(() => {{ try {{ {attempt} }} catch (e) {{ console.error(`${{e}}`) }} }})()"
        )

        def is_refused(word: str = word) -> bool:
            return any(word in problem for problem in alice.problems)

        await wait_until(is_refused, what=f"{attempt} refused")
    alice.problems.clear()
