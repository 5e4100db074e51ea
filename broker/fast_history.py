"""A page that is kept and still right: no task, one question to Redis for all who ask in a turn.

The rules: synchronous. Nothing is given but what `kept_pages` would give: the page was read behind
what Redis says now, after the frame came, and what the reader is in the room was read with it or
since. Whatever does not go smoothly (the page has moved, the reader is not known to it or may not
read, Redis does not answer) is handed to a task, which asks anew, and refuses. Meanwhile it takes
one of its user's places among the commands in tasks; without a free one it waits like the others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from broker import handlers
from broker.domain.kept_pages import Kept
from broker.domain.roles import Action
from broker.protocol.commands import History
from broker.protocol.frames import encode_reply_frame
from broker.services import Services
from storage.redis.stand_call import Stand

if TYPE_CHECKING:
    from broker.connection import Connection


def begin_history(connection: Connection, services: Services, key: str, command: History) -> bool:
    """Begin to look for a page of the room `key` (R); never done at once."""
    now = trio.current_time()
    kept = services.pages.peek(key, handlers.page_query(command), connection.user, now)
    if kept is None or command.id is None or not services.fairness.take(connection.channel):
        _start(connection, services, key, command)
        return False
    services.store.rooms.submit_stand(
        key, partial(_finish, connection, services, key, command, kept, now)
    )
    return False


def _finish(
    connection: Connection,
    services: Services,
    key: str,
    command: History,
    kept: Kept,
    asked_at: float,
    stand: Stand | Exception,
) -> None:
    services.fairness.give_back(connection.channel)
    if connection.is_closed:
        return
    standing = kept.access.get(connection.user)
    if (
        standing is None
        or isinstance(stand, Exception)
        or not kept.is_right(stand, asked_at)
        or standing.refusal(Action.READ, connection.actor, command.room) is not None
    ):
        _start(connection, services, key, command)
        return
    answer = kept.answer
    if answer is None:
        answer = handlers.page_result(kept.page, command)
        services.pages.keep_answer(kept, answer)
    connection.allowance.charge_answer(len(answer))
    connection.post(encode_reply_frame(command.id, answer))
    services.counts.count("history", "ok")
    connection.queue.advance(key)


def _start(connection: Connection, services: Services, key: str, command: History) -> None:
    work = partial(handlers.history, connection, services, command)
    connection.start_room_command(key, command, work)
