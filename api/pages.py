"""The API's description: `/openapi.json` and `/asyncapi.yaml` for tools, `/docs` for people.

The page needs nobody else: its scripts and styles are served here, and its content security policy
lets nothing else run, load or frame it, sends nothing anywhere else, and, by Trusted Types, lets no
text become HTML. Neither it nor the document says anything secret, so both need no credential.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import msgspec
from quart import Response
from quart_trio import QuartTrio

from api.page.files import PageFile, file_response, load_files, make_file
from broker.protocol.errors import ProtocolError
from broker.protocol.schemas.asyncapi import asyncapi_text

_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_CHAT_LINK: Final = b'<li><a href="./">Chat page</a></li>'
_SHARED_FILES: Final = ("dom.js", "icon.svg")
_CACHE_CONTROL: Final = "public, max-age=300"


def add_pages(
    app: QuartTrio, make_document: Callable[[], dict[str, Any]], *, has_chat: bool
) -> None:
    """Serve the document (made when it is first asked for) and the page."""
    page, files = _load_page(has_chat=has_chat)

    @cache
    def document() -> bytes:
        return msgspec.json.encode(make_document())

    async def openapi() -> Response:
        response = Response(document(), content_type="application/json")
        response.headers["Cache-Control"] = _CACHE_CONTROL
        return response

    async def asyncapi() -> Response:
        """The contract of the WebSocket, as in docs/asyncapi.yaml."""
        response = Response(asyncapi_text(), content_type="application/yaml; charset=utf-8")
        response.headers["Cache-Control"] = _CACHE_CONTROL
        return response

    async def docs() -> Response:
        response = file_response(page)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response

    async def docs_file(name: str) -> Response:
        found = files.get(name)
        if found is None:
            raise ProtocolError("not_found", "There is no such path.")
        return file_response(found)

    app.add_url_rule("/openapi.json", "openapi", openapi)
    app.add_url_rule("/asyncapi.yaml", "asyncapi", asyncapi)
    app.add_url_rule("/docs", "docs", docs)
    app.add_url_rule("/docs/<name>", "docs_file", docs_file)


def _load_page(*, has_chat: bool) -> tuple[PageFile, dict[str, PageFile]]:
    """The page itself, and the files that it loads by name."""
    files = load_files("api.docs")
    chat_files = load_files("api.page")
    page = files.pop("index.html")
    if not has_chat:
        page = make_file(page.content.replace(_CHAT_LINK, b""), page.content_type)
    return page, files | {name: chat_files[name] for name in _SHARED_FILES}
