"""How one connection to PostgreSQL is opened: its limits and session settings.

Settings are sent with the start-up message, so they cost no round trip and hold for the whole
session; nobody changes a session later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from config.limits import CONNECT_TIMEOUT

# Distinct statements that a connection remembers as prepared: more than the product has.
STATEMENT_CACHE_SIZE: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Where to and with which limits; seconds. `size`: connections at most."""

    url: str
    name: str
    size: int
    statement_timeout: float
    idle_transaction_timeout: float

    @property
    def command_timeout(self) -> float:
        """Longer than the server's own limit, so it ends a statement only if the server hangs."""
        return self.statement_timeout + 0.5


async def open_connection(options: ConnectionOptions) -> asyncpg.Connection:
    """Open a connection within CONNECT_TIMEOUT seconds. Raises asyncpg's errors and OSError."""
    return await asyncpg.connect(
        options.url,
        timeout=CONNECT_TIMEOUT,
        command_timeout=options.command_timeout,
        statement_cache_size=STATEMENT_CACHE_SIZE,
        server_settings={
            "application_name": options.name,
            "timezone": "UTC",
            # Our statements are short: compiling them would cost more than running them.
            "jit": "off",
            # Planning over 16 partitions of messages costs more than running such a statement.
            "plan_cache_mode": "force_generic_plan",
            "statement_timeout": _milliseconds(options.statement_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(options.idle_transaction_timeout),
        },
    )


def _milliseconds(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))
