"""Who is pinged, who is lost, who is spared. Time is counted by calling `advance`."""

from __future__ import annotations

from collections import Counter

import pytest

from broker.keepalive import LOST_REASON, Keepalive
from tests.broker.wires import PING, RecordingApplication, connect, ended, only, serve
from tests.support.waiting import wait_until


class Peer:
    """A connection as the keepalive sees it."""

    def __init__(self) -> None:
        self.heard_at = 0.0
        self.due_tick = 0
        self.is_paused = False
        self.is_closing = False
        self.unread = False
        self.pings: list[float] = []
        self.ended: tuple[int | None, str] | None = None
        self.keepalive: Keepalive | None = None

    def ping(self) -> None:
        assert self.keepalive is not None
        self.pings.append(self.keepalive.now)

    def has_unread(self) -> bool:
        return self.unread

    def end(self, code: int | None = None, reason: str = "") -> None:
        self.ended = (code, reason)
        self.is_closing = True


def watched(count: int = 1) -> tuple[Keepalive, list[Peer]]:
    keepalive = Keepalive(
        ping_interval=25.0, pong_timeout=8.0, close_timeout=2.0, slow_close_timeout=10.0
    )
    peers = [Peer() for _ in range(count)]
    for peer in peers:
        peer.keepalive = keepalive
        keepalive.watch(peer)
    return keepalive, peers


def run_to_ping(keepalive: Keepalive, peer: Peer) -> None:
    while not peer.pings:
        run_to(keepalive, keepalive.now + keepalive.tick_seconds)


def run_to(keepalive: Keepalive, seconds: float) -> None:
    while keepalive.now < seconds:
        for peer in keepalive.advance():
            keepalive.judge(peer)


def test_a_silent_peer_is_pinged_and_then_lost():
    keepalive, [peer] = watched()
    run_to(keepalive, 12.0)
    assert peer.pings == []
    run_to_ping(keepalive, peer)
    assert 12.5 <= peer.pings[0] <= 27.0
    run_to(keepalive, peer.pings[0] + 7.9)
    assert not peer.is_closing
    run_to(keepalive, peer.pings[0] + 10.0)
    assert peer.ended == (1006, LOST_REASON)
    assert keepalive.lost == 1
    run_to(keepalive, 200.0)
    assert len(peer.pings) == 1


@pytest.mark.parametrize("delay", [0.0, 1.0, 7.0])
def test_any_byte_after_the_ping_is_life(delay):
    """Also one that comes within the tick of the ping."""
    keepalive, [peer] = watched()
    while keepalive.now < 400.0:
        run_to(keepalive, keepalive.now + keepalive.tick_seconds)
        if peer.heard_at < 0 and keepalive.now - peer.pings[-1] >= delay:
            peer.heard_at = keepalive.now
    assert peer.ended is None
    assert 10 <= len(peer.pings) <= 34


def test_a_talking_peer_is_never_pinged():
    keepalive, [peer] = watched()
    for seconds in range(1, 200):
        run_to(keepalive, float(seconds))
        peer.heard_at = keepalive.now
    assert peer.pings == []


def test_a_paused_peer_is_never_judged():
    keepalive, [peer] = watched()
    peer.is_paused = True
    run_to(keepalive, 300.0)
    assert (peer.pings, peer.ended) == ([], None)
    peer.is_paused = False
    run_to(keepalive, 400.0)
    assert peer.ended is not None


def test_a_peer_paused_after_its_ping_is_not_lost():
    keepalive, [peer] = watched()
    run_to_ping(keepalive, peer)
    peer.is_paused = True
    run_to(keepalive, 100.0)
    assert peer.ended is None


def test_unread_bytes_are_life():
    keepalive, [peer] = watched()
    run_to_ping(keepalive, peer)
    peer.unread = True
    run_to(keepalive, 100.0)
    assert peer.ended is None


def test_those_who_came_together_are_not_pinged_together():
    keepalive, peers = watched(2000)
    for seconds in range(1, 120):
        run_to(keepalive, float(seconds))
        for peer in peers:
            if peer.heard_at < 0:
                peer.heard_at = keepalive.now
    ticks = Counter(peer.pings[-1] for peer in peers)
    assert max(ticks.values()) < 2000 / 4


def test_a_forgotten_peer_is_let_go():
    keepalive, [peer] = watched()
    keepalive.forget(peer)
    keepalive.forget(peer)
    run_to(keepalive, 100.0)
    assert (peer.pings, peer.ended) == ([], None)


def test_a_closing_outbox_is_ended_in_time():
    keepalive, [peer] = watched()
    run_to(keepalive, 5.0)
    keepalive.watch_closing(peer)
    run_to(keepalive, 6.5)
    assert peer.ended is None
    run_to(keepalive, 8.5)
    assert peer.ended == (None, "")


def test_a_slow_consumer_has_more_time_to_close():
    keepalive, [slow, quick] = watched(2)
    keepalive.watch_closing(slow, is_slow=True)
    keepalive.watch_closing(quick)
    run_to(keepalive, 9.0)
    assert (slow.ended, quick.ended) == (None, (None, ""))
    run_to(keepalive, 11.5)
    assert slow.ended == (None, "")


async def test_a_client_that_vanishes_without_fin_is_lost():
    """It answers no ping: its process is there, but nobody reads or writes."""
    application = RecordingApplication()
    async with (
        serve(application, ping_interval=0.3, pong_timeout=0.2) as listener,
        connect(listener) as client,
    ):
        recorder = await only(application)
        assert await client.read_frame() == (PING, b"")
        assert await ended(recorder) == 1006
        assert listener.statistics().lost == 1
        await wait_until(lambda: listener.statistics().sockets == 0)


async def test_a_peer_that_the_application_does_not_read_is_not_lost():
    application = RecordingApplication()
    async with (
        serve(application, ping_interval=0.2, pong_timeout=0.1) as listener,
        connect(listener),
        connect(listener) as silent,
    ):
        await wait_until(lambda: len(application.recorders) == 2)
        paused, other = application.recorders
        paused.peer.pause()
        assert await silent.read_frame() == (PING, b"")
        assert await ended(other) == 1006
        assert paused.closed == []
        paused.peer.resume()
        assert await ended(paused) == 1006
