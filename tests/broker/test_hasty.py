"""Who sends much at once waits in line, so that a round of the event loop stays short."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import trio

from config.wire_limits import RECEIVE_BYTES
from tests.broker.wires import Recorder, RecordingApplication, connect, serve, text
from tests.support.waiting import wait_until

FLOODS = 12
FRAME = text("x" * 40)
FRAMES = 2000


class _Rounds(trio.abc.Instrument):
    """Counts the rounds of the event loop."""

    def __init__(self) -> None:
        self.number = 0

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1


async def test_of_many_that_flood_one_is_read_in_a_round() -> None:
    """Promise 4: an honest frame needs some rounds, and each is as long as one flood's turn."""
    rounds = _Rounds()
    handled: Counter[int] = Counter()

    def note(_recorder: Recorder, _text: str) -> None:
        handled[rounds.number] += 1

    application = RecordingApplication(note)
    trio.lowlevel.add_instrument(rounds)
    try:
        async with serve(application) as listener, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(listener)) for _ in range(FLOODS)]
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(client.send, FRAME * FRAMES)
            await wait_until(lambda: sum(handled.values()) == FLOODS * FRAMES, deadline=30)
    finally:
        trio.lowlevel.remove_instrument(rounds)
    # In the first rounds each may have had one turn, from then on it is one of them in each.
    turn = RECEIVE_BYTES / len(FRAME) + 1
    assert max(handled.values()) <= FLOODS * turn
    assert sum(count > 2 * turn for count in handled.values()) <= FLOODS
    assert [len(recorder.texts) for recorder in application.recorders] == [FRAMES] * FLOODS
