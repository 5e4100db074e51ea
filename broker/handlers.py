"""What the commands do that need a task: slow publishes, changes, subscribe, history, refresh.

The rules: a command ends in exactly one answer, and every failure has its code: what the domain
refuses, storage that is away (`unavailable`), a bug (`internal`, logged). Answers are posted in the
same synchronous section as the state they speak of.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

from broker import admission
from broker.domain import roles
from broker.domain.history import Page, PageQuery, load_page_as
from broker.domain.identity import Identity
from broker.domain.publishing import Published
from broker.live_commands import answer_live
from broker.protocol import frames
from broker.protocol.commands import (
    PAGE_DEFAULT,
    Auth,
    Command,
    Delete,
    Delivered,
    Edit,
    History,
    Marking,
    MessageChange,
    Presence,
    Publish,
    React,
    Read,
    Refresh,
    Signal,
    Subscribe,
    Typing,
    Unreact,
    command_type,
)
from broker.protocol.errors import ProtocolError
from broker.protocol.events import iso_time
from broker.repairs import RESYNC_SENTENCE
from broker.services import Services
from broker.subscribing import FRAME_MARGIN, Subscribing
from config import limits
from storage.errors import StorageUnavailable
from storage.postgres.access import standing_among
from storage.redis.keys import room_key, split_room_key
from storage.redis.outcomes import Draft, parse_append

if TYPE_CHECKING:
    from broker.connection import Connection

Work = Callable[[], Awaitable[None]]

_encode = msgspec.json.Encoder().encode


async def answer_errors(
    connection: Connection, services: Services, command: Command, work: Work, deadline: float
) -> None:
    """Run a command; whatever goes wrong, or not in time (trio's), is its answer."""
    refusal = await _find_refusal(connection, work, deadline)
    if refusal is not None:
        connection.refuse(command.id, refusal)
    services.counts.count(command_type(command), refusal.code if refusal else "ok")


async def _find_refusal(
    connection: Connection, work: Work, deadline: float
) -> ProtocolError | None:
    try:
        with trio.CancelScope(deadline=deadline) as scope:
            await work()
        if scope.cancelled_caught:
            raise trio.TooSlowError
    except ProtocolError as error:
        return error
    except (StorageUnavailable, trio.TooSlowError):
        return ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)
    except Exception:
        structlog.get_logger("broker.handlers").exception(
            "command failed", connection=connection.id, user=connection.user
        )
        return ProtocolError("internal")
    return None


def slow_command(connection: Connection, services: Services, command: Command) -> Work:
    """The work of a room's command that always takes a task."""
    if isinstance(command, Subscribe):
        return partial(subscribe, connection, services, command)
    if isinstance(command, Edit | Delete | React | Unreact):
        return partial(change_message, connection, services, command)
    if isinstance(command, Typing | Signal | Presence):
        return partial(answer_live, connection, services, command)
    if isinstance(command, Read | Delivered):
        return partial(mark, connection, services, command)
    raise AssertionError(f"{command!r} is no slow command")


async def subscribe(connection: Connection, services: Services, command: Subscribe) -> None:
    """See `broker.subscribing`."""
    try:
        await Subscribing(connection, services, command).run()
    except BaseException:
        # What was live before goes on; what never began is forgotten.
        key = room_key(connection.actor.project, command.room)
        room = services.node.hub.rooms.get(key)
        if room is None or connection not in room:
            connection.subscriptions.pop(key, None)
        raise


async def publish(connection: Connection, services: Services, command: Publish) -> None:
    """A publish whose sender's role must be read first."""
    published = await services.publisher.publish(connection.actor, command.room, command)
    _answer_published(connection, services, command, published)


async def finish_publish(
    connection: Connection, services: Services, command: Publish, event: Draft, reply: Any
) -> None:
    """A publish that the script refused, or whose script was not known: mend and go on."""
    refusal = None if isinstance(reply, Exception) else parse_append(reply)
    published = await services.publisher.finish(connection.actor, command.room, event, refusal)
    _answer_published(connection, services, command, published)


def _answer_published(
    connection: Connection, services: Services, command: Publish, published: Published
) -> None:
    if command.id is None:
        return
    connection.send(
        frames.publish_reply(
            command.id,
            published.message_id,
            published.seq,
            published.offset,
            published.created_ms,
            published.duplicate,
            services.times,
        )
    )


async def change_message(
    connection: Connection, services: Services, command: MessageChange
) -> None:
    """Edit or delete a message, add or take away a reaction; null if it is so already."""
    actor, changer = connection.actor, services.changer
    match command:
        case Edit():
            done = await changer.edit(actor, command.room, command.seq, command)
        case Delete():
            done = await changer.delete(actor, command.room, command.seq)
        case React() | Unreact():
            done = await changer.react(
                actor,
                command.room,
                command.seq,
                command.reaction,
                is_added=isinstance(command, React),
            )
    offset = b"null" if done is None else b"%d" % done.offset
    connection.reply(command.id, b'{"offset":%b}' % offset)


async def mark(connection: Connection, services: Services, command: Marking) -> None:
    """Move the user's read or delivered mark."""
    marked = await services.marker.mark(
        connection.actor, command.room, command_type(command), command.seq
    )
    connection.reply(command.id, _encode(marked._asdict()))


async def history(connection: Connection, services: Services, command: History) -> None:
    """A page of messages; needs no subscription. See `fast_history` for one that is kept."""
    page = await load_page_as(
        services.db,
        services.store.rooms,
        services.access,
        services.pages,
        connection.actor,
        command.room,
        query=page_query(command),
    )
    result = page_result(page, command)
    connection.allowance.charge_answer(len(result))
    connection.reply(command.id, result)


def page_query(command: History) -> PageQuery:
    """What the command asks for."""
    return PageQuery(
        limit=command.limit or PAGE_DEFAULT,
        before=command.before,
        after=command.after,
        bytes_max=limits.SERVER_FRAME_BYTES_MAX - FRAME_MARGIN,
    )


def page_result(page: Page, command: History) -> bytes:
    """What it is answered, as JSON text."""
    has_more = page.has_more_after if command.after is not None else page.has_more_before
    return b'{"messages":[%b],"has_more":%b}' % (
        b",".join(page.bodies),
        b"true" if has_more else b"false",
    )


async def refresh(connection: Connection, services: Services, command: Auth | Refresh) -> None:
    """Replace the token; subscriptions that rested on capabilities it lacks end."""

    async def work() -> None:
        identity = await admission.refresh(connection, services, command.token)
        connection.set_identity(identity)
        await _reconsider_subscriptions(connection, services)
        connection.reply(command.id, auth_result(identity))

    deadline = trio.current_time() + limits.SLOW_COMMAND_DEADLINE
    await answer_errors(connection, services, command, work, deadline)


async def _reconsider_subscriptions(connection: Connection, services: Services) -> None:
    """After a new token: what its capabilities do not give any more must rest on a membership."""
    hub = services.node.hub
    doubtful = []
    for key, kind in connection.subscriptions.items():
        room = hub.rooms.get(key)
        if room is None or connection not in room:
            continue
        capabilities = connection.actor.capabilities_in(split_room_key(key)[1])
        needs_member = not roles.is_allowed(roles.Action.READ, kind, None, capabilities)
        if needs_member and not room.needs_member[connection]:
            doubtful.append(key)
        # From here on a removal ends it, so only an earlier one has to be looked for.
        room.needs_member[connection] = needs_member
    try:
        while doubtful:
            members, _banned = await standing_among(
                services.db, *split_room_key(doubtful[-1]), [connection.user]
            )
            key = doubtful.pop()
            if not members:
                sentence = "The new token does not give access to the room."
                _end_subscription(connection, services, key, "forbidden", sentence, at_once=True)
    except StorageUnavailable:
        structlog.get_logger("broker.handlers").info("a refresh could not look up memberships")
    finally:
        # Nothing is served on a guess: who subscribes again is looked at then.
        for key in doubtful:
            _end_subscription(connection, services, key, "resync", RESYNC_SENTENCE)


def _end_subscription(
    connection: Connection,
    services: Services,
    key: str,
    code: str,
    sentence: str,
    *,
    at_once: bool = False,
) -> None:
    """End what rests on a membership, if it still does."""
    room = services.node.hub.rooms.get(key)
    if room is not None and room.needs_member.get(connection):
        services.node.hub.end(room, connection, code, sentence, at_once=at_once)


def auth_result(identity: Identity) -> bytes:
    """The result of `auth` and `refresh`."""
    return _encode({"user": identity.user, "expires_at": iso_time(int(identity.expires_at * 1000))})


def ping_result() -> bytes:
    """The result of `ping`: this server's time."""
    return _encode({"time": iso_time(int(time.time() * 1000))})


def hello(connection: Connection, services: Services) -> bytes:
    """The first frame of an authenticated connection."""
    assert connection.identity is not None
    return frames.hello(
        connection=connection.id,
        node=services.node.id,
        user=connection.user,
        expires_at=int(connection.identity.expires_at * 1000),
        ping_interval=services.settings.ping_interval,
        max_frame_bytes=services.settings.max_frame_bytes,
        server_time=int(time.time() * 1000),
    )
