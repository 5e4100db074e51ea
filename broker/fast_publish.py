"""A publish into a warm room whose sender's role is known: no task, one script call.

The rules: synchronous. The frame is packed into the script's call in the reader's turn, and the
callback of the reply posts the answer. Whatever does not go smoothly (an unknown role, a refusal of
the script) is handed to a task. Nothing is refused on a remembered role: it may have risen since.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from broker import handlers
from broker.domain.publishing import draft_event, refuse_publish
from broker.domain.roles import Action
from broker.protocol.commands import Publish
from broker.protocol.errors import ProtocolError
from broker.protocol.frames import encode_text_frame, publish_reply
from broker.services import Services
from storage.errors import StorageUnavailable
from storage.redis.outcomes import Draft

if TYPE_CHECKING:
    from broker.connection import Connection


def begin_publish(connection: Connection, services: Services, key: str, command: Publish) -> bool:
    """Begin a publish into the room `key` (R); True if it has been answered already."""
    if connection.typing:
        services.node.live.typists.end(connection, key)
    access = services.access.known(key, connection.user)
    if (
        access is None
        or command.kind == "system"
        or access.refusal(Action.PUBLISH, connection.actor, command.room) is not None
    ):
        work = partial(handlers.publish, connection, services, command)
        connection.start_room_command(key, command, work)
        return False
    try:
        event = draft_event(key, command.room, connection.user, command, access.version)
    except ProtocolError as error:
        connection.refuse(command.id, error)
        return True
    started_at = services.counts.start_publish()
    room = services.node.hub.rooms.get(key)
    keys = services.store.keys.room(key) if room is None else room.keys
    connection.is_beginning = True
    connection.has_finished_at_once = False
    life = services.store.lives.ids[keys.partition]
    services.store.rooms.submit_publish(
        keys,
        event,
        partial(
            _finish_publish,
            connection,
            services,
            key,
            life,
            command,
            event,
            started_at,
            connection.allowance.last_message_at if started_at else 0.0,
        ),
    )
    connection.is_beginning = False
    return connection.has_finished_at_once


def _finish_publish(
    connection: Connection,
    services: Services,
    key: str,
    life: str,
    command: Publish,
    event: Draft,
    started_at: float,
    heard_at: float,
    reply: Any,
) -> None:
    if type(reply) is list and type(reply[0]) is int:
        offset, seq, ms = reply
        services.store.rooms.answered.note(key, life, offset, seq)
        services.counts.count("publish", "ok")
        if started_at:
            services.counts.end_publish(started_at, heard_at)
        if command.id is not None:
            # Who is subscribed gets the event, too, at about the same time, if not already.
            room = services.node.hub.rooms.get(key)
            is_ahead = room is not None and room.offset < offset and key in connection.subscriptions
            post = connection.post_soon if is_ahead else connection.post
            answer = publish_reply(
                command.id, event.message_id, seq, offset, ms, False, services.times
            )
            post(encode_text_frame(answer))
    elif isinstance(reply, StorageUnavailable):
        services.counts.count("publish", "unavailable")
        connection.refuse(command.id, refuse_publish(reply))
    else:
        work = partial(handlers.finish_publish, connection, services, command, event, reply)
        connection.start_room_command(key, command, work)
        return
    if connection.is_beginning:
        # The answer came before `submit` returned; whoever began this goes on by itself.
        connection.has_finished_at_once = True
    else:
        connection.queue.advance(key)
