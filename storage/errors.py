"""The two errors that storage raises, and what each asks of the caller.

Law of this file: whoever calls storage needs to know one thing about a failure: may the same call
be made again, and may it have happened already. So there are two classes and no more;
everything that the client libraries raise becomes one of them inside `storage`, once per library.
A bug (a wrong argument, a script that does not compile) is neither and is left to fly.
No text in them ever holds a password, a token or what a user wrote.
"""

from __future__ import annotations

from typing import Literal

Backend = Literal["redis", "postgres"]
# A call ends done, not done or unknown; the first is no error.
Outcome = Literal["not_done", "unknown"]


class StorageUnavailable(Exception):
    """The server is away, too slow, or cannot serve just now; the same call may work later.

    `outcome` is "not_done" when nothing can have been changed, "unknown" when the command may
    have run although its answer was lost: repeat it only if it is idempotent.
    """

    def __init__(
        self, backend: Backend, outcome: Outcome = "not_done", reason: str = "not available"
    ) -> None:
        super().__init__(f"{backend}: {reason} (outcome: {outcome.replace('_', ' ')})")
        self.backend: Backend = backend
        self.outcome: Outcome = outcome
        self.reason = reason


class StorageRefused(Exception):
    """The server understood and will not do it; repeating the same call cannot mend that.

    `sqlstate` and `constraint` say what PostgreSQL objected to; both are None for Redis.
    """

    def __init__(
        self,
        backend: Backend,
        reason: str,
        *,
        sqlstate: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(f"{backend}: {reason}")
        self.backend: Backend = backend
        self.reason = reason
        self.sqlstate = sqlstate
        self.constraint = constraint
