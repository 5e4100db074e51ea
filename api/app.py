"""The ASGI application: every route, the problems, the headers, the OpenAPI document.

`create_app(services)` builds one; nothing here is shared between two. Handlers are in the modules
of their resources.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from quart import Response, g, request
from quart_schema import QuartSchema, hide, security_scheme, tag
from quart_trio import QuartTrio

from api.audit import AuditRoutes
from api.bans import BanRoutes
from api.health import HealthRoutes
from api.me import MeRoutes
from api.members import MemberRoutes
from api.message_copies import CopyRoutes
from api.messages import MessageRoutes
from api.page.routes import PageRoutes
from api.presence import PresenceRoutes
from api.problems import register_problems
from api.project import ProjectRoutes
from api.rates import RateState
from api.reactions import ReactionRoutes
from api.rooms import RoomRoutes
from api.routes import Resource, Route
from api.search import SearchRoutes
from api.services import Services
from api.user_rooms import UserRoomRoutes
from api.users import UserRoutes
from broker.protocol.schemas.asyncapi import asyncapi_text
from config.limits import API_BODY_BYTES_MAX, API_BODY_TIMEOUT, API_RESPONSE_TIMEOUT

_RESOURCES: tuple[Callable[[Services], Resource], ...] = (
    ProjectRoutes,
    AuditRoutes,
    UserRoutes,
    MeRoutes,
    RoomRoutes,
    UserRoomRoutes,
    MemberRoutes,
    BanRoutes,
    MessageRoutes,
    CopyRoutes,
    ReactionRoutes,
    PresenceRoutes,
    SearchRoutes,
    HealthRoutes,
    PageRoutes,
)
_CREDENTIALS: dict[str, list[str]] = {"key": [], "token": []}


def create_app(services: Services) -> QuartTrio:
    """The application over these services."""
    app = QuartTrio("parley", static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.config["MAX_CONTENT_LENGTH"] = API_BODY_BYTES_MAX
    app.config["BODY_TIMEOUT"] = API_BODY_TIMEOUT
    app.config["RESPONSE_TIMEOUT"] = API_RESPONSE_TIMEOUT
    QuartSchema(
        app,
        openapi_path="/openapi.json",
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info={"title": "Parley", "version": product_version()},
        security_schemes={
            "key": {"type": "apiKey", "in_": "header", "name": "X-API-Key"},
            "token": {"type": "http", "scheme": "bearer", "bearer_format": "JWT"},
        },
        conversion_preference="msgspec",
    )
    for make in _RESOURCES:
        resource = make(services)
        for route in resource.routes():
            _add_route(app, resource.tag, route)
    app.add_url_rule("/docs", "docs", hide(_docs_page))
    app.add_url_rule("/asyncapi.yaml", "asyncapi", hide(_asyncapi_document))
    register_problems(app)
    app.before_request(_start_clock)
    app.after_request(partial(_finish, services))
    return app


def product_version() -> str:
    """The installed version; `0` in a tree that is not installed."""
    try:
        return version("parley")
    except PackageNotFoundError:
        return "0"


def _add_route(app: QuartTrio, heading: str, route: Route) -> None:
    handler: Any = route.handler
    function = getattr(handler, "__func__", handler)
    tag([heading])(function)
    if route.path.startswith("/v1/"):
        security_scheme([{name: scopes} for name, scopes in _CREDENTIALS.items()])(function)
    app.add_url_rule(
        route.path, f"{heading}:{function.__name__}", view_func=handler, methods=[route.method]
    )


async def _docs_page() -> Response:
    page = files("api").joinpath("docs.html").read_text(encoding="utf-8")
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    )
    return response


async def _asyncapi_document() -> Response:
    """The contract of the WebSocket, as in docs/asyncapi.yaml."""
    return Response(asyncapi_text(), content_type="application/yaml; charset=utf-8")


async def _start_clock() -> None:
    g.started_at = time.perf_counter()


async def _finish(services: Services, response: Response) -> Response:
    """Headers that every answer has, and its place in the metrics."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    rate: RateState | None = g.get("rate")
    if rate is not None:
        response.headers["RateLimit-Limit"] = str(rate.limit)
        response.headers["RateLimit-Remaining"] = str(rate.remaining)
        response.headers["RateLimit-Reset"] = str(rate.reset)
    route = str(request.url_rule) if request.url_rule is not None else "none"
    services.metrics.requests.labels(request.method, route, str(response.status_code)).inc()
    started_at = g.get("started_at")
    if started_at is not None:
        services.metrics.request_seconds.observe(time.perf_counter() - started_at)
    return response
