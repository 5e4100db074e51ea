"""What the live commands do: typing, signal, presence. None of them needs a subscription.

The rules are those of `broker.handlers`, which runs these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.domain.presence import room_presence
from broker.protocol.commands import LiveCommand, Presence, Signal, Typing
from broker.services import Services
from storage.redis.keys import room_key

if TYPE_CHECKING:
    from broker.connection import Connection


async def answer_live(connection: Connection, services: Services, command: LiveCommand) -> None:
    """Do what the command says and answer it."""
    result = b"{}"
    match command:
        case Typing():
            await _type(connection, services, command)
        case Signal():
            await services.node.live.rules.signal(
                connection.actor,
                command.room,
                command.name,
                command.data,
                origin=connection.id,
            )
        case Presence():
            result = await room_presence(
                services.access,
                services.store.live,
                connection.actor,
                command.room,
                command.limit,
            )
    connection.reply(command.id, result)


async def _type(connection: Connection, services: Services, command: Typing) -> None:
    live = services.node.live
    if command.active:
        await live.typists.begin(connection, command.room)
        return
    # First, whatever the user may do by now.
    live.typists.end(connection, room_key(connection.actor.project, command.room))
    await live.rules.require_typing(connection.actor, command.room)
