"""Pages of 50 messages: cold and hot over REST, `304` for who has them, both over the WebSocket.

Rules: a million messages lie in PostgreSQL before; every page is checked (`bench.book`). The figure
is pages per CPU second of the API or broker; what PostgreSQL uses stands beside it. The floor is
an empty route of the API's own framework (`bench.empty_route`); peers answer the same pages from
the same tables.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

from bench import accounting, checks, figures, floors, servers
from bench.book import PAGE, Book, make_book
from bench.connection import BenchError
from bench.database import find_server, open_database
from bench.paging import run_socket_pages
from bench.scenarios import Opener, Scenario
from bench.stage import Stage
from bench.target import Target
from bench.web import Answer, Callers, Question, get_request

VARIANTS: Final = ("cold", "hot", "unchanged", "socket", "socket-hot")
_OVER_SOCKET: Final = frozenset({"socket", "socket-hot"})
FLOOR: Final = "empty-route"


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """Sizes of the scenario."""

    messages: int = 1_000_000
    each: int = 1000  # in a room
    connections: int = 8
    seconds: float = 5.0
    warm_up: float = 1.0


def page_path(room: str, before: int) -> str:
    """Where Parley's API has a page."""
    return f"/v1/rooms/{room}/messages?before={before}&limit={PAGE}"


def run_web_pages(
    target: Target, book: Book, variant: str, options: HistoryOptions
) -> figures.Round:
    """One turn over REST."""
    if target.page is None:
        raise BenchError(f"{target.name} has no pages")
    callers = Callers(target, options.connections)
    try:
        questions = _questions(target, book, variant, callers)
        callers.ask_until(time.perf_counter() + options.warm_up, questions)
        meter = target.meter()
        before = meter.read()
        count = callers.ask_until(time.perf_counter() + options.seconds, questions)
        usage = accounting.between(before, meter.read())
    finally:
        callers.close()
    return round_of(target, count, usage)


def _questions(
    target: Target, book: Book, variant: str, callers: Callers
) -> Callable[[], Question]:
    assert target.page is not None
    page = target.page
    if variant == "cold":
        draw = book.draws(time.time_ns())

        def ask_another() -> Question:
            place = draw()

            def judge(answer: Answer) -> None:
                _expect(answer, 200)
                if target.checks_content:
                    book.check(place, answer.body)

            return page(place.room, place.before), judge

        return ask_another
    newest = book.newest()
    request = page(newest.room, newest.before)
    first: list[Answer] = []
    callers.ask_one((request, first.append))
    _expect(first[0], 200)
    if target.checks_content:
        book.check(newest, first[0].body)
    if variant == "unchanged" and target.checks_content:
        tag = first[0].headers.get("etag")
        if tag is None:
            raise BenchError(f"{target.name} gives no ETag")
        request = request[:-2] + f"If-None-Match: {tag}\r\n\r\n".encode()
        return lambda: (request, partial(_expect, status=304))
    return lambda: (request, partial(_expect_same, first[0]))


def _expect(answer: Answer, status: int) -> None:
    if answer.status != status:
        raise checks.CheckFailed(f"answered {answer.status}: {answer.body[:300]!r}")


def _expect_same(first: Answer, answer: Answer) -> None:
    _expect(answer, 200)
    if answer.body != first.body:
        raise checks.CheckFailed("the same page is another one now")


def round_of(target: Target, count: int, usage: accounting.Usage) -> figures.Round:
    """What a turn over REST or the WebSocket says."""
    details = {
        "pages": float(count),
        "pages_per_second": count / usage.wall,
        **figures.redis_details(count, count, usage),
    }
    if usage.database_cpu is not None:
        details["postgresql_us_per_page"] = usage.database_cpu / max(count, 1) * 1e6
    return figures.Round(
        target=target.name,
        figure=figures.per_cpu_second(count, usage.server_cpu),
        usage=usage,
        details=details,
        refused=figures.saturation(usage),
    )


@contextmanager
def _open_empty_route(stage: Stage) -> Iterator[Target]:
    command = (sys.executable, "-m", "bench.empty_route")
    with floors.open_floor(**stage.cores, command=command, name=FLOOR) as target:
        request = get_request("127.0.0.1", "/", {})
        yield replace(target, page=lambda room, before: request)


def with_pages(target: Target, key: str) -> Target:
    """An API of the product, with what to ask it for a page."""
    headers = {"X-API-Key": key}
    return replace(
        target,
        page=lambda room, before: get_request(target.host, page_path(room, before), headers),
    )


@contextmanager
def _open_api(stage: Stage) -> Iterator[Target]:
    system, _ = stage.need_system()
    with servers.open_api(system, **stage.cores) as target:
        yield with_pages(target, system["API_KEY"])


def _contenders(stage: Stage, variant: str) -> dict[str, Opener]:
    found: dict[str, Opener] = {"api": partial(_open_api, stage)}
    if stage.options.only != "broker":
        found[FLOOR] = partial(_open_empty_route, stage)
        if variant != "unchanged":
            found |= stage.peer_contenders("history")
    if stage.options.only in found:
        found = {stage.options.only: found[stage.options.only]}
    return found


class _Library:
    """The book, made once a run, when the first scenario needs it."""

    def __init__(self, options: HistoryOptions) -> None:
        self._options = options
        self._books: dict[str, Book] = {}

    def book(self, stage: Stage) -> Book:
        if stage.run not in self._books:
            system, _ = stage.need_system()
            if not stage.is_private:
                raise BenchError("history fills its tables: leave out --env-file")
            with open_database(system["DATABASE_URL"]) as database:
                self._books[stage.run] = make_book(
                    database,
                    f"{stage.run}-book",
                    self._options.messages,
                    stage.say,
                    each=self._options.each,
                )
        return self._books[stage.run]


def scenarios_of(options: HistoryOptions) -> list[Callable[[Stage], Scenario]]:
    """One scenario for each way to get a page."""
    library = _Library(options)
    return [partial(_scenario, variant, options, library) for variant in VARIANTS]


def _scenario(variant: str, options: HistoryOptions, library: _Library, stage: Stage) -> Scenario:
    book = library.book(stage)
    system, _ = stage.need_system()
    database = find_server(int(system["SYSTEM_PROCESS"]))

    def turn(target: Target) -> figures.Round:
        target = replace(target, database_process=database)
        if variant in _OVER_SOCKET:
            count, usage = run_socket_pages(
                target,
                book,
                options.connections,
                options.warm_up,
                options.seconds,
                is_hot=variant == "socket-hot",
            )
            return round_of(target, count, usage)
        return run_web_pages(target, book, variant, options)

    if variant in _OVER_SOCKET:
        contenders = stage.contenders(f"history-{variant}", floors=False)
    else:
        contenders = _contenders(stage, variant)
    return Scenario(
        name=f"history-{variant}",
        unit="pages / server CPU s",
        parameters=asdict(options),
        contenders=contenders,
        turn=turn,
        bars=partial(_bars, variant),
    )


def _bars(variant: str, rounds: Sequence[figures.Round]) -> list[figures.Bar]:
    measured = "broker" if variant in _OVER_SOCKET else "api"
    pages = figures.median(figures.figures_of(rounds, measured))
    share = figures.ratio(rounds, "api", FLOOR)
    if variant == "cold":
        return [figures.Bar(name="pages", value=pages, limit=1000, unit="/ s", at_least=True)]
    if variant in _OVER_SOCKET:
        return [figures.Bar(name="pages", value=pages, limit=5000, unit="/ s", at_least=True)]
    return [figures.Bar(name=f"api / {FLOOR}", value=share, limit=0.85, unit="", at_least=True)]
