"""A real Chromium, driven over its DevTools protocol: pages, keys, clicks, pictures, problems.

One process serves the run; each test has a connection and browser contexts of its own. A page
keeps whatever its console complains of, scripts that fail and what the Content-Security-Policy
refused: `problems`, which is empty in the end or the test fails.
"""

import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio_websocket

from tests.support.waiting import wait_until
from workers.embedded.guarded import GuardedProcess

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_ANSWER_DEADLINE = 20.0
# Key → (code, key code of Windows, text); what the tests press.
_KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "Tab": ("Tab", 9, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "Delete": ("Delete", 46, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    " ": ("Space", 32, " "),
}
PHONE = (390, 844)
DESKTOP = (1180, 760)


def find_chromium() -> str | None:
    """The program, if it is installed."""
    return next((path for name in _PROGRAMS if (path := shutil.which(name))), None)


class ChromiumProcess:
    """The browser of the run."""

    def __init__(self, folder: Path) -> None:
        program = find_chromium()
        assert program is not None
        self._profile = folder / "profile"
        with (folder / "chromium.log").open("wb") as log:
            self._process = GuardedProcess.start(
                [program, *_OPTIONS, f"--user-data-dir={self._profile}", "about:blank"],
                stdout=log,
                stderr=log,
                grace=5.0,
            )

    async def url(self) -> str:
        """Where it listens for the DevTools protocol."""
        port_file = self._profile / "DevToolsActivePort"
        await wait_until(
            lambda: port_file.exists() and "\n" in port_file.read_text(), what="Chromium listening"
        )
        port, path = port_file.read_text().split("\n")[:2]
        return f"ws://127.0.0.1:{port}{path}"

    def stop(self) -> None:
        self._process.kill()


class Browser:
    """A connection to the browser."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self._websocket = websocket
        self._last_id = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    @staticmethod
    @asynccontextmanager
    async def connect(url: str) -> "AsyncIterator[Browser]":
        async with (
            trio_websocket.open_websocket_url(url, max_message_size=2**26) as websocket,
            trio.open_nursery() as nursery,
        ):
            browser = Browser(websocket)
            nursery.start_soon(browser._receive)
            yield browser
            for page in list(browser._pages.values()):
                await page.close()
            nursery.cancel_scope.cancel()

    async def open_page(
        self, url: str, *, size: tuple[int, int] = DESKTOP, is_dark: bool = False
    ) -> "Page":
        """A page in a context of its own: nothing is shared with other pages."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"], context)
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        await page.look(size=size, is_dark=is_dark)
        await page.go(url)
        return page

    async def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """One command of the DevTools protocol."""
        self._last_id += 1
        answers = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[self._last_id] = answers[0]
        frame: dict[str, Any] = {"id": self._last_id, "method": method, "params": params}
        if session is not None:
            frame["sessionId"] = session
        await self._websocket.send_message(json.dumps(frame))
        with trio.fail_after(_ANSWER_DEADLINE):
            answer = await answers[1].receive()
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def forget(self, session: str) -> None:
        self._pages.pop(session, None)

    async def _receive(self) -> None:
        while True:
            frame = json.loads(await self._websocket.get_message())
            if "id" in frame:
                self._waiting.pop(frame["id"]).send_nowait(frame)
            elif frame.get("sessionId") in self._pages:
                self._pages[frame["sessionId"]].note(frame["method"], frame["params"])


class Page:
    """One tab. Selectors are CSS; texts are what is shown."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self.problems: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        return await self._browser.call(method, self._session, **params)

    def note(self, method: str, params: dict[str, Any]) -> None:
        """Keep what somebody should know of."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", str(details)))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.problems.append(f"{entry['source']}: {entry['text']} ({entry.get('url')})")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.problems.append(json.dumps(params["args"]))

    async def look(
        self, *, size: tuple[int, int] = DESKTOP, is_dark: bool = False, scale: float = 1
    ) -> None:
        """The screen: its size, light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=scale,
            mobile=size[0] < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression (of a promise: what it becomes)."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"].get("description", answer))
        return answer["result"].get("value")

    async def wait(self, expression: str, *, what: str = "", deadline: float = 20.0) -> None:
        """Wait until a JavaScript expression is true."""

        async def is_so() -> bool:
            return await self.evaluate(f"Boolean({expression})") is True

        try:
            await wait_until(is_so, deadline=deadline, what=what or expression)
        except AssertionError as error:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{error}\nshown: {shown}\nproblems: {self.problems}") from None

    async def wait_text(self, text: str, within: str = "body") -> None:
        """Wait until a text is shown."""
        place = f"document.querySelector({json.dumps(within)})"
        await self.wait(f"{place}?.innerText.includes({json.dumps(text)})", what=f"{text!r} shown")

    async def texts(self, selector: str) -> list[str]:
        """What the elements show."""
        found: list[str] = await self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)"
        )
        return found

    async def click(self, selector: str) -> None:
        """A real click into the middle of the element, which must be what is there."""
        find = f"document.querySelector({json.dumps(selector)})"
        await self.wait(f"{find} !== null", what=f"{selector} there")
        x, y = await self.evaluate(
            f"(() => {{ const e = {find}; e.scrollIntoView({{block: 'nearest'}});"
            " const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind, count in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 1)):
            await self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left" if count else "none",
                clickCount=count,
            )

    async def type(self, text: str) -> None:
        """Text into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, *keys: str, shift: bool = False) -> None:
        """Keys, one after the other."""
        for key in keys:
            code, number, text = _KEYS.get(key, (f"Key{key.upper()}", ord(key.upper()[0]), key))
            common = {
                "key": key,
                "code": code,
                "windowsVirtualKeyCode": number,
                "modifiers": 8 if shift else 0,
            }
            down = "keyDown" if text else "rawKeyDown"
            await self.call("Input.dispatchKeyEvent", type=down, text=text, **common)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def focused(self) -> str:
        """What has the focus: its accessible name, as far as it is written down."""
        name: str = await self.evaluate(
            "(() => { const e = document.activeElement; return e.getAttribute('aria-label')"
            " ?? e.labels?.[0]?.innerText ?? e.innerText ?? ''; })()"
        )
        return name.strip()

    async def screenshot(self, path: Path) -> None:
        """A picture of what is shown."""
        picture = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    async def close(self) -> None:
        self._browser.forget(self._session)
        await self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
