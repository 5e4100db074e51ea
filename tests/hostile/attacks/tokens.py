"""Wrong tokens by the thousand: what each costs is bounded by what a connection costs."""

from __future__ import annotations

import base64
import json
from collections import Counter
from itertools import count
from urllib.parse import quote

import trio

from tests.hostile.force import Force
from tests.hostile.target import Target, close_code, handshake, http_status, read_all
from tests.support.tokens import make_token

_PATIENCE = 30.0
# Within TOKEN_BYTES_MAX, above it, above HEAD_BYTES_MAX.
_SIZES = ((15_000, "4401"), (17_000, "HTTP 431"), (100_000, "HTTP 431"))


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def wrong_tokens(user: str) -> list[str]:
    """Tokens that must not be taken, each wrong in its own way."""
    good = make_token(user)
    _head, body, signature = good.split(".")
    return [
        "nonsense",
        "..",
        make_token(user, secret="another secret that is long enough for HS256"),
        f"{_part({'alg': 'none'})}.{body}.",
        f"{_part({'alg': 'None', 'typ': 'JWT'})}.{body}.{signature}",
        f"{_part({'alg': 'RS256'})}.{body}.{signature}",
        f"{_part({'alg': 'HS512'})}.{body}.{signature}",
        f"{_part({'alg': 'HS256', 'kid': '../../etc/passwd'})}.{body}.AAAA",
        f"{_part({'alg': 'HS256', 'jwk': {'kty': 'oct', 'k': 'AAAA'}})}.{body}.{signature}",
        f"{_part({'alg': ['HS256']})}.{body}.{signature}",
        f"{'A' * 4000}.{body}.{signature}",
        good[:-4] + "AAAA",
        make_token("x" * 500),
    ]


async def wrong(target: Target, force: Force) -> Counter[str]:
    """One after the other, by the query, each on a connection of its own."""
    numbers = count()

    async def attack() -> str:
        tokens = wrong_tokens(target.user)
        async with target.websocket(quote(tokens[next(numbers) % len(tokens)])) as client:
            with trio.move_on_after(_PATIENCE):
                return await close_code(client)
        return "not closed"

    return await force.each(attack)


async def giant(target: Target, force: Force) -> Counter[str]:
    """Tokens as long as a head may be, and longer ones."""
    numbers = count()

    async def attack() -> str:
        size, expected = _SIZES[next(numbers) % len(_SIZES)]
        async with target.tcp() as stream:
            head = handshake(Authorization="Bearer " + "A" * size)
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    try:
                        await stream.send_all(head)
                    except trio.BrokenResourceError:
                        return

                nursery.start_soon(send)
                with trio.move_on_after(_PATIENCE):
                    data = await read_all(stream)
                nursery.cancel_scope.cancel()
        found = http_status(data)
        if found == "HTTP 101":
            closing = data.partition(b"\r\n\r\n")[2]
            found = str(int.from_bytes(closing[2:4], "big"))
        return found if found == expected else f"{size} bytes: {found}"

    return await force.each(attack)
