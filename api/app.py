"""The ASGI application: every route, the problems, the headers, the OpenAPI document.

`create_app(services)` builds one; nothing here is shared between two. Handlers are in the modules
of their resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from quart.routing import QuartRule
from quart_trio import QuartTrio

from api.answering import Answering
from api.audit import AuditRoutes
from api.bans import BanRoutes
from api.exchange import Exchange
from api.favorites import FavoriteRoutes
from api.health import HealthRoutes
from api.me import MeRoutes
from api.members import MemberRoutes
from api.message_copies import CopyRoutes
from api.messages import MessageRoutes
from api.openapi.document import openapi_document
from api.page.routes import PageRoutes
from api.pages import add_pages
from api.presence import PresenceRoutes
from api.problems import register_problems
from api.project import ProjectRoutes
from api.reactions import ReactionRoutes
from api.receipts import ReceiptRoutes
from api.rooms import RoomRoutes
from api.routes import Resource, Route
from api.search import SearchRoutes
from api.services import Services
from api.user_rooms import UserRoomRoutes
from api.users import UserRoutes
from config.api_limits import API_BODY_BYTES_MAX, API_BODY_TIMEOUT, API_RESPONSE_TIMEOUT

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
    FavoriteRoutes,
    SearchRoutes,
    ReceiptRoutes,
    HealthRoutes,
    PageRoutes,
)


class _OneWayRule(QuartRule):
    """A rule that requests are matched with, and from which no URL is ever made.

    The code that would make them is compiled twice for each route: six sevenths of `create_app`.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _make_no_url


def _make_no_url(*_args: Any, **_values: Any) -> tuple[str, str]:
    raise NotImplementedError("no URL is made from a route")


def create_app(services: Services) -> QuartTrio:
    """The application over these services."""
    app = QuartTrio("parley", static_folder=None)
    app.asgi_http_class = Answering
    app.url_rule_class = _OneWayRule
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.config["MAX_CONTENT_LENGTH"] = API_BODY_BYTES_MAX
    app.config["BODY_TIMEOUT"] = API_BODY_TIMEOUT
    app.config["RESPONSE_TIMEOUT"] = API_RESPONSE_TIMEOUT
    for heading, route in _routes(services):
        name = f"{heading}:{route.handler.__name__}"
        app.add_url_rule(route.path, name, view_func=route.handler, methods=[route.method])
    add_pages(app, lambda: describe_api(services), has_chat=services.settings.chat_page)
    register_problems(app)
    Exchange(services).register(app)
    return app


def describe_api(services: Services) -> dict[str, Any]:
    """The OpenAPI document of this application."""
    return openapi_document(_routes(services), product_version())


def _routes(services: Services) -> Iterator[tuple[str, Route]]:
    """Every operation, with its resource's heading."""
    for make in _RESOURCES:
        resource = make(services)
        for route in resource.routes():
            yield resource.tag, route


def product_version() -> str:
    """The installed version; `0` in a tree that is not installed."""
    try:
        return version("parley")
    except PackageNotFoundError:
        return "0"
