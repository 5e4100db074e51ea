"""Every attack, by name. How hard is in `Force`; what an attack returns is what it met, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.hostile.attacks import (
    api_requests,
    floods,
    handshakes,
    odd_frames,
    slow_readers,
    slow_writers,
    tokens,
)
from tests.hostile.force import Force
from tests.hostile.target import Target

Run = Callable[[Target, Force], Awaitable[Counter[str]]]


@dataclass(frozen=True)
class Attack:
    """One attack; `met` is every outcome that is right, the rest of the row is for the page.

    Where there are several, the attack has several ways, and itself holds each to its own one.
    """

    run: Run
    met: frozenset[str]
    bound: str


def _attack(run: Run, met: str, bound: str) -> tuple[str, Attack]:
    prefix = "api-" if run.__module__.endswith("api_requests") else ""
    name = prefix + run.__name__.replace("_", "-")
    return name, Attack(run, frozenset(met.split("|")), bound)


ATTACKS: Final[dict[str, Attack]] = dict(
    [
        _attack(slow_readers.pages_unread, "4508", "`SEND_QUEUE_BYTES`, then 4508"),
        _attack(
            slow_readers.one_byte_at_a_time, "4508", "`SEND_QUEUE_BYTES`, `SLOW_CLOSE_TIMEOUT`"
        ),
        _attack(slow_readers.just_below, "served", "`SEND_QUEUE_BYTES` for each"),
        _attack(slow_writers.half_heads, "closed", "`HEAD_TIMEOUT`"),
        _attack(slow_writers.nothing_said, "closed", "`HEAD_TIMEOUT`"),
        _attack(slow_writers.no_token, "4401", "`AUTH_TIMEOUT`"),
        _attack(slow_writers.huge_heads, "HTTP 431", "`HEAD_BYTES_MAX`"),
        _attack(slow_writers.huge_length, "1009", "`MAX_FRAME_BYTES`"),
        _attack(
            slow_writers.half_frames,
            "1006",
            "`MAX_FRAME_BYTES` held; once silent: `PING_INTERVAL` + `PONG_TIMEOUT`",
        ),
        _attack(slow_writers.fragments_for_ever, "1009", "`FRAGMENTS_PER_MESSAGE_MAX`"),
        _attack(floods.pings_as_frames, "4529", "`RATE_OTHER_FACTOR`, `RATE_REFUSED_MAX`"),
        _attack(floods.invalid_json, "4400", "three that are no object"),
        _attack(floods.unknown_types, "4529", "`RATE_OTHER_FACTOR`, `RATE_REFUSED_MAX`"),
        _attack(floods.oversize, "1009", "`MAX_FRAME_BYTES`"),
        _attack(floods.subscriptions, "4529", "`MAX_SUBSCRIPTIONS`, `RATE_READING_COST`"),
        _attack(floods.rooms, "4529", "`RATE_MESSAGES_PER_SECOND`"),
        _attack(floods.reactions, "4529", "`RATE_MESSAGES_PER_SECOND`"),
        _attack(floods.typing, "4529", "`TYPING_PAUSE`, `RATE_OTHER_FACTOR`"),
        _attack(floods.signals, "4529", "`RATE_OTHER_FACTOR`"),
        _attack(floods.reads, "4529", "`RECEIPT_INTERVAL`, `RATE_OTHER_FACTOR`"),
        _attack(floods.history, "4529", "`RATE_READING_COST`, `COMMANDS_AT_ONCE`"),
        _attack(floods.refreshes, "4529", "`RATE_READING_COST`, `COMMANDS_AT_ONCE`"),
        _attack(
            floods.resumes_from_zero,
            "4529",
            "`RESUME_EVENTS_MAX`, `RESUME_BYTES_MAX`, `RATE_READING_BYTES`",
        ),
        # One key a hundred thousand times is one key: such a message is like any other.
        _attack(
            floods.json_bombs,
            "`bad_request`|`too_large`|`reply`",
            "`MAX_FRAME_BYTES`, `DEPTH_MAX`, one pass",
        ),
        _attack(odd_frames.control_frames, "4529", "`CONTROL_FRAMES_MAX`"),
        _attack(odd_frames.fragments, "4529", "`FRAGMENTS_MAX`"),
        _attack(odd_frames.broken, "1002|1003|1007", "the first one"),
        _attack(odd_frames.compression, "1002", "none is negotiated"),
        _attack(handshakes.half_open, "closed", "`HEAD_TIMEOUT`, `CONNECTIONS_MAX`"),
        _attack(
            handshakes.smuggled, "HTTP 400|HTTP 403|HTTP 404|HTTP 426|1002", "one request each"
        ),
        _attack(tokens.wrong, "4401", "one connection each"),
        _attack(tokens.giant, "4401|HTTP 431", "`TOKEN_BYTES_MAX`, `HEAD_BYTES_MAX`"),
        _attack(api_requests.half_heads, "HTTP 408", "`API_HEAD_TIMEOUT`"),
        _attack(api_requests.nothing_said, "HTTP 408", "`API_HEAD_TIMEOUT`"),
        _attack(api_requests.header_floods, "HTTP 431", "`API_HEAD_BYTES_MAX`"),
        _attack(api_requests.endless_bodies, "HTTP 401|HTTP 413", "`API_UNREAD_BYTES_MAX`"),
        _attack(api_requests.unfinished_bodies, "HTTP 401|HTTP 408", "`API_BODY_TIMEOUT`"),
        _attack(api_requests.answers_unread, "held", "`API_RESPONSE_TIMEOUT`"),
        _attack(
            api_requests.odd_requests,
            "HTTP 400|HTTP 401|HTTP 404|HTTP 405|HTTP 501|HTTP 505",
            "HTTP/1.x alone",
        ),
        _attack(
            api_requests.json_bombs,
            "HTTP 400|HTTP 413|HTTP 201",
            "`API_BODY_BYTES_MAX`, `DEPTH_MAX`",
        ),
    ]
)
"""The table of docs/hostile-clients.md is made from it."""
