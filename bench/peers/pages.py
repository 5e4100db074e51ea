"""Whether a peer for `history` gives the pages that it is asked for: the rows are Parley's own."""

import http.client
import json
import re
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from bench.connection import BenchError
from bench.rest import Api
from bench.target import Target

MESSAGES: Final = 120
PAGE: Final = 50
_ARCHIVED_WITHIN: Final = 30.0
_SEQ: Final = re.compile(rb'"seq":\s*(\d+)')


def check_pages(target: Target, system: Mapping[str, str]) -> str:
    """Write messages through Parley, wait for the archiver, read the pages from the peer."""
    assert target.page is not None
    room = f"check-{time.time_ns():x}"
    Api(system["API_URL"], system["API_KEY"]).prepare_rooms({room: ["alice"]})
    _write(system, room)
    deadline = time.monotonic() + _ARCHIVED_WITHIN
    while (found := read_page(target, room, MESSAGES + 1)) != _expected(MESSAGES + 1):
        if time.monotonic() > deadline:
            raise BenchError(f"{target.name}: the newest page holds {found}")
        time.sleep(0.1)
    older = MESSAGES + 1 - PAGE
    for before in (older, older - PAGE):
        found = read_page(target, room, before)
        if found != _expected(before):
            raise BenchError(f"{target.name}: the page below {before} holds {found}")
    return f"{MESSAGES} messages in three pages"


def _expected(before: int) -> list[int]:
    return list(range(max(1, before - PAGE), before))


def read_page(target: Target, room: str, before: int) -> list[int]:
    """The numbers of the messages on one page."""
    assert target.page is not None
    with socket.create_connection((target.host, target.port), timeout=10.0) as sock:
        sock.sendall(target.page(room, before))
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        body = answer.read()
    if answer.status != 200:
        raise BenchError(f"{target.name}: {answer.status} {body[:300]!r}")
    json.loads(body)
    return [int(number) for number in _SEQ.findall(body)]


def _write(system: Mapping[str, str], room: str) -> None:
    address = system["API_URL"].partition("://")[2].partition("/")[0]
    connection = http.client.HTTPConnection(address, timeout=10.0)
    headers = {"X-API-Key": system["API_KEY"], "Content-Type": "application/json"}
    for number in range(MESSAGES):
        body: dict[str, Any] = {"content": f"message {number}", "user_id": "alice"}
        path = f"/v1/rooms/{room}/messages"
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise BenchError(f"POST {path}: {answer.status} {text[:300]!r}")
    connection.close()
