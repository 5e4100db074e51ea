"""How a process hears that it shall stop, and how it ends.

The first SIGTERM or SIGINT asks for a drain once anybody may be served, and before that ends
everything: a start that waits for a storage has nothing to drain. The second ends everything
at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Final, NoReturn

import trio

CLOSING_SHARE: Final = 0.1
"""Part of DRAIN_SECONDS that API and archiver keep for closing the storages at the end."""


class Stopping:
    """One process's; `asked` is set by the first signal.

    `is_serving` is set by whoever begins to serve, before the first client can be there.
    """

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.is_serving = False

    async def watch(
        self,
        everything: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Hear signals until cancelled, and cancel `everything` if there is nothing to drain or
        nobody has the patience for it."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                if self.asked.is_set() or not self.is_serving:
                    everything.cancel()
                self.asked.set()


def end_process() -> NoReturn:
    """End with status 0, now that everything has been closed.

    Without the interpreter's own clean-up: to free what thousands of connections were, object by
    object, would take as long as a part of the drain, and a thread that waits for a storage which
    does not answer would be waited for.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
