"""What is legal when: the states of a connection against the types of client frames.

`TABLE` holds every pair; its value is None (legal) or the error code of the refusal. A refused
frame is not executed. What a legal frame does, and which state comes next, is not here.

    AWAITING_AUTH --auth--> OPEN --drain--> DRAINING
           \\________________drain_______________^
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from broker.protocol.commands import COMMANDS
from broker.protocol.errors import ProtocolError, precedence


class State(Enum):
    """Where a connection is. Sending and receiving end outside of these (the wire's business)."""

    AWAITING_AUTH = "awaiting_auth"
    OPEN = "open"
    DRAINING = "draining"


_ALWAYS_WHEN_AWAITING: Final = frozenset({"auth"})
_ALWAYS_WHEN_DRAINING: Final = frozenset({"ping"})


def _row(state: State) -> Mapping[str, str | None]:
    if state is State.AWAITING_AUTH:
        legal, code = _ALWAYS_WHEN_AWAITING, "unauthenticated"
    elif state is State.DRAINING:
        legal, code = _ALWAYS_WHEN_DRAINING, "unavailable"
    else:
        legal, code = frozenset(COMMANDS), ""
    return MappingProxyType({name: None if name in legal else code for name in COMMANDS})


TABLE: Final[Mapping[State, Mapping[str, str | None]]] = MappingProxyType(
    {state: _row(state) for state in State}
)


def refusal_of(state: State, command_type: str) -> str | None:
    """The error code that a well-formed frame of this type gets now; None if it is legal."""
    return TABLE[state][command_type]


def answer_to_fault(state: State, fault: ProtocolError) -> ProtocolError:
    """What a frame that could not be parsed is answered: the first refusal that applies.

    Before authentication that is `unauthenticated` for everything but a broken `auth`. The
    result carries the frame's id; whether `fault` was a NotAnObject still counts for the caller.
    """
    if fault.frame_type is not None:
        code = refusal_of(state, fault.frame_type)
    else:
        code = "unauthenticated" if state is State.AWAITING_AUTH else None
    if code is None or precedence(fault.code) < precedence(code):
        return fault
    return ProtocolError(code, frame_id=fault.frame_id, frame_type=fault.frame_type)
