"""The API's description: `/openapi.json` and `/asyncapi.yaml` for tools, `/docs` for people.

The page needs nobody else: its script and style are served here, and its content security policy
lets nothing else run, load or frame it. Neither it nor the document says anything secret, so
both need no credential.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

import msgspec
from quart import Response
from quart_trio import QuartTrio

from broker.protocol.schemas.asyncapi import asyncapi_text

_FILES: Final = MappingProxyType(
    {
        "/docs": ("docs.html", "text/html; charset=utf-8"),
        "/docs.css": ("docs.css", "text/css; charset=utf-8"),
        "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    }
)
_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; style-src 'self'; script-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CACHE_CONTROL: Final = "public, max-age=300"


def add_pages(app: QuartTrio, make_document: Callable[[], dict[str, Any]]) -> None:
    """Serve the document (made when it is first asked for) and the page."""

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

    app.add_url_rule("/openapi.json", "openapi", openapi)
    app.add_url_rule("/asyncapi.yaml", "asyncapi", asyncapi)
    for path, (name, media_type) in _FILES.items():
        app.add_url_rule(path, name, _page(name, media_type))


def _page(name: str, media_type: str) -> Any:
    async def page() -> Response:
        body = files("api").joinpath(name).read_text(encoding="utf-8")
        response = Response(body, content_type=media_type)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = _CACHE_CONTROL
        return response

    return page
