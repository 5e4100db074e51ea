"""The routes of the chat page: its files, where the broker is, and tokens of `parley up`'s users.

The page holds no secret and gets none from here, with one exception. `parley up` sets DEMO_USERS,
and then whoever opens the page on the same machine may pick one of those users and is given a
token. That takes all of these: the API listens on the loopback alone (the settings refuse
DEMO_USERS otherwise), so the peer is on this machine; the request came through no proxy; its Host
is a name of the own machine (so no foreign name that resolves to it, "DNS rebinding"); it was sent
by the page itself (no other origin). Whatever is missing, the demo does not exist: 404.

The Content-Security-Policy allows the page's own files and the broker, nothing else: no inline
script or style, no picture or frame of anybody else, and, by Trusted Types, no text that becomes
HTML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
from quart import Response, request

from api.bodies import json_response, parse_body, read_body
from api.openapi.operations import hidden
from api.page.files import file_response, load_files
from api.routes import Route
from api.services import Services
from broker.domain.identity import mint_token
from broker.protocol.errors import ProtocolError
from config.api_limits import DEMO_TOKEN_TTL
from config.settings import LOOPBACK_NAMES

_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?")
_PROXY_HEADERS: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class TokenBody(msgspec.Struct):
    """Who somebody wants to be in the demo."""

    user: str


class PageRoutes:
    """`/`, `/page/…`, `/page.json`, `/parley.js`."""

    tag = "page"

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._files = load_files("api.page")

    def routes(self) -> Sequence[Route]:
        """The operations: none of them is part of the API that `/docs` describes."""
        client = (Route("GET", "/parley.js", self.client),)
        if not self._settings.chat_page:
            return client
        return (
            *client,
            Route("GET", "/", self.page),
            Route("GET", "/page/<name>", self.file),
            Route("GET", "/page.json", self.about),
            Route("POST", "/page/token", self.token),
        )

    @hidden
    async def page(self) -> Response:
        """The page itself."""
        response = file_response(self._files["index.html"])
        url = self._broker_url()
        connect = "'self'" if url is None else f"'self' {_origin(url)}"
        response.headers["Content-Security-Policy"] = _POLICY.format(connect=connect)
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        # The policy names the broker as seen from this Host.
        response.headers["Vary"] = "Host"
        return response

    @hidden
    async def file(self, name: str) -> Response:
        """A script, style sheet or picture of the page."""
        found = self._files.get(name)
        if found is None or name == "index.html":
            raise ProtocolError("not_found", "There is no such path.")
        return file_response(found)

    @hidden
    async def client(self) -> Response:
        """The browser client, for pages of any origin."""
        response = file_response(self._files["parley.js"])
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    @hidden
    async def about(self) -> Response:
        """Where the broker is (null: at the page's own host), and whom a visitor may be."""
        users = self._settings.demo_users if self._is_demo_visitor() else ()
        return _uncached({"broker_url": self._broker_url(), "demo_users": users})

    @hidden
    async def token(self) -> Response:
        """A token of one of the demo's users, for a visitor on this machine."""
        if not self._is_demo_visitor():
            raise ProtocolError("not_found", "There is no such path.")
        user = parse_body(await read_body(), TokenBody).user
        if user not in self._settings.demo_users:
            raise ProtocolError("bad_request", "The demo has no such user.", field="user")
        token, _ = mint_token(self._settings, user=user, ttl=DEMO_TOKEN_TTL)
        return _uncached({"token": token})

    def _is_demo_visitor(self) -> bool:
        """Whether the request was made by the page on this very machine."""
        headers = request.headers
        host = _HOST.fullmatch(request.host)
        return (
            bool(self._settings.demo_users)
            and host is not None
            and host["name"].lower() in LOOPBACK_NAMES
            and not any(name in headers for name in _PROXY_HEADERS)
            and headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
            and headers.get("Origin", f"http://{request.host}") == f"http://{request.host}"
        )

    def _broker_url(self) -> str | None:
        """BROKER_URL as the visitor can reach it.

        One on the loopback is meant for the own machine. Seen from another, it is the machine
        that the page came from (`parley up` with HOST=0.0.0.0).
        """
        url = self._settings.broker_url
        host = _HOST.fullmatch(request.host)
        if not url or host is None:
            return url or None
        parts = urlsplit(url)
        own = {parts.hostname, f"[{parts.hostname}]"}
        if not own & LOOPBACK_NAMES or host["name"].lower() in LOOPBACK_NAMES:
            return url
        port = f":{parts.port}" if parts.port else ""
        return parts._replace(netloc=f"{host['name']}{port}").geturl()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port else "")


def _uncached(body: object) -> Response:
    response = json_response(body)
    response.headers["Cache-Control"] = "no-store"
    return response
