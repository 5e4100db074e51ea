"""Who a connection is: authentication, refresh, and looking again after something changed.

The rules: the connection joins its user's own channel first and reads the user's row second, so
that a revocation between the two reaches it. A valid token of a user who was banned, deleted or
revoked ends in 4403; storage or the provider's keys away end in 4503, since the client did no
wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from broker.domain.access import Actor
from broker.domain.identity import Identity, TokenExpired, TokenInvalid
from broker.domain.key_set import KeysUnavailable
from broker.domain.users import admit_user
from broker.protocol import errors
from broker.protocol.errors import ProtocolError
from broker.services import Services
from config import limits
from storage.errors import StorageUnavailable
from storage.redis.keys import user_channel

if TYPE_CHECKING:
    from broker.connection import Connection

_REASONS: Final = {
    errors.BAD_TOKEN: "bad_token",
    errors.TOKEN_EXPIRED: "token_expired",
    errors.FORBIDDEN: "forbidden",
    errors.BACKEND_UNAVAILABLE: "unavailable",
}
WATCH_ATTEMPTS = 20
"""Each further one means that the node has just taken a new name."""

NOBODY_YET = Actor("", None, "user")


def actor_of(identity: Identity) -> Actor:
    """The user as the gate before every action sees it."""
    return Actor(identity.project, identity.user, "user", tuple(identity.rooms.items()))


async def admit(connection: Connection, services: Services, token: str) -> Identity | None:
    """Authenticate the connection; None if it has been disconnected instead.

    A token that the provider of the keys is asked about takes no turn from those that are known.
    """
    identity = await _verify(connection, services, token)
    if identity is None:
        return None
    try:
        async with services.turnstile.turn():
            return None if connection.is_closed else await _admit(connection, services, identity)
    except trio.TooSlowError:
        reject(connection, services, errors.BACKEND_UNAVAILABLE)
        return None


async def _admit(connection: Connection, services: Services, identity: Identity) -> Identity | None:
    channel = user_channel(identity.project, identity.user)
    services.node.hub.add_connection(channel, connection)
    connection.channel = channel
    deadline = trio.current_time() + limits.SLOW_COMMAND_DEADLINE
    try:
        with trio.CancelScope(deadline=deadline) as scope:
            await _watch(services, channel)
            seen = -1
            while seen != connection.rechecks:
                # Once more if told to look meanwhile: the answer may be older than that.
                seen = connection.rechecks
                await admit_user(services.db, identity, create=services.settings.auto_create_users)
    except ProtocolError as error:
        reject(connection, services, close_code_of(error), error.message)
        return None
    except StorageUnavailable:
        reject(connection, services, errors.BACKEND_UNAVAILABLE)
        return None
    if scope.cancelled_caught:
        reject(connection, services, errors.BACKEND_UNAVAILABLE)
        return None
    return None if connection.is_closed else identity


async def _verify(connection: Connection, services: Services, token: str) -> Identity | None:
    try:
        identity = await services.verifier.authenticate(token)
    except TokenExpired as error:
        reject(connection, services, errors.TOKEN_EXPIRED, error.reason)
        return None
    except TokenInvalid as error:
        reject(connection, services, errors.BAD_TOKEN, error.reason)
        return None
    except KeysUnavailable:
        reject(connection, services, errors.BACKEND_UNAVAILABLE)
        return None
    # It may have ended while the provider was asked; then it must not join anything any more.
    return None if connection.is_closed else identity


def reject(connection: Connection, services: Services, code: int, sentence: str = "") -> None:
    """Disconnect somebody who is not let in, and count why."""
    services.metrics.authentication_failures.labels(_REASONS[code]).inc()
    connection.disconnect(code, sentence)


def give_up(connection: Connection, services: Services) -> None:
    """Disconnect somebody who has sent no token in time."""
    services.metrics.authentication_failures.labels("missing").inc()
    connection.disconnect(errors.BAD_TOKEN, "No token came in time.")


def close_code_of(error: ProtocolError) -> int:
    """The close code for a user who is not let in."""
    if error.code == "token_expired":
        return errors.TOKEN_EXPIRED
    return errors.FORBIDDEN


async def _watch(services: Services, channel: str) -> None:
    node = services.node
    for _attempt in range(WATCH_ATTEMPTS):
        if not node.hub.holds(channel):
            return  # the connection has ended
        if await services.store.nodes.watch(channel, node.name, node.hub.next_gen()):
            return
        await trio.sleep(limits.REPAIR_RETRY_AFTER)
    raise StorageUnavailable("redis", "not_done", "the node has no inbox")


async def refresh(connection: Connection, services: Services, token: str) -> Identity:
    """Verify another token of the same user. Raises ProtocolError; then the old token stays."""
    try:
        identity = await services.verifier.authenticate(token)
    except TokenExpired as error:
        raise ProtocolError("token_expired", error.reason, "token") from error
    except TokenInvalid as error:
        raise ProtocolError("unauthenticated", error.reason, "token") from error
    except KeysUnavailable as error:
        raise ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER) from error
    held = connection.actor
    if (identity.project, identity.user) != (held.project, held.user):
        raise ProtocolError("forbidden", "The token belongs to another user.", "token")
    await admit_user(services.db, identity, create=False)
    return identity


async def look_again(connection: Connection, services: Services) -> None:
    """Something about the user may have changed: read the row, disconnect if need be."""
    identity = connection.identity
    if identity is None:
        return
    try:
        async with services.looks:
            if not connection.is_closed:
                await admit_user(services.db, identity, create=False)
    except ProtocolError as error:
        connection.disconnect(close_code_of(error), error.message)
    except StorageUnavailable:
        # Nothing may be served on a guess: the client comes back and is looked at then.
        connection.disconnect(errors.BACKEND_UNAVAILABLE)
