"""The forty lines of the browser guide, served by an application of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.guides.blocks import block
from tests.page.browser import Browser
from tests.page.conftest import Room, make_room
from tests.support.system import UpProcess
from workers.embedded.ports import LOOPBACK


@asynccontextmanager
async def application(page: str, token: str) -> AsyncIterator[str]:
    """A server that knows `/` and `/chat-token`; its address."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = bytes(await stream.receive_some(65536))
            is_token = request.startswith(b"POST /chat-token ")
            body = (token if is_token else page).encode()
            kind = "text/plain" if is_token else "text/html"
            status = "204 No Content" if b"favicon" in request.partition(b"\r\n")[0] else "200 OK"
            head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\n"
            head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + body)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"http://{LOOPBACK}:{port}/"
        nursery.cancel_scope.cancel()


async def test_the_page_of_the_guide(browser: Browser, up: UpProcess) -> None:
    room: Room = await make_room(up)
    source = block("browser-client.md", "html")
    source = source.replace("wss://chat.example.org/v1/connect", up.env["BROKER_URL"])
    source = source.replace("https://chat.example.org", up.env["API_URL"])
    source = source.replace('"lunch"', f'"{room.id}"')
    await room.post("first")
    async with application(source, up.env["ALICE_TOKEN"]) as url:
        page = await browser.open_page(url)
        await page.wait_text("bob: first", "#log")
        await page.click("#text")
        await page.type("<b>hello</b>")
        await page.press("Enter")
        await page.wait_text("alice: <b>hello</b>", "#log")
        messages = await room.messages()
        answer = await up.request("DELETE", f"/v1/rooms/{room.id}/messages/{messages[0]['seq']}")
        assert answer.status == 204
        await page.wait_text("(deleted)", "#log")
        assert await page.texts("#log li") == ["(deleted)", "alice: <b>hello</b>"]
        assert await page.texts("#state") == ["online"]
        assert page.problems == []
