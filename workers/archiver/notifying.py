"""Tells members of new messages, behind the archive: the publish path pays nothing for it.

The archiver notes what it has committed; one task tells it, room by room, the newest of a room at
most once in NOTIFY_INTERVAL. While it is slower than that, messages of a room that waits are told
together, so it never falls behind; it holds at most NOTIFIED_ROOMS_MAX rooms. What is lost by an
outage is told with the room's next message.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
import structlog
import trio

from broker.domain.notifying import NewMessage, Notifier, new_message
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
            for key, messages in waiting.items():
                if not messages:
                    continue
                try:
                    await self._notifier.tell_messages(key, list(messages.values()))
                    self._lag.observe(time.monotonic() - since)
                except (StorageUnavailable, StorageRefused) as error:
                    self._log.info("members were not notified", room=key, reason=error.reason)
                except Exception:
                    # A barrier: a hint that can not be told must not stop the archive beside it.
                    self._log.exception("members were not notified", room=key)
            await trio.sleep(NOTIFY_INTERVAL)
