"""Tells members of new messages, behind the archive: the publish path pays nothing for it.

The archiver notes what it has committed; one task tells it, some rooms at once, the newest of a
room at most once in NOTIFY_INTERVAL. While it is slower than that, messages of a room that waits
are told together, so it never falls behind; it holds at most NOTIFIED_ROOMS_MAX rooms. What is
lost by an outage is told with the rooms' next messages.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
import structlog
import trio

from broker.domain.notifying import NewMessage, Notifier, new_message
from config.archive_limits import NOTIFIED_ROOMS_AT_ONCE
from config.limits import NOTIFIED_MESSAGES_MAX, NOTIFIED_ROOMS_MAX, NOTIFY_INTERVAL
from config.metrics import Metrics
from storage.errors import StorageRefused, StorageUnavailable
from storage.redis.entries import Entry


class _Deleted(msgspec.Struct, gc=False):
    seq: int


class MessageNotices:
    """Messages that are to be told, by room. `note` is synchronous; `run` once."""

    def __init__(self, notifier: Notifier, metrics: Metrics) -> None:
        self._notifier = notifier
        self._lag = metrics.notification_lag_seconds
        self._waits_since = 0.0
        self._waiting: dict[str, dict[int, NewMessage]] = {}
        self._wake = trio.Event()
        self._log = structlog.get_logger("archiver")
        self._decode_deleted = msgspec.json.Decoder(_Deleted).decode

    def note(self, entries: Iterable[Entry]) -> None:
        """Take over what has been committed, in order; a deleted message is not told."""
        for entry in entries:
            try:
                if entry.event == "message.created":
                    self._note_created(entry)
                elif entry.event == "message.deleted" and entry.room in self._waiting:
                    self._waiting[entry.room].pop(self._decode_deleted(entry.data).seq, None)
            except (msgspec.DecodeError, ValueError, RecursionError):
                # What cannot be read has become a dead letter, with its alarm.
                continue
        if self._waiting:
            if not self._wake.is_set():
                self._waits_since = time.monotonic()
            self._wake.set()

    def _note_created(self, entry: Entry) -> None:
        messages = self._waiting.get(entry.room)
        if messages is None:
            if len(self._waiting) >= NOTIFIED_ROOMS_MAX:
                return
            messages = self._waiting[entry.room] = {}
        messages[entry.seq] = new_message(entry)
        if len(messages) > NOTIFIED_MESSAGES_MAX:
            del messages[next(iter(messages))]

    async def run(self) -> None:
        """Tell what waits, until cancelled; outlives any outage."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            waiting, self._waiting = self._waiting, {}
            since = self._waits_since
            told = [(key, list(messages.values())) for key, messages in waiting.items() if messages]
            for first in range(0, len(told), NOTIFIED_ROOMS_AT_ONCE):
                await self._tell(told[first : first + NOTIFIED_ROOMS_AT_ONCE], since)
            await trio.sleep(NOTIFY_INTERVAL)

    async def _tell(self, told: list[tuple[str, list[NewMessage]]], since: float) -> None:
        try:
            await self._notifier.tell_messages(told)
            for _ in told:
                self._lag.observe(time.monotonic() - since)
        except StorageUnavailable as error:
            self._log.info("members were not notified", rooms=len(told), reason=error.reason)
        except Exception as error:
            # A barrier: a hint that can not be told must not stop the archive beside it, nor the
            # hints of other rooms.
            if len(told) > 1:
                for one in told:
                    await self._tell([one], since)
            elif isinstance(error, StorageRefused):
                self._log.info("members were not notified", room=told[0][0], reason=error.reason)
            else:
                self._log.exception("members were not notified", room=told[0][0])
