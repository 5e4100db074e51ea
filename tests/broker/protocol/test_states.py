"""What is legal when: every pair of state and command."""

from __future__ import annotations

import itertools

import pytest

from broker.protocol.commands import COMMANDS
from broker.protocol.errors import NotAnObject, ProtocolError
from broker.protocol.states import TABLE, State, answer_to_fault, refusal_of

LEGAL = {
    State.AWAITING_AUTH: {"auth"},
    State.OPEN: set(COMMANDS),
    State.DRAINING: {"ping"},
}
OTHERWISE = {State.AWAITING_AUTH: "unauthenticated", State.DRAINING: "unavailable"}


@pytest.mark.parametrize(("state", "name"), list(itertools.product(State, COMMANDS)))
def test_every_pair(state, name):
    expected = None if name in LEGAL[state] else OTHERWISE[state]
    assert refusal_of(state, name) == expected


def test_the_table_is_complete():
    assert set(TABLE) == set(State)
    assert all(set(row) == set(COMMANDS) for row in TABLE.values())


@pytest.mark.parametrize(
    ("state", "fault", "code"),
    [
        (State.AWAITING_AUTH, NotAnObject(), "unauthenticated"),
        (State.AWAITING_AUTH, ProtocolError("unknown_type"), "unauthenticated"),
        (State.AWAITING_AUTH, ProtocolError("bad_request", frame_type="ping"), "unauthenticated"),
        (State.AWAITING_AUTH, ProtocolError("bad_request", frame_type="auth"), "bad_request"),
        (State.OPEN, NotAnObject(), "bad_request"),
        (State.OPEN, ProtocolError("too_large", frame_type="publish"), "too_large"),
        (State.DRAINING, ProtocolError("unknown_type"), "unknown_type"),
        (State.DRAINING, ProtocolError("bad_request", frame_type="publish"), "bad_request"),
        (State.DRAINING, ProtocolError("internal", frame_type="publish"), "unavailable"),
    ],
)
def test_a_broken_frame_gets_the_first_refusal_that_applies(state, fault, code):
    fault.frame_id = 17
    answer = answer_to_fault(state, fault)
    assert (answer.code, answer.frame_id) == (code, 17)
