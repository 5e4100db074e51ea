"""Moves the archive stream of every partition into PostgreSQL (mechanism: archive in order).

One task a partition: wait until it has entries, collect for ARCHIVE_INTERVAL (longer while it is
busy), then flush batch by batch. A flush is: open a transaction, take the partition's lock, only
then read the batch from Redis, write it, commit, and only then tell Redis to forget exactly these
entries. Every point at which it may be killed is a repeat that changes nothing. Any number of
archivers may run: who finds a partition locked leaves it to the other and looks again a second
later.

While a server is away the entries stay where they are and each partition tries again with
backoff; no error of one partition stops another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from config.metrics import Metrics
from storage.errors import StorageUnavailable
from storage.postgres.archive import BatchResult, lock_partition, write_batch
from storage.postgres.archive_plan import Incoming
from storage.postgres.pool import Database
from storage.redis.archive import READ_CHUNK, ArchiveStore
from storage.redis.entries import Entry

# Flushes under way at once in one process, each with a connection: so many that some of them are at
# PostgreSQL while this process reads and plans for the others, with its one thread at a time. (With
# four PostgreSQL had nothing to do for a sixth of the time.) Few enough that a burst leaves it
# connections for others.
FLUSHES_MAX: Final = 8
# A partition whose last batch was that large is collected so many times longer: much of a batch's
# work is done once a room, so a busy room costs less, and is archived a little later.
BUSY_EVENTS: Final = 20
BUSY_INTERVALS: Final = 3
# Another archiver has the partition: look again after about this long. It is also how long a dead
# archiver's partition waits.
LOCKED_DELAY: Final = 1.0
# First and longest pause after a failure; jittered.
FAILURE_DELAY_MIN: Final = 0.1
FAILURE_DELAY_MAX: Final = 5.0
# A life that changes more often than this between commit and acknowledgement will be acknowledged
# by the next flush, whose entries are repeats.
ACKNOWLEDGE_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiverOptions:
    """ARCHIVE_BATCH (events) and ARCHIVE_INTERVAL (seconds)."""

    batch: int
    interval: float


class Archiver:
    """Flushes all partitions until stopped. Built once, run once."""

    def __init__(
        self,
        *,
        database: Database,
        store: ArchiveStore,
        options: ArchiverOptions,
        metrics: Metrics,
        note: Callable[[Iterable[Entry]], None] | None = None,
        witness: Callable[[int, Iterable[Entry]], None] | None = None,
    ) -> None:
        """`note` is told of what has been committed, `witness` of what has been read; in order,
        and at times twice."""
        self._database = database
        self._store = store
        self._options = options
        self._metrics = metrics
        self._note = note
        self._witness = witness
        self._log = structlog.get_logger("archiver")
        self._stopping = trio.Event()
        self._due = [trio.Event() for _ in range(store.partitions)]
        self._flushes = trio.CapacityLimiter(FLUSHES_MAX)
        self.is_running = False

    def stop(self) -> None:
        """Finish the batches in hand and begin no others; `run` returns soon after."""
        self._stopping.set()
        for due in self._due:
            due.set()

    def mark_due(self, partition: int) -> None:
        """Say that the partition has entries."""
        self._due[partition].set()

    @property
    def idle_partitions(self) -> list[int]:
        """Partitions that nobody has marked due since they were last emptied."""
        return [number for number, due in enumerate(self._due) if not due.is_set()]

    async def run(self) -> None:
        """Serve all partitions until `stop`. Cancelling it rolls back the batches in hand."""
        self.is_running = True
        async with trio.open_nursery() as nursery:
            for partition in range(self._store.partitions):
                nursery.start_soon(self._serve_partition, partition)

    async def flush(self, partition: int) -> int | None:
        """Write and acknowledge one batch; the number of its events, None if another has the lock.

        Raises StorageUnavailable and StorageRefused: then nothing is lost, flush again.
        """
        began = time.monotonic()
        life: str | None = self._store.life_of(partition)
        async with self._database.open_transaction() as transaction:
            if not await transaction.run(lambda c: lock_partition(c, partition)):
                return None
            batch = await self._store.read_batch(partition, self._options.batch)
            if not batch:
                return 0
            if self._witness is not None:
                self._witness(partition, (item.entry for item in batch))
            if self._store.life_of(partition) != life:
                life = None
            events = [Incoming(item.raw, item.entry) for item in batch]
            result = await transaction.run(lambda c: write_batch(c, events))
        self._report(partition, result, len(batch), time.monotonic() - began)
        if self._note is not None:
            self._note(item.entry for item in batch)
        await self._acknowledge(
            partition,
            life,
            [item.id for item in batch],
            sum(len(item.raw) for item in batch),
            result.rooms,
        )
        return len(batch)

    async def _serve_partition(self, partition: int) -> None:
        pauses = _Pauses()
        is_busy = False
        while not self._stopping.is_set():
            await self._due[partition].wait()
            await self._pause(self._options.interval * (BUSY_INTERVALS if is_busy else 1))
            is_busy = False
            while not self._stopping.is_set():
                try:
                    count = await self._flush_in_turn(partition)
                except Exception as error:
                    # The barrier between partitions, whatever it was: nothing is acknowledged
                    # that was not committed, so trying again is always safe.
                    self._note_failure(partition, error)
                    await self._pause(pauses.next())
                    continue
                pauses.reset()
                is_busy = is_busy or (count or 0) >= BUSY_EVENTS
                if count is None:
                    await self._pause(LOCKED_DELAY * (0.5 + random.random()))
                elif count < min(self._options.batch, READ_CHUNK):
                    # Less than what is read at once: that was everything.
                    break
            if not self._stopping.is_set():
                self._due[partition] = trio.Event()

    async def _flush_in_turn(self, partition: int) -> int | None:
        async with self._flushes:
            if self._stopping.is_set():
                return 0
            return await self.flush(partition)

    async def _acknowledge(
        self,
        partition: int,
        life: str | None,
        ids: list[bytes],
        total_bytes: int,
        rooms: list[tuple[str, int]],
    ) -> None:
        for _attempt in range(ACKNOWLEDGE_ATTEMPTS):
            done = await self._store.mark_archived(
                partition, ids=ids, total_bytes=total_bytes, rooms=rooms, life=life
            )
            if done:
                return
            await self._store.refence(partition)
            life = None

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond `stop`."""
        with trio.move_on_after(seconds):
            await self._stopping.wait()

    def _report(self, partition: int, result: BatchResult, count: int, seconds: float) -> None:
        metrics = self._metrics
        metrics.archive_batches.labels("done").inc()
        metrics.archived_events.inc(result.accepted)
        metrics.archive_batch_events.observe(count)
        metrics.archive_batch_seconds.observe(seconds)
        if metrics.spans is not None:
            told = {"parley.partition": partition, "parley.events": count}
            metrics.spans.record("archive flush", seconds, told, kind="consumer")
        for letter in result.dead:
            metrics.dead_letters.inc()
            entry = letter.incoming.entry
            self._log.error(
                "an event was put aside as a dead letter",
                partition=partition,
                room=entry.room,
                offset=entry.offset,
                epoch=entry.epoch,
                reason=letter.reason,
            )
        for room, expected, found in result.gaps:
            metrics.archive_missing_events.inc(found - expected)
            self._log.error(
                "events never reached the archive stream",
                partition=partition,
                room=room,
                expected=expected,
                found=found,
            )

    def _note_failure(self, partition: int, error: Exception) -> None:
        self._metrics.archive_batches.labels("failed").inc()
        sentence = "a batch could not be archived yet"
        if isinstance(error, StorageUnavailable):
            self._log.warning(
                sentence, partition=partition, backend=error.backend, reason=error.reason
            )
        else:
            # Not the values of a row, which the batch would have put aside: a missing migration,
            # a right, a fault of ours. Waiting is safe, but somebody has to act.
            self._log.error(sentence, partition=partition, exc_info=error)


class _Pauses:
    """Growing, jittered pauses."""

    def __init__(self) -> None:
        self._next = FAILURE_DELAY_MIN

    def next(self) -> float:
        """The next pause in seconds; each is up to twice the one before."""
        pause = self._next * (0.5 + random.random())
        self._next = min(2 * self._next, FAILURE_DELAY_MAX)
        return pause

    def reset(self) -> None:
        """It went well: begin again with the shortest."""
        self._next = FAILURE_DELAY_MIN
