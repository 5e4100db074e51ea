"""`docs/permissions.md`, rendered from the table. `python -m tests.matrix.pages` writes it."""

import re
from collections.abc import Iterable, Iterator, Sequence

from tests.matrix import table
from tests.support.sources import ROOT

PAGE = ROOT / "docs" / "permissions.md"
_SIGNS = {"+": "✓", ".": " "}
_INTRODUCTION = """\
# Permissions

Who may do what, and what everybody else is answered. This page is rendered from the table in
`tests/matrix/table.py`, and each of its cells is tried on a running system of two brokers and an
API. What the roles are for is on [the protocol's page](protocol.md#who-may-do-what).

Read it in two steps: an operation takes a *right*; what a right gives to whom depends on the kind
of the room.
"""


def plain(path: str) -> str:
    """A path with the route's own names, without a query."""
    path = path.partition("?")[0].replace("/up", "/{reaction}").replace("main.js", "{name}")
    path = re.sub(r"\{(own|other)(_id)?\}", "{message}", path)
    return re.sub(r"\{(victim|owner|self)\}", "{user}", path)


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield "## Who\n"
    yield from _table(
        ["column", "who"], [(_head(name), who) for name, who in table.COLUMNS.items()]
    )
    yield "\nVoid credentials are refused before anything else is looked at: `unauthenticated` for"
    yield "`revoked` and `nobody`, `token_expired` for `expired`. On the WebSocket the first closes"
    yield "with 4403, the last with 4402, and without a token each frame is `unauthenticated`.\n"
    yield "## Answers\n"
    answers = [
        (f"`{_sign(letter)}`", f"`{name}`") for letter, name in table.ANSWERS.items() if name
    ]
    yield from _table(["sign", "answer"], [("✓", "done"), *answers[1:]])
    for kind, columns in table.KINDS.items():
        shown = columns[: columns.index("stranger") + 2]
        yield f"\n## Rights in a {kind} room\n"
        rows = [
            (right.name, *(_sign(right.answer(kind, column)) for column in shown))
            for right in table.RIGHTS
            if kind in right.kinds
        ]
        yield from _table(["right", *map(_head, shown)], rows)
    yield "\nWho sees a public room without being a member is told `not_a_member`, who may not know"
    yield "of a room `room_not_found`, byte for byte as for a room that there is not.\n"
    yield "## Frames about a room\n"
    yield from _table(
        ["frame", "of", "right"],
        [(f"`{c.type}`", c.what, c.right.name) for c in table.COMMANDS],
    )
    yield "\n`auth`, `refresh` and `ping` take a token and nothing else; a token of another user is"
    yield "`forbidden` once the connection has one.\n"
    yield "## Routes about a room\n"
    yield from _table(
        ["route", "of", "right"],
        [(f"`{o.method} {plain(o.path)}`", o.what, o.right.name) for o in table.OPERATIONS],
    )
    yield "\nIn `/v1/messages/{message}` a room that one may not know of is `message_not_found`."
    yield "Forwarding also takes the right to publish where the copy goes.\n"
    yield "## Routes about no room\n"
    yield from _table(
        ["route", "of", *map(_head, table.CREDENTIALS)],
        [
            (
                f"`{e.method} {plain(e.path)}`",
                e.what,
                *(_sign(e.answer(column)) for column in table.CREDENTIALS),
            )
            for e in table.ELSEWHERE
        ],
    )
    yield "\n`/openapi.json`, `/asyncapi.yaml` and `/docs` are for everybody. `/page/token` is"
    yield "there for the demo of `parley up` alone."


def _head(column: str) -> str:
    return column.replace("_", " ")


def _sign(letter: str) -> str:
    return _SIGNS.get(letter, letter)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
