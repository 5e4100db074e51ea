"""History pages over HTTP: what the query asks for, the answer's body, its links and its ETag.

A page's ETag is of its very bytes, made after the merge; access is checked before it is compared.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

import msgspec
from quart import Response, request

from api.bodies import json_response, list_body, query_flag, query_number, query_text
from broker.domain.access import Actor
from broker.domain.history import Page, PageQuery
from broker.protocol.commands import PAGE_DEFAULT, PAGE_MAX
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_message_id, is_user_id
from broker.protocol.message_draft import is_kind
from config.api_limits import API_PAGE_BYTES_MAX
from storage.postgres.message_filters import MessageFilter
from storage.postgres.messages import SEQ_MAX

_BOUNDS: Final = ("before", "after", "around")
GZIP_TAG: Final = "-gzip"
"""What the ETag of a compressed page has more than that of the plain one."""

_KEPT: Final = ("user_id", "deleted", "sender", "kind", "from", "to")
"""What the links to the neighbouring pages repeat."""


class Tagged(NamedTuple):
    """The body of a page and the digest of its bytes."""

    body: bytes
    digest: str


def page_query(chosen: MessageFilter) -> PageQuery:
    """Which page of the chosen messages the query asks for; raises ProtocolError naming it."""
    args = request.args
    given = [name for name in (*_BOUNDS, "page", "skip") if name in args]
    if len(given) > 1:
        raise ProtocolError("bad_request", f"`{given[0]}` and `{given[1]}` exclude.", given[1])
    limit = query_number("limit", low=1, high=PAGE_MAX) or PAGE_DEFAULT
    page = query_number("page", low=1)
    skip = query_number("skip")
    if page is not None:
        skip = min((page - 1) * limit, SEQ_MAX)
    return PageQuery(
        limit=limit,
        before=query_number("before"),
        after=query_number("after"),
        around=query_number("around"),
        skip=skip,
        bytes_max=None if skip is not None else API_PAGE_BYTES_MAX,
        chosen=chosen,
    )


def query_filter() -> MessageFilter:
    """`sender`, `kind`, `from` and `to` of the query."""
    sender, kind = query_text("sender"), query_text("kind")
    if sender is not None and not is_user_id(sender):
        raise ProtocolError("bad_request", "This is no user id.", "sender")
    if kind is not None and not is_kind(kind):
        raise ProtocolError("bad_request", "This is no kind of messages.", "kind")
    earliest, latest = _query_time("from"), _query_time("to")
    return MessageFilter(sender=sender, kind=kind, earliest=earliest, latest=latest)


def _query_time(name: str) -> datetime | None:
    text = query_text(name)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ProtocolError("bad_request", f"`{name}` is a time such as 2026-01-02T03:04:05Z.", name)


def is_revealed(actor: Actor) -> bool:
    """Whether deleted content is to be shown: `?deleted=true`, by key only."""
    if not query_flag("deleted"):
        return False
    if actor.caller == "user":
        raise ProtocolError("forbidden", "Only a key sees deleted content.", "deleted")
    return True


def message_name(text: str) -> int | str | None:
    """A seq or a message id; None if the text can be neither."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    return text if is_message_id(text) else None


class PageBodies:
    """The bodies of pages and their ETags, made once for a page that is kept (`kept_pages`)."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[Page, tuple[tuple[str, str], Tagged]] = WeakKeyDictionary()

    def of(self, path: str, query: PageQuery, page: Page) -> Tagged:
        """The body of the page at `path`, as the present request asks for it."""
        asked = (path, _kept_arguments())
        made = self._made.get(page)
        if made is None or made[0] != asked:
            made = (asked, tagged(_page_body(*asked, query.limit, page)))
            self._made[page] = made
        return made[1]


def _page_body(path: str, kept: str, limit: int, page: Page) -> bytes:
    """A page with its links; `path` is where its neighbours are."""
    newer = _link(path, "after", page.newer_after, limit, kept)
    older = _link(path, "before", page.older_before, limit, kept)
    envelope = msgspec.json.encode(
        {
            "has_more_before": page.has_more_before,
            "has_more_after": page.has_more_after,
            "next": newer,
            "previous": older,
            "users": msgspec.Raw(page.users or b"{}"),
        }
    )
    return b'{"items":%b,%b' % (page.items, envelope[1:])


def _kept_arguments() -> str:
    """What the links repeat: the neighbours are for the same actor and of the same messages."""
    args = request.args
    kept = {name: args[name] for name in _KEPT if name in args}
    return f"&{urlencode(kept)}" if kept else ""


def _link(path: str, bound: str, seq: int | None, limit: int, kept: str) -> str | None:
    return None if seq is None else f"{path}?{bound}={seq}&limit={limit}{kept}"


def numbered_body(query: PageQuery, page: Page) -> bytes:
    """A page by number, with the total."""
    skip = query.skip or 0
    return list_body(
        page.items, page=skip // query.limit + 1, limit=query.limit, total=page.total or 0
    )


def tagged(body: bytes) -> Tagged:
    """The body with what its ETag is made of."""
    return Tagged(body, hashlib.blake2b(body, digest_size=16).hexdigest())


def conditional(answer: Tagged) -> Response:
    """200 with the body and its ETag, or 304 if the client has these very bytes."""
    body, digest = answer
    tag = f'"{digest}"'
    held = _held_tag(tag, f'"{digest}{GZIP_TAG}"')
    if held is not None:
        tag = held
        response = Response(b"", status=304)
        response.headers.pop("Content-Type", None)
        response.headers["Cache-Control"] = "private, no-cache"
    else:
        response = json_response(body)
    response.headers["ETag"] = tag
    response.headers["Vary"] = "Authorization, X-API-Key"
    return response


def _held_tag(*tags: str) -> str | None:
    """Which of the tags of a page the client has already; the first if it has any page at all."""
    text = request.headers.get("If-None-Match")
    if text is None:
        return None
    known = [part.strip().removeprefix("W/") for part in text.split(",")]
    held = next((tag for tag in tags if tag in known), None)
    return tags[0] if held is None and "*" in known else held
