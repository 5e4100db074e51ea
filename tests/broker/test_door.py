"""The door of a node: whoever has been let in is served before others are let in."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.listener import Listener
from broker.refusing import refuse_at_once
from broker.turnstile import Turnstile
from config import limits
from tests.broker.wires import RawClient, RecordingApplication, connect_raw, head, serve
from tests.support.local_broker import LocalBroker, open_broker
from tests.support.waiting import pass_time, wait_until


class Doorway(RecordingApplication):
    """Its handshakes wait for their turn, which the test may have."""

    def __init__(self) -> None:
        super().__init__()
        self.door = Turnstile(lambda: True)

    def turn(self) -> AbstractAsyncContextManager[None]:
        return self.door.turn()


@asynccontextmanager
async def waiting_client(listener: Listener, doorway: Doorway) -> AsyncIterator[RawClient]:
    """Somebody whose request head has been read, and who stands before the door."""
    before = doorway.door.waiting
    async with connect_raw(listener) as client:
        await client.send(head())
        await wait_until(lambda: doorway.door.waiting == before + 1, what="it waits")
        yield client


def refused(listener: Listener, reason: str) -> float | None:
    return listener._metrics.registry.get_sample_value(
        "parley_handshakes_refused_total", {"reason": reason}
    )


async def test_a_handshake_waits_for_its_turn_and_is_done_then():
    doorway = Doorway()
    async with serve(doorway) as listener, AsyncExitStack() as stack:
        async with doorway.turn():
            client = await stack.enter_async_context(waiting_client(listener, doorway))
            assert doorway.recorders == []
        with trio.fail_after(20):
            assert (await client.read_http())[0] == 101
        assert len(doorway.recorders) == 1


async def test_nothing_is_done_for_who_has_gone_meanwhile():
    doorway = Doorway()
    async with serve(doorway) as listener:
        async with doorway.turn(), waiting_client(listener, doorway):
            pass
        await wait_until(lambda: listener.statistics().sockets == 0)
        assert doorway.recorders == []
        assert refused(listener, "gone") == 1


async def test_who_waits_when_the_server_stops_is_answered_503():
    doorway = Doorway()
    async with serve(doorway) as listener, AsyncExitStack() as stack:
        async with doorway.turn():
            client = await stack.enter_async_context(waiting_client(listener, doorway))
            listener.stop_accepting()
        with trio.fail_after(20):
            status, headers, _ = await client.read_http()
        assert (status, headers["retry-after"]) == (503, "5")
        assert doorway.recorders == []
        assert refused(listener, "stopping") == 1


async def test_who_waits_for_too_long_is_answered_503(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "ADMISSION_WAIT_MAX", 0.05)
    doorway = Doorway()
    async with serve(doorway) as listener, AsyncExitStack() as stack:
        async with doorway.turn():
            client = await stack.enter_async_context(waiting_client(listener, doorway))
            await pass_time(0.1)
            doorway.door.tick()
            with trio.fail_after(20):
                assert (await client.read_http())[0] == 503
        assert doorway.recorders == []
        assert refused(listener, "busy") == 1


async def test_when_too_many_come_they_are_refused_where_they_are_accepted():
    """No task and no connection of its own for each: a storm of refusals stays cheap."""
    application = RecordingApplication()
    application.refuses = "Later."
    async with serve(application) as listener:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(head("/v1/connect?token=abc"))
            listener._admit(ours, ("127.0.0.1", 1))
            answer = theirs.recv(4096)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 5\r\n" in answer
            assert answer.endswith(b"Later.\n")
            assert theirs.recv(1) == b""
        assert listener.statistics().sockets == 0
        assert refused(listener, "busy") == 1


@pytest.mark.parametrize(
    "sent", [b"", head()[:-1], b"GET /healthz HTTP/1.1\r\n\r\n", head() + b"\x81"]
)
def test_only_a_whole_request_to_connect_is_refused_at_once(sent: bytes):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(sent)
        assert not refuse_at_once(ours, b"no")
        theirs.sendall(b"more")
        assert ours.recv(4096) == sent + b"more"


def test_nobody_is_answered_who_has_gone():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    assert refuse_at_once(ours, b"no")
    assert ours.fileno() == -1


async def test_it_lets_one_through_at_a_time_while_others_are_behind(
    autojump_clock: MockClock,
) -> None:
    behind = True
    inside: list[int] = []
    leave = [trio.Event() for _ in range(limits.ADMISSIONS_AT_ONCE + 2)]
    door = Turnstile(lambda: behind)

    async def go(number: int) -> None:
        async with door.turn():
            inside.append(number)
            await leave[number].wait()

    async with trio.open_nursery() as nursery:
        for number in range(len(leave)):
            nursery.start_soon(go, number)
            await wait_all_tasks_blocked()
        assert inside == [0]
        leave[0].set()
        await wait_all_tasks_blocked()
        assert inside == [0, 1]
        behind = False
        leave[1].set()
        await wait_all_tasks_blocked()
        assert sorted(inside) == list(range(len(leave)))
        for event in leave:
            event.set()


async def test_a_node_that_is_behind_with_commands_opens_its_door_a_crack(redis_url, database_url):
    """A storm's subscribes come before its handshakes; one at a time still comes in."""
    async with open_broker(redis_url, database_url) as broker:
        await fill_and_empty(broker)


async def test_a_node_looks_after_those_who_wait(
    redis_url, database_url, monkeypatch: pytest.MonkeyPatch
):
    """At its door and before the authentication, each by the node's own clock."""
    monkeypatch.setattr(limits, "ADMISSION_WAIT_MAX", 0.05)
    async with (
        open_broker(redis_url, database_url) as broker,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(broker.application.run)
        for turn in (broker.application.turn, broker.services.turnstile.turn):
            async with AsyncExitStack() as stack:
                for _ in range(limits.ADMISSIONS_AT_ONCE):
                    await stack.enter_async_context(turn())
                with trio.move_on_after(20) as scope, pytest.raises(trio.TooSlowError):
                    async with turn():
                        pass
                assert not scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def fill_and_empty(broker: LocalBroker) -> None:
    application, fairness = broker.application, broker.services.fairness
    finish = trio.Event()
    users = limits.NODE_COMMANDS_AT_ONCE + limits.ADMISSIONS_AT_ONCE + 1

    class Asking:
        is_closed = False

        def __init__(self, user: str) -> None:
            self.channel = user

    async def most_inside() -> int:
        """How many come through at once."""
        inside, leave = 0, trio.Event()

        async def go() -> None:
            nonlocal inside
            async with application.turn():
                inside += 1
                await leave.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(go)
            await wait_until(lambda: inside > 0)
            await pass_time(0.05)
            most = inside
            leave.set()
        return most

    assert await most_inside() == 3
    for number in range(users):
        fairness.add(Asking(f"u{number}"), finish.wait)
    assert await most_inside() == 1
    finish.set()
    await wait_until(lambda: fairness.users_waiting == 0)
    assert await most_inside() == 3
