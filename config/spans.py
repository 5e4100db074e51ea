"""Traces for OpenTelemetry, where the standard OTEL_* variables name a collector.

The rules: without an endpoint nothing runs, and who would record a span finds None. Spans are
recorded when they are over, from times that are measured anyway: REST requests, the publishes that
are timed (one in 16), flushes of the archiver. No span holds what somebody wrote, nor who or where.

Recording is synchronous and waits for nothing: a span goes into a bounded queue, which a thread
sends (`span_sender`). While the collector is away or slow, spans are dropped.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from config.span_options import SpanOptions, read_span_options

if TYPE_CHECKING:
    from config.span_sender import SpanSender

# What is kept is sent at the end; a collector that is away must not hold up a stop.
_FLUSH_DEADLINE: Final = 1.5
_KINDS: Final = {"internal": 1, "server": 2, "consumer": 5}
_FAILED: Final = {"code": 2}
# Of W3C Trace Context: version, trace, parent, flags. Zeros stand for nothing.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)

Value = str | int | float


class Spans:
    """Records spans that are over. Get it from `open_spans`."""

    def __init__(self, options: SpanOptions, sender: SpanSender) -> None:
        self._options = options
        self._sender = sender

    def record(
        self,
        name: str,
        seconds: float,
        attributes: Mapping[str, Value],
        *,
        kind: Literal["internal", "server", "consumer"] = "internal",
        failed: bool = False,
        traceparent: str | None = None,
    ) -> None:
        """A span that ends now and took so long; below the caller's, if it says which that is."""
        parent = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        if not self._is_sampled(parent):
            return
        end = time.time_ns()
        span: dict[str, Any] = {
            "traceId": parent[1] if parent else f"{random.getrandbits(128) or 1:032x}",
            "spanId": f"{random.getrandbits(64) or 1:016x}",
            "name": name,
            "kind": _KINDS[kind],
            "startTimeUnixNano": str(end - int(seconds * 1e9)),
            "endTimeUnixNano": str(end),
            "attributes": encode_attributes(attributes),
        }
        if parent:
            span["parentSpanId"] = parent[2]
        if failed:
            span["status"] = _FAILED
        self._sender.add(span)

    def _is_sampled(self, parent: re.Match[str] | None) -> bool:
        if parent is not None and self._options.follows_parent:
            return bool(int(parent[3], 16) & 1)
        return random.random() < self._options.ratio


@asynccontextmanager
async def open_spans(process: str, environment: Mapping[str, str]) -> AsyncIterator[Spans | None]:
    """Where the process records its spans, None if no collector is named.

    Raises ConfigError for a variable that can not be used.
    """
    options = read_span_options(process, environment)
    if options is None:
        yield None
        return
    from config.span_sender import SpanSender

    sender = SpanSender(options, encode_attributes(options.resource))
    sender.start()
    try:
        yield Spans(options, sender)
    finally:
        with trio.move_on_after(_FLUSH_DEADLINE, shield=True):
            await trio.to_thread.run_sync(sender.stop, abandon_on_cancel=True)


def encode_attributes(attributes: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Attributes as OTLP has them in JSON, where whole numbers are text."""
    return [{"key": key, "value": _encode_value(value)} for key, value in attributes.items()]


def _encode_value(value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"intValue": str(value)}
