"""What the routes of messages share: finding the message of a path, and the answer to a publish."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from quart import Response

from api.bodies import json_response
from api.history_pages import message_name
from api.services import Services
from broker.domain.access import Access, Actor
from broker.domain.history import load_message
from broker.domain.message_details import find_room_of, find_unarchived_room
from broker.domain.publishing import Published
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from broker.protocol.events import message_json
from broker.protocol.ids import is_message_id
from storage.redis.keys import room_key


def path_of(room: str, message: int | str | None = None) -> str:
    """The path of a room's messages, or of one of them."""
    path = f"/v1/rooms/{quote(room, safe='')}/messages"
    return path if message is None else f"{path}/{message}"


def wanted_of(message: str) -> int | str:
    """The seq or id that a path names; `message_not_found` if it is neither."""
    wanted = message_name(message)
    if wanted is None:
        raise ProtocolError("message_not_found")
    return wanted


async def room_of(services: Services, actor: Actor, message_id: str) -> str:
    """The room of a message that is named by its id alone, if the actor may know of it.

    Raises `message_not_found`, also where a room would be `room_not_found`. Whether the actor may
    do what it wants to is the next step's question: who may delete there need not be a reader.

    A message that there is not costs the same as one that the actor may not know of, as soon as
    that is archived: no time tells them apart.
    """
    if not is_message_id(message_id):
        raise ProtocolError("message_not_found")
    place = (services.db, services.store.archive, actor.project, message_id)
    room = await find_room_of(*place)
    try:
        # Without a room: that of no message is asked for, and what comes of it does not count.
        access = await services.access.read_as(actor, room or message_id)
    except ProtocolError:
        is_hidden = True
    else:
        is_hidden = access.refusal(Action.READ, actor, room or message_id) == "room_not_found"
    if room is None:
        raise ProtocolError("message_not_found")
    if is_hidden:
        await find_unarchived_room(*place)
        raise ProtocolError("message_not_found")
    return room


async def read_message(
    services: Services, actor: Actor, room: str, wanted: int | str, *, reveal: bool = False
) -> tuple[Access, bytes]:
    """The actor's standing and a message that it may read; raises ProtocolError otherwise."""
    access = await services.access.read_as(actor, room)
    access.require(Action.READ, actor, room)
    body = await load_message(
        services.db,
        services.store.rooms,
        room_key(actor.project, room),
        room_pk=access.room_pk,
        wanted=wanted,
        viewer=actor.user,
        reveal=reveal,
    )
    if body is None:
        raise ProtocolError("message_not_found")
    return access, body


async def published_body(
    services: Services, actor: Actor, room: str, published: Published
) -> bytes:
    """The message, with what the answer to a publish says besides."""
    if published.duplicate:
        access = await services.access.get(actor.project, room, actor.user)
        found = await load_message(
            services.db,
            services.store.rooms,
            room_key(actor.project, room),
            room_pk=access.room_pk,
            wanted=published.seq,
            viewer=actor.user,
        )
        message = found or msgspec.json.encode({"seq": published.seq, "room": room})
    else:
        message = message_json(published.seq, published.created_ms, published.data)
    more = msgspec.json.encode(
        {
            "message_id": published.message_id,
            "offset": published.offset,
            "duplicate": published.duplicate,
        }
    )
    return message[:-1] + b"," + more[1:]


async def published_response(
    services: Services, actor: Actor, room: str, published: Published
) -> Response:
    """201 with the new message, or 200 with the one that was there."""
    body = await published_body(services, actor, room, published)
    location = path_of(room, published.seq)
    return json_response(body, 200 if published.duplicate else 201, location=location)
