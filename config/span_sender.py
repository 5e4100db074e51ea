"""Sends spans to a collector: OTLP over HTTP, in JSON, from a thread of its own.

The law: `add` never waits and never fails; at most `queue_max` spans are kept, what comes beyond is
dropped, and a batch that the collector does not take is dropped too. That is told once, and again
after it has worked in between.
"""

from __future__ import annotations

import threading
import urllib.request
from collections import deque
from typing import Any, Final
from urllib.error import URLError

import msgspec
import structlog

from config.span_options import SpanOptions

# Some hundred KiB; collectors take 4 MiB by default.
BATCH_MAX: Final = 512
# Of the collector's answer, which nobody reads.
_ANSWER_BYTES_MAX: Final = 65_536
_encode: Final = msgspec.json.Encoder().encode


class SpanSender:
    """The queue and its thread. `start` once, `stop` once; `add` from any thread."""

    def __init__(self, options: SpanOptions, resource: list[dict[str, Any]]) -> None:
        self._options = options
        self._resource = {"attributes": resource}
        self._queue: deque[dict[str, Any]] = deque()
        self._wake = threading.Event()
        self._is_stopping = False
        self._is_failing = False
        self._log = structlog.get_logger("spans")
        # A daemon: one that hangs in a send does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="parley-spans", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send what is kept, and wait for the thread."""
        self._is_stopping = True
        self._wake.set()
        self._thread.join()

    def add(self, span: dict[str, Any]) -> None:
        """Keep a span, or drop it if too many are kept."""
        if len(self._queue) < self._options.queue_max:
            self._queue.append(span)
            if len(self._queue) == BATCH_MAX:
                self._wake.set()

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait(self._options.delay)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._queue and self._send_batch():
            pass

    def _send_batch(self) -> bool:
        spans = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MAX))]
        scope = {"scope": {"name": "parley"}, "spans": spans}
        body = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scope]}]}
        request = urllib.request.Request(
            self._options.url,
            data=_encode(body),
            headers={"Content-Type": "application/json", **self._options.headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=self._options.timeout) as answer:
                answer.read(_ANSWER_BYTES_MAX)
        except (URLError, OSError, ValueError) as error:
            if not self._is_failing:
                self._log.warning("traces are not taken", reason=str(error), dropped=len(spans))
            self._is_failing = True
            return False
        self._is_failing = False
        return True
