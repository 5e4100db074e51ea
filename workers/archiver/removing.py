"""Finishes deleting users: memberships that a process has left, and then the messages.

Beside the announcements, which must not wait for a user with a hundred thousand messages.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from broker.domain.user_changes import UserChanges
from config.limits import REMOVAL_WAIT
from storage.errors import StorageRefused, StorageUnavailable

# Whoever deletes a user gives up on its messages after REMOVAL_WAIT. It may need longer for many
# rooms; to work beside it does no harm.
REMOVAL_LATE_AFTER: Final = REMOVAL_WAIT + 1.0
REMOVAL_INTERVAL: Final = 2.0
REMOVALS_MAX: Final = 5


async def finish_removals(users: UserChanges) -> None:
    """Finish what others have not, until cancelled; outlives any outage."""
    log = structlog.get_logger("archiver")
    while True:
        try:
            await users.finish_removals(REMOVAL_LATE_AFTER, REMOVALS_MAX)
        except (StorageUnavailable, StorageRefused) as error:
            log.warning("removals wait", backend=error.backend, reason=error.reason)
        await trio.sleep(REMOVAL_INTERVAL)
