"""Every code that a client can be told: error codes and WebSocket close codes, in one table each.

`ERRORS` stands in order of precedence: when several refusals apply, the client gets the first of
the table. Codes 44xx mean "do not come back with the same credentials", everything but those and
1000 means "reconnect with jitter and resume". A close reason is one sentence of at most
`CLOSE_REASON_BYTES_MAX` bytes. No wording here names an internal part.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple


class ErrorRow(NamedTuple):
    """One error code: its HTTP status over REST and the sentence used when none is given."""

    code: str
    status: int
    sentence: str


ERRORS: Final[tuple[ErrorRow, ...]] = (
    ErrorRow("unauthenticated", 401, "Authenticate first."),
    ErrorRow("token_expired", 401, "The token has expired."),
    ErrorRow("unknown_type", 400, "There is no frame of this type."),
    ErrorRow("bad_request", 400, "The request is not valid."),
    ErrorRow("too_large", 413, "The request is larger than allowed."),
    ErrorRow("room_not_found", 404, "There is no such room."),
    ErrorRow("not_found", 404, "There is no such thing."),
    ErrorRow("not_a_member", 403, "Only members of the room may do this."),
    ErrorRow("forbidden", 403, "The role does not suffice for this."),
    ErrorRow("message_not_found", 404, "There is no such message."),
    ErrorRow("conflict", 409, "This contradicts the present state."),
    ErrorRow("limit_reached", 409, "A limit has been reached."),
    ErrorRow("rate_limited", 429, "Too many requests; wait before the next."),
    ErrorRow("overloaded", 503, "The service is overloaded; try again later."),
    ErrorRow("unavailable", 503, "The service is not available now; try again."),
    ErrorRow("internal", 500, "An unexpected error happened."),
)

_ROWS: Final = MappingProxyType({row.code: row for row in ERRORS})
_PRECEDENCE: Final = MappingProxyType({row.code: place for place, row in enumerate(ERRORS)})

UNSUBSCRIBED_CODES: Final = frozenset({"not_a_member", "forbidden", "room_not_found", "resync"})
"""Why a subscription may end; `resync` asks to subscribe again with the old position."""


def http_status(code: str) -> int:
    """The HTTP status that carries an error code; KeyError for a code that does not exist."""
    return _ROWS[code].status


def default_sentence(code: str) -> str:
    """What to tell the client when there is nothing more exact to say."""
    return _ROWS[code].sentence


def precedence(code: str) -> int:
    """Place in the order of the table; of several refusals the lowest is answered."""
    return _PRECEDENCE[code]


class ProtocolError(Exception):
    """A refusal that the client is told: an error code, one sentence, maybe a field.

    `field` names the top-level field of the frame or body that is at fault. `retry_after` is in
    seconds. `frame_id` and `frame_type` are what could be read of the refused frame, so that the
    answer can echo the id (None when there was none, or it was not a legal one).
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
        *,
        frame_id: int | str | None = None,
        frame_type: str | None = None,
    ) -> None:
        self.code = code
        self.message = default_sentence(code) if message is None else message
        self.field = field
        self.retry_after = retry_after
        self.frame_id = frame_id
        self.frame_type = frame_type
        super().__init__(f"{code}: {self.message}")

    @property
    def status(self) -> int:
        """The HTTP status of this error."""
        return http_status(self.code)


class NotAnObject(ProtocolError):
    """The frame is no JSON object; three of these close the connection with 4400."""

    def __init__(self, message: str = "A frame is one JSON object.") -> None:
        super().__init__("bad_request", message)


class CloseRow(NamedTuple):
    """One close code and the reason sent with it when none is given."""

    code: int
    name: str
    reason: str


NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_VIOLATION: Final = 1002
UNSUPPORTED_DATA: Final = 1003
LOST: Final = 1006
INVALID_TEXT: Final = 1007
FRAME_TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
RESTART: Final = 1012
NOT_AN_OBJECT: Final = 4400
BAD_TOKEN: Final = 4401
TOKEN_EXPIRED: Final = 4402
FORBIDDEN: Final = 4403
BACKEND_UNAVAILABLE: Final = 4503
TOO_SLOW: Final = 4508
TOO_MANY_FRAMES: Final = 4529

FIRST_FINAL: Final = 4400
FIRST_RETRIED: Final = 4500
"""From FIRST_FINAL up to here: do not come back with the same credentials."""

CLOSES: Final[tuple[CloseRow, ...]] = (
    CloseRow(NORMAL, "normal", "Closed."),
    CloseRow(GOING_AWAY, "going_away", "The peer is going away."),
    CloseRow(PROTOCOL_VIOLATION, "protocol_violation", "The WebSocket protocol was violated."),
    CloseRow(UNSUPPORTED_DATA, "unsupported_data", "Binary frames are not supported."),
    CloseRow(LOST, "lost", "The connection was lost."),
    CloseRow(INVALID_TEXT, "invalid_text", "A text frame is not valid UTF-8."),
    CloseRow(FRAME_TOO_BIG, "frame_too_big", "A frame is larger than max_frame_bytes."),
    CloseRow(INTERNAL_ERROR, "internal_error", "An unexpected error happened."),
    CloseRow(RESTART, "restart", "The server restarts; reconnect and resume."),
    CloseRow(NOT_AN_OBJECT, "not_an_object", "Three frames were no JSON objects."),
    CloseRow(BAD_TOKEN, "bad_token", "There was no valid token."),
    CloseRow(TOKEN_EXPIRED, "token_expired", "The token has expired."),
    CloseRow(FORBIDDEN, "forbidden", "The user may not connect."),
    CloseRow(BACKEND_UNAVAILABLE, "backend_unavailable", "A backend is not available."),
    CloseRow(TOO_SLOW, "too_slow", "The connection reads too slowly."),
    CloseRow(TOO_MANY_FRAMES, "too_many_frames", "Too many frames were refused."),
)
_CLOSE_ROWS: Final = MappingProxyType({row.code: row for row in CLOSES})

CLOSE_REASON_BYTES_MAX: Final = 123
"""A control frame holds 125 bytes, two of which are the code."""

REFUSALS_UNTIL_CLOSE: Final = 3
"""So many frames that are no objects end a connection with NOT_AN_OBJECT."""


def close_reason(code: int) -> str:
    """The default sentence of a close code; empty for codes that only peers send."""
    row = _CLOSE_ROWS.get(code)
    return "" if row is None else row.reason
