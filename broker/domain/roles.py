"""Who may do what in a room: one table, for REST and the WebSocket alike.

Pure: nothing here awaits, reads a clock or knows storage. The answer is never cached beyond the
`version` it was read with (the publish and subscribe scripts compare it).

- A member's role gives a fixed set of actions; each role has those of the one before it.
- A token's capabilities *add* to the role, never take from it: `join` is what a reader may do,
  `publish` what a member may do, `moderate` deleting others' messages and muting. They do not
  make anybody a member: what needs a row of the member table (reading marks) stays refused.
- A public room is visible to every user of its project, who may read it and join it.
- The project itself (an API key that names no user) may do everything.
- A direct or group room of others is answered exactly like one that does not exist. Only a key
  that acts for a user is told `not_a_member` there.
- A ban beats capabilities and the room's kind: a banned user is an outsider everywhere, and is told
  `forbidden` where the room can be known of (a public room).
- A blocked user is silenced in the direct room with whoever blocked it.

Which *targets* an admin may act on (never the owner) is decided with the change itself, under
the room's row lock, in `members`.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, Literal

Refusal = Literal["room_not_found", "not_a_member", "forbidden"]
Caller = Literal["project", "key_user", "user"]
"""The project acts by its key; a key acts for a user; a user acts by its own token."""

READER: Final = "reader"
MEMBER: Final = "member"
ADMIN: Final = "admin"
OWNER: Final = "owner"
ROLES: Final = (READER, MEMBER, ADMIN, OWNER)
"""In rising order; every action of one is an action of the next."""

CAPABILITIES: Final = ("join", "publish", "moderate")


class Action(enum.Enum):
    """What somebody may want to do in a room."""

    READ = "read"
    JOIN = "join"
    REACT = "react"
    MARK = "mark"
    PUBLISH = "publish"
    TYPE = "type"
    SIGNAL = "signal"
    EDIT_OWN = "edit_own"
    DELETE_OWN = "delete_own"
    DELETE_OTHERS = "delete_others"
    EDIT_ROOM = "edit_room"
    ADD_MEMBER = "add_member"
    REMOVE_MEMBER = "remove_member"
    MUTE = "mute"
    BAN = "ban"
    RANK = "rank"
    HAND_OVER = "hand_over"
    DELETE_ROOM = "delete_room"


_READER: Final = frozenset({Action.READ, Action.REACT, Action.MARK})
_MEMBER: Final = _READER | {
    Action.PUBLISH,
    Action.TYPE,
    Action.SIGNAL,
    Action.EDIT_OWN,
    Action.DELETE_OWN,
}
_ADMIN: Final = _MEMBER | {
    Action.DELETE_OTHERS,
    Action.EDIT_ROOM,
    Action.ADD_MEMBER,
    Action.REMOVE_MEMBER,
    Action.MUTE,
    Action.BAN,
    Action.RANK,
}
_OWNER: Final = _ADMIN | {Action.HAND_OVER, Action.DELETE_ROOM}

BY_ROLE: Final[Mapping[str, frozenset[Action]]] = MappingProxyType(
    {READER: _READER, MEMBER: _MEMBER, ADMIN: _ADMIN, OWNER: _OWNER}
)
_MEMBERS_ONLY: Final = frozenset({Action.MARK})
BY_CAPABILITY: Final[Mapping[str, frozenset[Action]]] = MappingProxyType(
    {
        "join": _READER - _MEMBERS_ONLY,
        "publish": _MEMBER - _MEMBERS_ONLY,
        "moderate": frozenset({Action.DELETE_OTHERS, Action.MUTE}),
    }
)
BY_KIND: Final[Mapping[str, frozenset[Action]]] = MappingProxyType(
    {"public": frozenset({Action.READ, Action.JOIN})}
)

_SILENCED: Final = frozenset(
    {Action.PUBLISH, Action.TYPE, Action.SIGNAL, Action.EDIT_OWN, Action.REACT}
)
"""What a muted or blocked member, or anybody below admin in a frozen room, may not do."""


def is_visible(kind: str, role: str | None, capabilities: Collection[str], caller: Caller) -> bool:
    """Whether the caller may learn that the room exists."""
    return (
        caller != "user"
        or role is not None
        or kind == "public"
        or any(capability in BY_CAPABILITY for capability in capabilities)
    )


def is_allowed(action: Action, kind: str, role: str | None, capabilities: Collection[str]) -> bool:
    """Whether role, capabilities or the room's kind give a user this action."""
    if role is not None and action in BY_ROLE.get(role, frozenset()):
        return True
    if action in BY_KIND.get(kind, frozenset()):
        return True
    return any(action in BY_CAPABILITY.get(name, frozenset()) for name in capabilities)


def refusal(
    action: Action,
    *,
    kind: str,
    role: str | None,
    capabilities: Collection[str] = (),
    caller: Caller = "user",
    banned: bool = False,
) -> Refusal | None:
    """Why the action is refused, as an error code; None if it is allowed.

    `role` is the stored one (None: no member). Unknown roles and capabilities give nothing.
    """
    if banned and caller != "project":
        return "room_not_found" if kind != "public" and caller == "user" else "forbidden"
    if caller == "project" or is_allowed(action, kind, role, capabilities):
        return None
    if not is_visible(kind, role, capabilities, caller):
        return "room_not_found"
    # Who sees a private room without being a member has a capability that does not suffice.
    is_stranger = role is None and (kind == "public" or caller == "key_user")
    return "not_a_member" if is_stranger or action in _MEMBERS_ONLY else "forbidden"


def is_silenced(
    action: Action,
    *,
    role: str | None,
    capabilities: Collection[str] = (),
    frozen: bool,
    muted: bool,
    blocked: bool = False,
) -> bool:
    """Whether an otherwise allowed action is `forbidden` now: the member is muted or blocked, or
    the room is frozen and the caller neither administers nor moderates it. Reading never is."""
    if action not in _SILENCED:
        return False
    if muted or blocked:
        return True
    return frozen and role not in (ADMIN, OWNER) and "moderate" not in capabilities
