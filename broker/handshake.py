"""The opening request of a connection, judged as pure text before trio-websocket sees it.

`read_request` parses a request head; `judge` decides: an HTTP answer, or a welcome with the answer
to the handshake and what the broker needs to know of the peer. trio-websocket begins with the
frames and never sees the request: no header can surprise it, no compression is negotiated, and no
token is retained in it. Tokens are not judged here: a bad one closes the WebSocket later, because
browsers can not read the answer to a failed handshake.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlsplit

from broker.health import HttpAnswer, health_answer, text_answer
from config.origins import is_listed

CONNECT_PATH: Final = "/v1/connect"
SUBPROTOCOL: Final = "parley.v1"
_CONNECT_STARTS: Final = (b"GET /v1/connect ", b"GET /v1/connect?")
_KEY_BYTES: Final = 16
_KEY_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_VERSION: Final = "13"
_HINT: Final = (
    f"This is a WebSocket server. Connect to {CONNECT_PATH} with a WebSocket client "
    f"(subprotocol {SUBPROTOCOL} or none); /healthz and /readyz tell how it is."
)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_REQUEST_LINE: Final = re.compile(r"([!-~]+) ([!-~]+) HTTP/1\.([01])").fullmatch
_HEADER: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*").fullmatch
_HOST: Final = re.compile(
    r"[A-Za-z0-9._~\-]*(?:%[0-9A-Fa-f]{2})*(?::\d*)?|\[[0-9A-Fa-f:.]+\](?::\d*)?"
).fullmatch


class BadRequest(Exception):
    """These bytes are no HTTP request head."""


@dataclass(slots=True)
class Handshake:
    """What a peer said when it connected, and the answer that says it is welcome.

    Both tokens are as given (None: not given); `take_token` says which counts and forgets them.
    """

    path: str
    remote_address: str
    origin: str | None = None
    subprotocol: str | None = None
    query_token: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    answer: bytes = field(default=b"", repr=False, compare=False)

    def take_token(self) -> str | None:
        """The token of the header, else of the query; both are forgotten."""
        token = self.query_token if self.bearer_token is None else self.bearer_token
        self.query_token = self.bearer_token = None
        return token

    def take_answer(self) -> bytes:
        """The answer, which is forgotten: it would stay for the connection's life."""
        answer, self.answer = self.answer, b""
        return answer


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request head. Header names are lower case, in order, repeated ones kept."""

    method: str
    target: str
    minor_version: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    def values(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for given, value in self.headers if given == name]

    def tokens(self, name: str) -> list[str]:
        """The comma-separated parts of a header, of all its lines."""
        parts = (part.strip() for value in self.values(name) for part in value.split(","))
        return [part for part in parts if part]


def read_request(head: bytes) -> Request:
    """Parse everything up to and with the empty line; raises BadRequest."""
    lines = head.decode("latin-1").split("\r\n")
    first = _REQUEST_LINE(lines[0])
    if first is None or lines[-2:] != ["", ""]:
        raise BadRequest("The request line is malformed.")
    headers = []
    for line in lines[1:-2]:
        header = _HEADER(line)
        if header is None or "\x00" in line or "\r" in line or "\n" in line:
            raise BadRequest("A header line is malformed.")
        headers.append((header[1].lower(), header[2]))
    return Request(first[1], first[2], int(first[3]), tuple(headers))


def asks_to_connect(data: bytes) -> bool:
    """Whether these bytes look like one whole head of a request for the WebSocket."""
    return data.startswith(_CONNECT_STARTS) and data.endswith(b"\r\n\r\n")


def judge(
    request: Request,
    *,
    remote_address: str,
    allowed_origins: tuple[str, ...],
    readiness: Callable[[], dict[str, object]],
) -> Handshake | HttpAnswer:
    """What to do with a request: welcome a peer, or answer and close."""
    path = request.target.partition("?")[0]
    if not _is_upgrade(request):
        return health_answer(request.method, path, readiness) or text_answer(
            426, _HINT, (("Upgrade", "websocket"),), is_head=request.method == "HEAD"
        )
    return _fault(request, path, allowed_origins) or _welcome(request, path, remote_address)


def is_origin_allowed(origin: str, host: str, allowed_origins: tuple[str, ...]) -> bool:
    """Whether a page of `origin` may connect to `host` (the Host header).

    Without a list, pages of the same host name may, whatever their port, and all names of the
    own machine are one. In a list, `*` allows all and `https://*.example.org` every subdomain.
    """
    if not allowed_origins:
        page, own = _host_name(origin.lower().rstrip("/")), _host_name(f"//{host.lower()}")
        return page is not None and (page == own or {page, own} <= _LOOPBACK)
    return is_listed(origin, allowed_origins)


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_upgrade(request: Request) -> bool:
    upgrades = [token.lower() for token in request.tokens("upgrade")]
    connection = [token.lower() for token in request.tokens("connection")]
    return "websocket" in upgrades and "upgrade" in connection


def _fault(request: Request, path: str, allowed_origins: tuple[str, ...]) -> HttpAnswer | None:
    """Why this WebSocket handshake is refused; None if it is good."""
    hosts = request.values("host")
    keys = request.values("sec-websocket-key")
    offered = request.tokens("sec-websocket-protocol")
    if path != CONNECT_PATH:
        return text_answer(404, f"There is no WebSocket here. Connect to {CONNECT_PATH}.")
    if request.method != "GET" or request.minor_version != 1:
        return text_answer(400, "A WebSocket handshake is a GET request of HTTP/1.1.")
    if len(hosts) != 1 or not _HOST(hosts[0]):
        return text_answer(400, "A request has one Host header.")
    if request.values("sec-websocket-version") != [_VERSION]:
        return text_answer(
            426, "WebSocket version 13 is spoken here.", (("Sec-WebSocket-Version", _VERSION),)
        )
    if len(keys) != 1 or not _is_key(keys[0]):
        return text_answer(400, "Sec-WebSocket-Key holds 16 bytes in base64.")
    if offered and SUBPROTOCOL not in offered:
        return text_answer(
            400,
            f"None of the offered subprotocols is spoken here; known are: {SUBPROTOCOL}.",
            (("Sec-WebSocket-Protocol", SUBPROTOCOL),),
        )
    origins = request.values("origin")
    if len(origins) > 1 or (
        origins and not is_origin_allowed(origins[0], hosts[0], allowed_origins)
    ):
        return text_answer(403, "Pages of this origin may not connect; see ALLOWED_ORIGINS.")
    return None


def _welcome(request: Request, path: str, remote_address: str) -> Handshake:
    subprotocol = SUBPROTOCOL if request.tokens("sec-websocket-protocol") else None
    return Handshake(
        path=path,
        remote_address=remote_address,
        origin=next(iter(request.values("origin")), None),
        subprotocol=subprotocol,
        query_token=_query_token(request.target),
        bearer_token=_bearer_token(request),
        answer=_answer(request.values("sec-websocket-key")[0], subprotocol),
    )


def _answer(key: str, subprotocol: str | None) -> bytes:
    # RFC 6455 wants this digest; it is no protection against anybody.
    digest = hashlib.sha1(key.encode("ascii") + _KEY_SUFFIX, usedforsecurity=False).digest()
    chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
    ) % (base64.b64encode(digest), chosen.encode("ascii"))


def _query_token(target: str) -> str | None:
    tokens = parse_qs(target.partition("?")[2], errors="replace").get("token")
    return tokens[0] if tokens else None


def _bearer_token(request: Request) -> str | None:
    for value in request.values("authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    return None


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.encode("ascii"), validate=True)) == _KEY_BYTES
    except (binascii.Error, UnicodeEncodeError):
        return False
