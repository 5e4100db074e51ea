"""Who may do what: the one table. `docs/permissions.md` is rendered from it, every cell is tried.

What stands here is the contract, not what the code happens to do. A *right* says, for each kind of
room, what everybody in turn is answered; an *operation* is a client frame or a route that takes a
right. A letter is an answer (`ANSWERS`), in the order of the columns of that kind of room; a space
only groups. Operations that are about no room have a right of their own, by credential alone.

An operation that the code has and this table has not fails a test, and so does the reverse.
"""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

ANSWERS: Final = MappingProxyType(
    {
        "+": "done",
        "U": "unauthenticated",
        "E": "token_expired",
        "B": "bad_request",
        "R": "room_not_found",
        "N": "not_found",
        "M": "not_a_member",
        "F": "forbidden",
        "X": "message_not_found",
        "C": "conflict",
        ".": "",
    }
)
STATUS: Final = MappingProxyType(
    {
        "unauthenticated": 401,
        "token_expired": 401,
        "bad_request": 400,
        "room_not_found": 404,
        "not_found": 404,
        "not_a_member": 403,
        "forbidden": 403,
        "message_not_found": 404,
        "conflict": 409,
    }
)

COLUMNS: Final = MappingProxyType(
    {
        "outsider": "no member of the room, and never was",
        "reader": "a member with this role",
        "member": "a member with this role",
        "admin": "a member with this role",
        "owner": "a member with this role; there are other members",
        "muted": "a `member` whose `muted_until` lies ahead",
        "banned": "a member until the ban",
        "blocked": "a member of a direct room whom the other one has blocked",
        "key": "an API key of the project, acting as the project",
        "key_outsider": "the key with the `user_id` of an outsider",
        "key_member": "the key with the `user_id` of a member",
        "key_banned": "the key with the `user_id` of who is banned",
        "join": "an outsider's token with the capability `join` in the room",
        "publish": "an outsider's token with the capability `publish`",
        "moderate": "an outsider's token with the capability `moderate`",
        "stranger": "a token of another project, for a user of the same id as a member",
        "other_key": "an API key of another project",
        "revoked": "a member's token that was issued before its tokens were revoked",
        "expired": "a member's token after its `exp`",
        "nobody": "no credential",
    }
)
KEYS: Final = frozenset({"key", "key_outsider", "key_member", "key_banned", "other_key"})
"""Columns that are no user of the WebSocket."""

_CAPABILITIES: Final = ("join", "publish", "moderate")
_LAST: Final = ("stranger", "other_key", "revoked", "expired", "nobody")
_OPEN: Final = (
    *("outsider", "reader", "member", "admin", "owner", "muted", "banned"),
    *("key", "key_outsider", "key_member", "key_banned"),
    *_CAPABILITIES,
)
KINDS: Final = MappingProxyType(
    {
        "group": (*_OPEN, *_LAST),
        "public": (*_OPEN, *_LAST),
        "direct": (
            *("outsider", "member", "muted", "blocked"),
            *("key", "key_outsider", "key_member"),
            *_CAPABILITIES,
            *_LAST,
        ),
    }
)


@dataclass(frozen=True)
class Right:
    """What everybody is answered, by kind of room; a kind that is missing can not be tried.

    `strangers` are the answers to another project's token and key. Void tokens are refused before
    all else, so they stand in no right.
    """

    name: str
    group: str = ""
    public: str = ""
    direct: str = ""
    strangers: str = "RR"

    def answer(self, kind: str, column: str) -> str:
        """The answer's letter."""
        if column in ("revoked", "expired", "nobody"):
            return {"expired": "E"}.get(column, "U")
        letters = getattr(self, kind).replace(" ", "") + self.strangers
        return str(letters[KINDS[kind].index(column)])

    @property
    def kinds(self) -> list[str]:
        """The kinds of rooms it can be tried in."""
        return [kind for kind in KINDS if getattr(self, kind)]


# group, public: outsider reader member admin owner muted banned
#                key, key as outsider, as member, as banned     join publish moderate
# direct:        outsider member muted blocked     key, key as outsider, as member
READ: Final = Right("read", "R+++++R +M+F ++F", "++++++F +++F +++", "R+++ +M+ ++F")
PUBLISH: Final = Right(
    "publish, type, signal", "RF+++FR +M+F F+F", "MF+++FF +M+F M+M", "R+FF +M+ F+F"
)
FAVOR: Final = Right(
    "mark for oneself", "R+++++R BM+F ++F", "++++++F B++F +++", "R+++ BM+ ++F", "RB"
)
REACT: Final = Right("react", "R++++FR BM+F ++F", "M++++FF BM+F ++M", "R+FF BM+ ++F", "RB")
EDIT_OWN: Final = Right(
    "edit one's own message", "RF+++FR +M+F F+F", "MF+++FF +M+F M+M", "R+FF +M+ F+F"
)
EDIT_OTHERS: Final = Right(
    "edit another's message", "RFFFFFR +MFF FFF", "MFFFFFF +MFF MFM", "RFFF +MF FFF"
)
DELETE_OWN: Final = Right(
    "delete one's own message", "RF++++R +M+F F++", "MF++++F +M+F M++", "R+++ +M+ F++"
)
DELETE_OTHERS: Final = Right(
    "delete another's message", "RFF++FR +MFF FF+", "MFF++FF +MFF MM+", "RFFF +MF FF+"
)
JOIN: Final = Right("join", "R+++++R B++F FFF", "++++++F B++F +++", "RCCC BCC CCC", "RB")
LEAVE: Final = Right("leave", "R+++C++ B+++ +++", "++++C++ B+++ +++", "RCCC BCC CCC", "RB")
REMOVE_ONESELF: Final = Right(
    "end one's own membership", "R+++C+R .+++ +++", "++++C++ .+++ +++", "RCCC .CC CCC"
)
MANAGE: Final = Right("manage members", "RFF++FR +MFF FFF", "MFF++FF +MFF MMM", "RCCC CMC CCC")
MUTE: Final = Right("mute", "RFF++FR +MFF FF+", "MFF++FF +MFF MM+", "RFFF +MF FF+")
HAND_OVER: Final = Right("hand over", "RFFF+FR +MFF FFF", "MFFF+FF +MFF MMM", "RCCC CMC CCC")
TOUCH_OWNER: Final = Right("remove, rank or ban the owner", "RFFFCFR CMFF FFF", "MFFFCFF CMFF MMM")
MUTE_OWNER: Final = Right("mute the owner", "RFFFFFR +MFF FFF", "MFFFFFF +MFF MMF")
EDIT_ROOM: Final = Right(
    "edit the room, see its bans", "RFF++FR +MFF FFF", "MFF++FF +MFF MMM", "RFFF +MF FFF"
)
DELETE_ROOM: Final = Right(
    "delete the room", "RFFF+FR +MFF FFF", "MFFF+FF +MFF MMM", "RFFF +MF FFF"
)
MARK: Final = Right("mark as read", "R+++++R BM+F MMM", "M+++++F BM+F MMM", "R+++ BM+ MMM", "RB")
RECEIPTS: Final = Right("see receipts", "R+++++R +M+F MMM", "M+++++F +M+F MMM", "R+++ +M+ MMM")
SHARE: Final = Right(
    "see a member's presence", "N+++++N +N+N NNN", "N+++++N +N+N NNN", "N+++ +N+ NNN", "NN"
)
UNSUBSCRIBE: Final = Right(
    "unsubscribe", "+++++++ .... +++", "+++++++ .... +++", "++++ ... +++", "+."
)
RIGHTS: Final = (
    READ, PUBLISH, FAVOR, REACT, EDIT_OWN, EDIT_OTHERS, DELETE_OWN, DELETE_OTHERS, JOIN, LEAVE,
    REMOVE_ONESELF, MANAGE, MUTE, HAND_OVER, TOUCH_OWNER, MUTE_OWNER, EDIT_ROOM, DELETE_ROOM,
    MARK, RECEIPTS, SHARE, UNSUBSCRIBE,
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A client frame about a room. Names in braces are filled in by the test."""

    type: str
    right: Right
    fields: dict[str, Any] = field(default_factory=dict)
    what: str = ""
    changes: bool = False
    """Done, it changes what the next cell would find."""


@dataclass(frozen=True)
class Operation:
    """A route about a room; `status` are the answers when it is done."""

    method: str
    path: str
    right: Right
    status: tuple[int, ...] = (200,)
    body: Any = None
    what: str = ""
    changes: bool = False
    by_id: bool = False
    """A message by its id alone: a room that one may not know of is `message_not_found`."""

    def answer(self, kind: str, column: str) -> str:
        """The answer's letter."""
        letter = self.right.answer(kind, column)
        return "X" if letter == "R" and self.by_id else letter


TEXT: Final = {"content": "text"}
_ROOM: Final = "/v1/rooms/{room}"
_MESSAGES: Final = f"{_ROOM}/messages"
_OTHERS: Final = _MESSAGES + "/{other}"
_OWN: Final = _MESSAGES + "/{own}"
_MEMBER: Final = _ROOM + "/members/{victim}"
_OWNER: Final = _ROOM + "/members/{owner}"
_MUTED: Final = {"muted_until": "2100-01-01T00:00:00Z"}

COMMANDS: Final = (
    Command("subscribe", READ),
    Command("unsubscribe", UNSUBSCRIBE),
    Command("publish", PUBLISH, TEXT),
    Command("edit", EDIT_OWN, {"seq": "{own}", "content": "edited"}, "one's own"),
    Command("edit", EDIT_OTHERS, {"seq": "{other}", "content": "edited"}, "another's"),
    Command("delete", DELETE_OWN, {"seq": "{own}"}, "one's own", changes=True),
    Command("delete", DELETE_OTHERS, {"seq": "{other}"}, "another's", changes=True),
    Command("react", REACT, {"seq": "{other}", "reaction": "👍"}),
    Command("unreact", REACT, {"seq": "{other}", "reaction": "👍"}),
    Command("read", MARK, {"seq": "{other}"}),
    Command("delivered", MARK, {"seq": "{other}"}),
    Command("typing", PUBLISH, {"active": True}),
    Command("signal", PUBLISH, {"name": "poke", "data": {}}),
    Command("presence", READ),
    Command("history", READ),
)

OPERATIONS: Final = (
    Operation("GET", _ROOM, READ),
    Operation("PATCH", _ROOM, EDIT_ROOM, body={"topic": "{any}"}),
    Operation("DELETE", _ROOM, DELETE_ROOM, (204,), changes=True),
    Operation("POST", f"{_ROOM}/join", JOIN, changes=True),
    Operation("POST", f"{_ROOM}/leave", LEAVE, (204,), changes=True),
    Operation("GET", f"{_ROOM}/search?q=text", READ),
    Operation("POST", f"{_ROOM}/read", MARK),
    Operation("GET", f"{_ROOM}/receipts", RECEIPTS),
    Operation("GET", f"{_OTHERS}/recipients", READ),
    Operation("GET", f"{_ROOM}/presence", READ),
    Operation("GET", "/v1/users/{victim}/presence", SHARE),
    Operation("GET", f"{_ROOM}/members", READ),
    Operation("POST", f"{_ROOM}/members", MANAGE, (200, 201), {"user": "{newcomer}"}),
    Operation("PATCH", _MEMBER, MANAGE, body={"role": "reader"}, what="`role`"),
    Operation("PATCH", _MEMBER, MUTE, body=_MUTED, what="`muted_until`"),
    Operation("PATCH", _MEMBER, HAND_OVER, body={"role": "owner"}, what="owner", changes=True),
    Operation("PATCH", _OWNER, TOUCH_OWNER, body={"role": "member"}, what="the owner's `role`"),
    Operation("PATCH", _OWNER, MUTE_OWNER, body=_MUTED, what="the owner's `muted_until`"),
    Operation("DELETE", _MEMBER, MANAGE, (204,), what="another", changes=True),
    Operation("DELETE", _OWNER, TOUCH_OWNER, (204,), what="the owner"),
    Operation(
        "DELETE", f"{_ROOM}/members/{{self}}", REMOVE_ONESELF, (204,), what="oneself", changes=True
    ),
    Operation("GET", f"{_ROOM}/bans", EDIT_ROOM),
    Operation("PUT", f"{_ROOM}/bans/{{victim}}", MANAGE, (204,), changes=True),
    Operation("PUT", f"{_ROOM}/bans/{{owner}}", TOUCH_OWNER, (204,), what="the owner"),
    Operation("DELETE", f"{_ROOM}/bans/{{victim}}", MANAGE, (204,)),
    Operation("POST", _MESSAGES, PUBLISH, (201,), TEXT),
    Operation("GET", _MESSAGES, READ),
    Operation("GET", _OTHERS, READ),
    Operation("PATCH", _OWN, EDIT_OWN, body={"content": "edited"}, what="one's own"),
    Operation("PATCH", _OTHERS, EDIT_OTHERS, body={"content": "edited"}, what="another's"),
    Operation("DELETE", _OWN, DELETE_OWN, (204,), what="one's own", changes=True),
    Operation("DELETE", _OTHERS, DELETE_OTHERS, (204,), what="another's", changes=True),
    Operation("GET", f"{_OTHERS}/replies", READ),
    Operation("GET", f"{_OTHERS}/reactions", READ),
    Operation("PUT", f"{_OTHERS}/reactions/up", REACT, (204,)),
    Operation("DELETE", f"{_OTHERS}/reactions/up", REACT, (204,)),
    Operation("PUT", f"{_OTHERS}/favorite", FAVOR, (204,)),
    Operation("DELETE", f"{_OTHERS}/favorite", FAVOR, (204,)),
    Operation("POST", f"{_OTHERS}/forward", READ, (201,), {"room": "{home}"}),
    Operation("GET", "/v1/messages/{other_id}", READ, by_id=True),
    Operation(
        "PATCH", "/v1/messages/{own_id}", EDIT_OWN, body={"content": "edited"},
        what="one's own", by_id=True,
    ),
    Operation(
        "PATCH", "/v1/messages/{other_id}", EDIT_OTHERS, body={"content": "edited"},
        what="another's", by_id=True,
    ),
    Operation(
        "DELETE", "/v1/messages/{own_id}", DELETE_OWN, (204,),
        what="one's own", by_id=True, changes=True,
    ),
    Operation(
        "DELETE", "/v1/messages/{other_id}", DELETE_OTHERS, (204,),
        what="another's", by_id=True, changes=True,
    ),
)  # fmt: skip

CREDENTIALS: Final = MappingProxyType(
    {
        "token": "a user's token",
        "key": COLUMNS["key"],
        "key_user": "the key with the `user_id` of a user",
        "other_key": COLUMNS["other_key"],
        "stranger": COLUMNS["stranger"],
        "revoked": COLUMNS["revoked"],
        "expired": COLUMNS["expired"],
        "nobody": COLUMNS["nobody"],
    }
)


@dataclass(frozen=True)
class Elsewhere:
    """A route that is about no room: its answers by credential, in the order of CREDENTIALS.

    The letters end with the other project's token: void credentials are refused before all else,
    unless the route is `free` and asks for none.
    """

    method: str
    path: str
    answers: str
    status: tuple[int, ...] = (200,)
    body: Any = None
    what: str = ""
    changes: bool = False
    free: bool = False

    def answer(self, column: str) -> str:
        """The answer's letter."""
        void = 3 * self.answers[0] if self.free else "UEU"
        return (self.answers + void)[list(CREDENTIALS).index(column)]


_USER: Final = "/v1/users/{victim}"
_DIRECT: Final = {"kind": "direct", "members": ["{self}", "{victim}"]}
_APART: Final = {"kind": "direct", "members": ["{victim}", "{owner}"]}

# token, key, key for a user, another project's key, another project's token
ELSEWHERE: Final = (
    Elsewhere("GET", "/v1/project", "F+++F"),
    Elsewhere("GET", "/v1/audit", "F+++F"),
    Elsewhere("GET", "/v1/auth/verify", "+UUU+"),
    Elsewhere("POST", "/v1/users", "F+++F", (201,), {}),
    Elsewhere("GET", "/v1/users", "F+++F", what="all of them"),
    Elsewhere("GET", "/v1/users?ids={victim}", "+++++", what="names, by `ids`"),
    Elsewhere("GET", _USER, "F++NF"),
    Elsewhere("PATCH", _USER, "F++NF", body={"display_name": "{any}"}),
    Elsewhere("DELETE", _USER, "F++NF", (204,), changes=True),
    Elsewhere("POST", f"{_USER}/token", "F++NF", body={}),
    Elsewhere("DELETE", f"{_USER}/tokens", "F++NF", (204,)),
    Elsewhere("GET", f"{_USER}/export", "F++NF"),
    Elsewhere("GET", f"{_USER}/rooms", "F++NF"),
    Elsewhere("GET", "/v1/me/rooms", "+UUU+"),
    Elsewhere("GET", "/v1/me/favorites", "+UUU+"),
    Elsewhere("GET", "/v1/me", "+UUU+"),
    Elsewhere("PATCH", "/v1/me", "+UUU+", body={"metadata": {}}),
    Elsewhere("GET", "/v1/me/blocks", "+UUU+"),
    Elsewhere("PUT", "/v1/me/blocks/{victim}", "+UUUN", (204,)),
    Elsewhere("DELETE", "/v1/me/blocks/{victim}", "+UUU+", (204,)),
    Elsewhere("POST", "/v1/rooms", "+++++", (201,), {}, what="group"),
    Elsewhere("POST", "/v1/rooms", "F+++F", (201,), {"kind": "public"}, what="public"),
    Elsewhere("POST", "/v1/rooms", "+.+.N", (200, 201), _DIRECT, what="direct, with oneself in it"),
    Elsewhere(
        "POST", "/v1/rooms", "F+++F", (200, 201), _APART, what="direct, of two others", changes=True
    ),
    Elsewhere("GET", "/v1/rooms", "+++++", what="all (token: the public ones)"),
    Elsewhere("GET", "/v1/rooms?kind=group", "F+++F", what="`kind` direct or group"),
    Elsewhere("POST", "/v1/messages", "F+++F", (201,), [TEXT | {"room": "{home}"}]),
    Elsewhere("GET", "/healthz", "+++++", free=True),
    Elsewhere("GET", "/readyz", "+++++", free=True),
    Elsewhere("GET", "/", "+++++", free=True),
    Elsewhere("GET", "/page/main.js", "+++++", free=True),
    Elsewhere("GET", "/page.json", "+++++", free=True),
    Elsewhere("POST", "/page/token", "NNNNN", body={"user": "alice"}, free=True),
    Elsewhere("GET", "/parley.js", "+++++", free=True),
)
