"""Who is let in with a good token, as a function of the user's state."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from broker.domain.users import refuse_token
from storage.postgres.users import UserState

REVOKED = datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "issued_at", "code"),
    [
        (None, 1.0, "forbidden"),
        (UserState("active", False, None), None, None),
        (UserState("active", False, None), 1.0, None),
        (UserState("banned", False, None), 1.0, "forbidden"),
        (UserState("active", True, None), 1.0, "forbidden"),
        (UserState("active", False, REVOKED), None, "unauthenticated"),
        (UserState("active", False, REVOKED), REVOKED.timestamp(), "unauthenticated"),
        (UserState("active", False, REVOKED), int(REVOKED.timestamp()), "unauthenticated"),
        (UserState("active", False, REVOKED), REVOKED.timestamp() + 0.001, None),
        (UserState("banned", False, REVOKED), None, "forbidden"),
    ],
)
def test_a_token_is_refused_for_its_user(state, issued_at, code):
    error = refuse_token(state, issued_at)
    assert (None if error is None else error.code) == code
