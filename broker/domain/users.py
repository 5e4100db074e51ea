"""Users: who may act, and creating them, for REST and the WebSocket alike.

A valid token is not enough: its user may be banned, deleted or revoked since. That is read from
PostgreSQL whenever somebody authenticates (one statement for a user who is known). A deleted
id stays taken for good and is never created again.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NoReturn

import msgspec
from uuid_utils import uuid7

from broker.domain.fields import check_email, check_name, check_url, metadata_text
from broker.domain.identity import Identity
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_user_id
from storage.errors import StorageRefused
from storage.postgres import users as rows
from storage.postgres.pool import Database
from storage.postgres.users import NewUser, UserState

USER_CHANGED: Final = "user.changed"
"""On a user's own channel: look at the user's row again. A hint, never the truth itself."""

_TAKEN: Final = {
    "users_pkey": "id",
    "users_username": "username",
    "users_external_user_id": "external_user_id",
}


class UserBody(msgspec.Struct, kw_only=True):
    """What a user is created from; without `id` it gets a UUIDv7."""

    id: str | None = None
    username: str | None = None
    external_user_id: str | None = None
    display_name: str | None = None
    email: str | None = None
    avatar_url: str | None = None
    metadata: dict[str, Any] | None = None


class TokenBody(msgspec.Struct, kw_only=True):
    """What a token is issued for: `ttl` in seconds or as text (`24h`), and capabilities."""

    ttl: Annotated[float, msgspec.Meta(gt=0)] | str | None = None
    rooms: dict[str, list[str]] | None = None


async def ensure_user(
    db: Database, project: str, user: str, name: str | None, *, create: bool
) -> UserState | None:
    """The user's state; an unknown one is created if `create` says so, else None.

    `name` becomes the display name of a created user only. Raises StorageUnavailable.
    """
    state = await rows.fetch_state(db, project, user)
    if state is None and create:
        await rows.insert_if_absent(db, project, user, name)
        state = await rows.fetch_state(db, project, user)
    return state


async def admit_user(db: Database, identity: Identity, *, create: bool) -> None:
    """Let a verified token in, or raise ProtocolError.

    `forbidden`: banned, deleted, or unknown while users are not created by themselves.
    `unauthenticated`: the token was issued before the user's tokens were revoked.
    """
    state = await ensure_user(db, identity.project, identity.user, identity.name, create=create)
    error = refuse_token(state, identity.issued_at)
    if error is not None:
        raise error


def refuse_token(state: UserState | None, issued_at: float | None) -> ProtocolError | None:
    """Why a token of a user in this state is refused, None if it is not.

    `issued_at` (seconds since 1970) must lie after the last revocation; a token that does not say
    is void after any.
    """
    if state is None:
        return ProtocolError("forbidden", "There is no such user.")
    if state.deleted:
        return ProtocolError("forbidden", "The user has been deleted.")
    if state.status != "active":
        return ProtocolError("forbidden", "The user is banned.")
    revoked_at = state.tokens_revoked_at
    if revoked_at is not None and (issued_at is None or issued_at <= revoked_at.timestamp()):
        return ProtocolError("unauthenticated", "The token has been revoked.")
    return None


async def create_user(db: Database, project: str, body: UserBody) -> tuple[str, bytes]:
    """Create a user: its id and the user object. `conflict` (with field) if something is taken."""
    new = parse_new_user(body)
    try:
        return new.id, await rows.create_user(db, project, new)
    except StorageRefused as refused:
        explain_taken(refused)


def parse_new_user(body: UserBody) -> NewUser:
    """The checked user; raises ProtocolError naming the first field at fault."""
    user = str(uuid7()) if body.id is None else body.id
    if not is_user_id(user):
        raise ProtocolError("bad_request", "This is no user id.", "id")
    for field in ("username", "external_user_id"):
        check_name(getattr(body, field), field, may_be_empty=False)
    check_name(body.display_name, "display_name")
    check_email(body.email)
    check_url(body.avatar_url, "avatar_url")
    return NewUser(
        id=user,
        username=body.username,
        external_user_id=body.external_user_id,
        display_name=body.display_name,
        email=body.email,
        avatar_url=body.avatar_url,
        metadata=metadata_text(body.metadata),
    )


async def get_user(db: Database, project: str, user: str) -> bytes:
    """The user object; `not_found` if there is none."""
    found = await rows.fetch_user(db, project, user) if is_user_id(user) else None
    if found is None:
        raise ProtocolError("not_found", "There is no such user.")
    return found


async def require_active_user(db: Database, project: str, user: str) -> None:
    """Raise `not_found` unless the user lives, `forbidden` if it is banned."""
    state = await rows.fetch_state(db, project, user) if is_user_id(user) else None
    if state is None or state.deleted:
        raise ProtocolError("not_found", "There is no such user.")
    if state.status != "active":
        raise ProtocolError("forbidden", "The user is banned.")


def explain_taken(refused: StorageRefused) -> NoReturn:
    """Raise `conflict` naming the field that is taken, or what was refused otherwise."""
    field = _TAKEN.get(refused.constraint or "")
    if field is None:
        raise refused
    raise ProtocolError("conflict", f"This {field} is taken.", field) from None
