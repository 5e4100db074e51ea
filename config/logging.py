"""Logs: one line an event on stderr, as JSON or as text, with fields and without secrets.

`configure_logging` is called once by a composition root; everybody else calls
`structlog.get_logger()` and gives fields, never sentences with values in them. Field names:
`connection`, `node`, `room`, `user`, `project`, `partition`. Fields of a whole task are bound by
`structlog.contextvars`. Records of libraries (standard `logging`) take the same way out.

Every line passes `redact_secrets`, after tracebacks have become text: a field whose name says
that it is a secret is blanked, and what looks like a token, a key or a password in an address is
blanked wherever it stands. That is a net, not a licence to log secrets.

What others chose (an id, a reason) can not make a line of its own: JSON escapes it, and in text
control characters are written as escapes. Long values are cut.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from structlog.typing import Processor

from config.limits import LOG_TEXT_MAX

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"(^|_)(token|secret|password|passwd|authorization|cookie|jwt|api_?key|private_?key)s?($|_)",
    re.IGNORECASE,
)
# Each pattern keeps its first group and blanks the rest of what it matches.
_SECRET_TEXT: Final = (
    # A JSON Web Token: three parts of base64url, the first one a JSON object.
    re.compile(r"()\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"),
    # An API key, but for the characters that lists show.
    re.compile(r"(\bparley_[A-Za-z0-9_-]{5})[A-Za-z0-9_-]{30,}"),
    # The password (and only that) of an address.
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/?#:@]*:)[^\s/?#]+(?=@)", re.IGNORECASE),
    # Queries, headers and assignments.
    re.compile(
        r"((?:token|secret|password|x-api-key|api_key|bearer|authorization)\b[\"']?\s*[=: ]\s*"
        r"(?:bearer\s+)?[\"']?)[^\s\"'&,;\[]{8,}",
        re.IGNORECASE,
    ),
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|$)", re.DOTALL),
)
_DEPTH_MAX: Final = 4
# C0, DEL, C1 (8-bit escapes), and what else ends a line or turns the direction of writing.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def redact_text(text: str) -> str:
    """Return `text` with everything blanked that looks like a token, key or password, and cut."""
    if len(text) > LOG_TEXT_MAX:
        half = LOG_TEXT_MAX // 2
        text = f"{text[:half]} [{len(text) - 2 * half} characters left out] {text[-half:]}"
    for pattern in _SECRET_TEXT:
        text = pattern.sub(rf"\1{REDACTED}", text)
    return text


def redact_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: blank secrets in all fields, nested ones included."""
    for name, value in event.items():
        event[name] = _redact(name, value, 0)
    return event


def escape_controls(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor for text: one line an event, and nothing that a terminal obeys.

    Only a traceback keeps its lines; they are for people.
    """
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name in ("exception", "stack") else [value]
            event[name] = "\n".join(_CONTROLS.sub(_escape, line) for line in lines)
    return event


def _escape(hit: re.Match[str]) -> str:
    return ascii(hit[0])[1:-1]


def configure_logging(level: str, fmt: str) -> None:
    """Send structlog and standard logging to stderr from `level` up, as `json` or `text`.

    Calling it again replaces the former configuration.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderers: list[Processor] = (
        [structlog.processors.JSONRenderer(default=str)]
        if fmt == "json"
        else [
            escape_controls,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
                pad_event_to=32,
            ),
        ]
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact_secrets,
    ]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _StderrLogger(),
        cache_logger_on_first_use=False,
    )
    handler = _StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries are talkative about what they do well; below a warning they are of use to nobody
    # but the one who asked for everything.
    root.setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))


def _redact(name: str, value: Any, depth: int) -> Any:
    if _SECRET_NAME.search(name) and value is not None and not isinstance(value, bool | int):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return redact_text(value.decode("utf-8", "replace"))
    if depth >= _DEPTH_MAX:
        return value if isinstance(value, bool | int | float | None) else REDACTED
    if isinstance(value, dict):
        return {key: _redact(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(name, item, depth + 1) for item in value]
    if isinstance(value, bool | int | float | None):
        return value
    return redact_text(str(value))


def _write_line(line: str) -> None:
    """Write to whatever stderr is now. A reader that has gone must not end the process."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


class _StderrLogger:
    """What structlog writes to: one method for every severity."""

    def msg(self, message: str) -> None:
        _write_line(message)

    log = debug = info = warn = warning = error = exception = critical = fatal = failure = msg


class _StderrHandler(logging.Handler):
    """The same way out for standard logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _write_line(self.format(record))
        except Exception:
            self.handleError(record)
