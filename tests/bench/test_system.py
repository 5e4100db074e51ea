"""Scenarios that measure more than live messages, small, in a real system."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import pytest

from bench import archive, checks, filling, history, servers, storm
from bench.archive import ArchiveOptions
from bench.book import Book, Place
from bench.database import open_database
from bench.dialect import content_of
from bench.history import HistoryOptions
from bench.scenarios import Scenario, run_scenario
from bench.stage import Stage
from bench.storm import StormOptions
from bench.target import Target


def measure(scenario: Scenario) -> dict[str, dict[str, float]]:
    """One round; the details of each contender, its figure among them."""
    outcome = run_scenario(scenario, 1, lambda _: None)
    assert [one.target for one in outcome.rounds] == list(scenario.contenders)
    assert all(one.figure > 0 for one in outcome.rounds)
    assert all(bar.value is not None for bar in outcome.bars)
    return {one.target: {"figure": one.figure, **one.details} for one in outcome.rounds}


def joined(stage: Stage, scenario: Scenario) -> Scenario:
    """The same with the system's own broker instead of one of its own."""
    system, api = stage.need_system()
    opener = partial(servers.join_broker, system, api, "broker")
    return replace(scenario, contenders={"broker": opener})


def test_a_storm_brings_everybody_back_with_what_they_missed(stage: Stage):
    sizes = StormOptions(connections=60, missed=3, at_once=20)
    found = measure(joined(stage, storm.scenario(stage, sizes)))
    assert found["broker"]["resumes"] == 60


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events[:-1],
        lambda events: [*events, events[-1]],
        lambda events: events[::-1],
        lambda events: [{**events[0], "data": {"content": "else"}}, *events[1:]],
    ],
    ids=["lost", "doubled", "reordered", "changed"],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_resume_that_is_not_exactly_what_was_missed_is_found(change, is_first: bool):
    room = storm.Room(name="room", epoch="e", offset=4, written=["a", "b"])
    events = [{"offset": 5, "data": {"content": "a"}}, {"offset": 6, "data": {"content": "b"}}]
    if not is_first:
        room.check("first", storm_answer(events))
        room.check("second", storm_answer(events))
    with pytest.raises(checks.CheckFailed):
        room.check("other", storm_answer(change(events)))


def test_a_resume_that_was_not_recovered_is_found():
    room = storm.Room(name="room", epoch="e", offset=4, written=[])
    with pytest.raises(checks.CheckFailed, match="not recovered"):
        room.check("ann", storm_answer([]).replace(b"true", b"false"))


def storm_answer(events: object) -> bytes:
    result = {"recovered": True, "events": events, "messages": []}
    return json.dumps({"type": "reply", "id": 1, "result": result}, separators=(",", ":")).encode()


def test_a_backlog_is_archived_and_compared_with_what_was_published(stage: Stage):
    system, _ = stage.need_system()
    stage = replace(stage, system={**system, "SYSTEM_PROCESS": str(os.getpid())})
    sizes = ArchiveOptions(events=3000, rooms=6, present=2000)
    found = measure(archive.scenario(stage, sizes))
    assert set(found) == {"archiver", "archiver-2000-rows"}
    assert found["archiver"]["table_bytes_per_message"] > 64
    assert found["archiver"]["postgresql_us_per_event"] > 0


def test_what_is_missing_or_changed_in_postgresql_is_found(stage: Stage):
    system, _ = stage.need_system()
    with open_database(system["DATABASE_URL"]) as database:
        rooms = filling.fill_messages(database, stage.run, 20, stage.say, each=10)
        written = {
            room: [content_of(f"{stage.run}-writer", number) for number in range(1, 11)]
            for room in rooms
        }
        backlog = archive.Backlog(prefix=stage.run, rooms=rooms, writer="w", written=written)
        backlog.verify(database)
        backlog.seq = 0
        database.rows(
            f"UPDATE messages SET content = 'else' WHERE seq = 5 AND room_pk = "
            f"(SELECT pk FROM rooms WHERE id = '{rooms[1]}')"
        )
        with pytest.raises(checks.CheckFailed, match=rooms[1]):
            backlog.verify(database)


@pytest.fixture
def library(stage: Stage) -> list[Callable[[Stage], Scenario]]:
    """The history scenarios, small: cold, hot, unchanged, socket, socket-hot."""
    return history.scenarios_of(
        HistoryOptions(messages=120, each=60, connections=2, seconds=0.2, warm_up=0.05)
    )


def test_pages_are_counted_over_rest_and_the_websocket(stage: Stage, library):
    system, api = stage.need_system()
    parts = urlsplit(system["API_URL"])

    @contextmanager
    def open_api() -> Iterator[Target]:
        with servers.join_broker(system, api, "api") as broker:
            target = replace(broker, host=parts.hostname or "", port=parts.port or 0)
            yield history.with_pages(target, system["API_KEY"])

    for build in library:
        scenario = build(stage)
        if scenario.name in {"history-socket", "history-socket-hot"}:
            found = measure(joined(stage, scenario))
            assert found["broker"]["pages"] > 0
        else:
            contenders = {**scenario.contenders, "api": open_api}
            if scenario.name != "history-hot":
                del contenders[history.FLOOR]
            scenario = replace(scenario, contenders=contenders)
            outcome = run_scenario(scenario, 1, lambda _: None)
            assert all(one.details["pages"] > 0 for one in outcome.rounds)


@pytest.mark.parametrize(
    ("first", "last", "writer", "words"),
    [
        (11, 60, "run-writer", None),
        (11, 59, "run-writer", "got the seqs"),
        (10, 60, "run-writer", "got the seqs"),
        (11, 60, "somebody", "not what was written"),
    ],
)
def test_a_page_is_held_to_what_was_asked_for(first: int, last: int, writer: str, words):
    book = Book("run", ["room"], 60)
    items = [{"seq": seq, "content": content_of(writer, seq)} for seq in range(first, last + 1)]
    place, body = Place(room="room", before=61), json.dumps({"items": items}).encode()
    if words is None:
        book.check(place, body)
    else:
        with pytest.raises(checks.CheckFailed, match=words):
            book.check(place, body)
