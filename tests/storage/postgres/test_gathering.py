"""Questions that share a statement: each is answered by what is true after it was asked."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

import outcome
import pytest
import trio
import trio.testing

from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.access import gather_access
from storage.postgres.gathering import GATHERED_MAX, Gatherer
from storage.postgres.pool import Database, open_database
from storage.postgres.unread import UnreadAsked, count_archived_of, gather_standing
from storage.postgres.users import fetch_state
from tests.support.waiting import wait_until

LOCK = 4711


class Statements:
    """Statements that end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[list[str]] = []
        self.cancelled: list[int] = []
        self._ends: list[Callable[[outcome.Outcome[Any]], None]] = []

    async def statement(self, _connection: Any, asked: Sequence[str]) -> Sequence[str]:
        """What is asked."""
        return list(asked)

    def submit(
        self,
        work: Callable[[Any], Awaitable[Any]],
        on_done: Callable[[outcome.Outcome[Any]], None],
    ) -> Callable[[], None]:
        number = len(self.begun)
        with pytest.raises(StopIteration) as done:
            cast("Coroutine[Any, Any, Any]", work(None)).send(None)
        self.begun.append(done.value.value)
        self._ends.append(on_done)
        return lambda: self.cancelled.append(number)

    def end(self, number: int) -> None:
        self._ends[number](outcome.Value([f"{asked}!" for asked in self.begun[number]]))

    def fail(self, number: int, error: Exception) -> None:
        self._ends[number](outcome.Error(error))


class Callers:
    """Tasks that ask, and what became of each."""

    def __init__(self, nursery: trio.Nursery, gatherer: Gatherer[str, str]) -> None:
        self._nursery = nursery
        self._gatherer = gatherer
        self.scopes: dict[str, trio.CancelScope] = {}
        self.answers: dict[str, str | Exception] = {}

    async def ask(self, *names: str) -> None:
        """Let each begin to ask, in this order."""
        for name in names:
            self.scopes[name] = trio.CancelScope()
            self._nursery.start_soon(self._ask, name)
            await trio.testing.wait_all_tasks_blocked()

    async def _ask(self, name: str) -> None:
        with self.scopes[name]:
            try:
                self.answers[name] = await self._gatherer.ask(name)
            except (StorageUnavailable, StorageRefused) as error:
                self.answers[name] = error


@pytest.fixture
def statements() -> Statements:
    return Statements()


@pytest.fixture
async def callers(nursery: trio.Nursery, statements: Statements) -> Callers:
    return Callers(nursery, Gatherer(statements.submit, statements.statement))


async def test_nobody_joins_a_statement_that_has_begun(statements: Statements, callers: Callers):
    await callers.ask("a", "b", "c")
    assert statements.begun == [["a"]]
    statements.end(0)
    assert statements.begun == [["a"], ["b", "c"]]
    await callers.ask("d")
    statements.end(1)
    assert statements.begun == [["a"], ["b", "c"], ["d"]]
    statements.end(2)
    await trio.testing.wait_all_tasks_blocked()
    assert callers.answers == {name: f"{name}!" for name in "abcd"}
    assert len(statements.begun) == 3


async def test_who_asks_in_one_turn_of_the_loop_shares_a_statement(
    nursery: trio.Nursery, statements: Statements
):
    gatherer = Gatherer(statements.submit, statements.statement)
    for name in "abcde":
        nursery.start_soon(gatherer.ask, name)
    await trio.testing.wait_all_tasks_blocked()
    assert [sorted(asked) for asked in statements.begun] == [list("abcde")]
    statements.end(0)


async def test_a_full_statement_does_not_wait_for_the_one_under_way(
    statements: Statements, callers: Callers
):
    names = [f"n{number}" for number in range(2 * GATHERED_MAX)]
    await callers.ask(*names)
    assert statements.begun == [names[:1], names[1 : GATHERED_MAX + 1]]
    statements.end(1)
    statements.end(0)
    assert statements.begun[2] == names[GATHERED_MAX + 1 :]
    statements.end(2)
    await trio.testing.wait_all_tasks_blocked()
    assert callers.answers == {name: f"{name}!" for name in names}


async def test_who_is_cancelled_leaves_the_others_alone(statements: Statements, callers: Callers):
    await callers.ask("a", "b", "c", "d")
    callers.scopes["b"].cancel()
    await trio.testing.wait_all_tasks_blocked()
    statements.end(0)
    assert statements.begun[1] == ["c", "d"]
    callers.scopes["c"].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert statements.cancelled == []
    statements.end(1)
    await trio.testing.wait_all_tasks_blocked()
    assert callers.answers == {"a": "a!", "d": "d!"}


async def test_the_last_one_takes_the_statement_along(statements: Statements, callers: Callers):
    await callers.ask("a", "b")
    callers.scopes["a"].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert statements.cancelled == [0]
    statements.fail(0, StorageUnavailable("postgres"))
    assert statements.begun[1] == ["b"]
    statements.end(1)
    await trio.testing.wait_all_tasks_blocked()
    assert callers.answers == {"b": "b!"}


async def test_each_gets_its_own_copy_of_the_error(statements: Statements, callers: Callers):
    await callers.ask("a", "b", "c")
    statements.end(0)
    statements.fail(1, StorageUnavailable("postgres", "not_done", "gone"))
    await trio.testing.wait_all_tasks_blocked()
    found = [callers.answers[name] for name in "bc"]
    assert found[0] is not found[1]
    for error in found:
        assert isinstance(error, StorageUnavailable)
        assert (error.backend, error.outcome, error.reason) == ("postgres", "not_done", "gone")
    await callers.ask("d")
    assert statements.begun[2] == ["d"]
    statements.end(2)


async def test_what_is_refused_is_asked_for_alone(statements: Statements, callers: Callers):
    await callers.ask("a", "b", "c")
    statements.end(0)
    statements.fail(1, StorageRefused("postgres", "one of them"))
    assert statements.begun[2:] == [["b"], ["c"]]
    statements.fail(2, StorageRefused("postgres", "this one"))
    statements.end(3)
    await trio.testing.wait_all_tasks_blocked()
    assert str(callers.answers["b"]) == "postgres: this one"
    assert callers.answers["c"] == "c!"


async def _read_settings(connection: Any, asked: Sequence[str]) -> list[str | None]:
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", LOCK)
    rows = dict(await connection.fetch("SELECT name, value FROM settings"))
    return [rows.get(name) for name in asked]


async def test_what_was_written_before_a_question_is_in_its_answer(database: Database):
    """The statement under way when the question came may be older than what was written."""
    await database.execute("INSERT INTO settings VALUES ('a', 'old'), ('b', 'old')")
    answers: dict[str, str | None] = {}

    async def ask(name: str) -> None:
        answers[name] = await database.gather(_read_settings, name)

    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with trio.open_nursery() as nursery, database.open_transaction() as held:
        await held.run(lambda c: c.execute("SELECT pg_advisory_xact_lock($1)", LOCK))
        nursery.start_soon(ask, "a")
        await wait_until(lambda: database.fetchval(waiting), what="a's statement waits")
        await database.execute("UPDATE settings SET value = 'new'")
        nursery.start_soon(ask, "b")
        nursery.start_soon(ask, "c")
        await trio.testing.wait_all_tasks_blocked()
        assert not answers
    assert answers["b"] == "new"
    assert answers["c"] is None


async def test_many_users_and_rooms_are_answered_each_by_itself(database: Database):
    await database.execute(
        "INSERT INTO users (project, id, status) "
        "SELECT 'p' || n % 2, 'u' || n, CASE WHEN n % 3 = 0 THEN 'banned' ELSE 'active' END "
        "FROM generate_series(0, 99) n"
    )
    await database.execute(
        "INSERT INTO rooms (project, id, kind) SELECT 'p' || n % 2, 'r' || n, 'group' "
        "FROM generate_series(0, 99) n"
    )
    await database.execute(
        "INSERT INTO members (room_pk, user_id, project, role) SELECT pk, 'u5', project, 'admin' "
        "FROM rooms WHERE id IN ('r5', 'r7')"
    )
    states: dict[int, str | None] = {}
    roles: dict[int, str | None] = {}

    async def ask(number: int) -> None:
        state = await fetch_state(database, f"p{number % 2}", f"u{number}")
        states[number] = None if state is None else state.status
        row = await gather_access(
            database, f"p{number % 2}", f"r{number}", "u5" if number % 10 == 5 else None
        )
        roles[number] = None if row is None else (row["role"] or "none")

    async with trio.open_nursery() as nursery:
        for number in range(120):
            nursery.start_soon(ask, number)
    for number in range(120):
        is_there = number < 100
        assert states[number] == (("active", "banned")[number % 3 == 0] if is_there else None)
        assert roles[number] == (("none", "admin")[number == 5] if is_there else None)


async def test_who_is_counted_in_one_statement_gets_the_rights_and_the_count_of_two(
    database: Database,
):
    await database.execute(
        "INSERT INTO rooms (project, id, kind, seq, archived_offset, version, deleted_at) "
        "SELECT 'p', 'r' || n, CASE n WHEN 1 THEN 'group' ELSE 'public' END, 40, 50 + n, n, "
        "CASE n WHEN 4 THEN now() END FROM generate_series(1, 4) n"
    )
    await database.execute(
        "INSERT INTO members (room_pk, user_id, project, role, read_seq) "
        "SELECT pk, 'u' || n, 'p', 'member', 10 * n FROM rooms, generate_series(1, 3) n "
        "WHERE id <> 'r3'"
    )
    await database.execute(
        "INSERT INTO bans (room_pk, user_id) SELECT pk, 'u9' FROM rooms WHERE id = 'r2'"
    )
    await database.execute(
        "INSERT INTO messages (room_pk, seq, id, sender, kind, deleted_at, created_at, "
        "event_offset, last_offset) "
        "SELECT pk, n, gen_random_uuid(), CASE WHEN n % 7 = 0 THEN NULL ELSE 'u' || n % 4 END, "
        "CASE WHEN n % 5 = 0 THEN 'system' ELSE 'text' END, CASE WHEN n % 6 = 0 THEN now() END, "
        "now(), n, n FROM rooms, generate_series(1, 40) n"
    )
    counts: list[int] = []

    async def compare(room: str, user: str) -> None:
        row, archived = await gather_standing(database, "p", room, user)
        expected = await gather_access(database, "p", room, user)
        if expected is None:
            assert row is None
            assert archived is None
            return
        standing = {name: value for name, value in expected.items() if name != "place"}
        assert standing == {name: row[name] for name in standing}
        asked = UnreadAsked(expected["pk"], user)
        assert archived == await count_archived_of(database, asked)
        if archived is not None:
            counts.append(archived.unread)

    async with trio.open_nursery() as nursery:
        for room in ("r1", "r2", "r3", "r4", "none"):
            for user in ("u1", "u2", "u3", "u9", "nobody"):
                nursery.start_soon(compare, room, user)
    assert len(counts) == 9
    assert len(set(counts)) == 3
    assert min(counts) > 0


async def test_a_value_that_postgres_refuses_is_one_callers_fault(database: Database):
    await database.execute("INSERT INTO users (project, id) VALUES ('p', 'good')")
    refused: list[str] = []
    found: list[str] = []

    async def ask(user: str) -> None:
        try:
            state = await fetch_state(database, "p", user)
        except StorageRefused:
            refused.append(user)
        else:
            found.append("" if state is None else state.status)

    async with trio.open_nursery() as nursery:
        for user in ("good", "bad\0", "good", "none", "worse\ud800", "good"):
            nursery.start_soon(ask, user)
    assert sorted(refused) == ["bad\0", "worse\ud800"]
    assert sorted(found) == ["", "active", "active", "active"]


async def test_a_server_that_is_away_is_told_to_all(free_port):
    url = f"postgresql://nobody@127.0.0.1:{free_port}/nothing"
    failed: list[str] = []

    async def ask(database: Database) -> None:
        with pytest.raises(StorageUnavailable) as caught:
            await fetch_state(database, "p", "u")
        failed.append(caught.value.outcome)

    with trio.fail_after(5):
        async with open_database(url) as database, trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask, database)
    assert failed == ["not_done"] * 50
