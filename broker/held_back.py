"""Frames that wait for company: outboxes whose answer is to share a send with its event.

An answer and the event that it is about come from Redis by two connections, one soon after the
other. The sender's answer waits in its outbox for the next frame, which is that event nearly
always, and is sent alone when `COMPANY_SECONDS` have passed twice.

The rule: synchronous but for the task, which sleeps while nobody waits.
"""

from __future__ import annotations

from typing import Protocol

import trio

from config import wire_limits


class Holding(Protocol):
    """An outbox that may hold frames back."""

    def send_held(self) -> None:
        """Send what is still held."""
        ...


class HeldBack:
    """The outboxes of one listener that hold something, or did a moment ago."""

    def __init__(self) -> None:
        self._young: list[Holding] = []
        self._old: list[Holding] = []
        self._parked: trio.lowlevel.Task | None = None

    def add(self, outbox: Holding) -> None:
        """The outbox has begun to hold something back."""
        self._young.append(outbox)
        if self._parked is not None:
            task, self._parked = self._parked, None
            trio.lowlevel.reschedule(task)

    async def run(self) -> None:
        """Let them send when they have waited for long enough, until cancelled."""
        while True:
            if not self._young and not self._old:
                self._parked = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._unpark)
            await trio.sleep(wire_limits.COMPANY_SECONDS)
            self._grow_older()

    def _grow_older(self) -> None:
        # Not in the task, whose variable would keep the last of them alive.
        for outbox in self._old:
            outbox.send_held()
        self._old, self._young = self._young, []

    def _unpark(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED
