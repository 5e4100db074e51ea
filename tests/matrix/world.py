"""The people, rooms and credentials that the table's columns speak of, on the shared deployment.

`World.place` gives the room of a cell: one for each kind and column, made once, and a fresh one
where what the cell does would change what another finds. Everybody is somebody else in every
column, so that two cells never meet.
"""

import uuid
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote

import trio

from broker.domain.api_keys import create_api_key
from storage.postgres.pool import open_database
from tests.matrix.table import COLUMNS, KEYS
from tests.support.deployment import Deployment
from tests.support.http import Response, request
from tests.support.tokens import make_token

OTHER_PROJECT = "another"
_CAPABILITIES = ("join", "publish", "moderate")
_USERS_OF_KEYS = {"key_outsider", "key_member", "key_banned", "key_user"}
# Who is a member of their room, at least at first.
_MEMBERS = {
    "reader", "member", "admin", "owner", "muted", "banned", "blocked", "key_member", "key_banned",
    "revoked", "expired",
}  # fmt: skip
_TOGETHER = 8
"""Requests on their way at once: an api answers no faster with more."""


@dataclass(frozen=True)
class Place:
    """What the names in braces of the table are, in one cell."""

    kind: str
    column: str
    room: str
    own: int
    own_id: str
    other: int
    other_id: str
    victim: str
    owner: str
    self: str
    home: str
    newcomer: str
    any: str = ""

    def fill(self, template: Any) -> Any:
        """A copy of a body or frame with the names filled in; a lone number stays a number."""
        if isinstance(template, dict):
            return {name: self.fill(value) for name, value in template.items()}
        if isinstance(template, list):
            return [self.fill(value) for value in template]
        if template in ("{own}", "{other}"):
            return getattr(self, template[1:-1])
        if isinstance(template, str) and "{" in template:
            return template.format(**self._names())
        return template

    def path(self, template: str) -> str:
        """A path with the names filled in, percent-encoded."""
        return template.format(**{n: quote(str(v), safe="") for n, v in self._names().items()})

    def _names(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class World:
    """Makes places and acts in them; get it from `open_world`."""

    def __init__(self, shared: Deployment, other_key: str) -> None:
        self.shared = shared
        self.suffix = uuid.uuid4().hex[:8]
        self.home = f"home-{self.suffix}"
        self._other_key = other_key
        self._numbers = count(1)
        self._places: dict[tuple[str, str], Place] = {}
        self._void_token = ""

    def user(self, column: str) -> str:
        """The user of a column."""
        return f"{'member' if column == 'stranger' else column}-{self.suffix}"

    # --- credentials --------------------------------------------------------------------------

    def token(self, column: str, *rooms: str) -> str | None:
        """The column's token; capabilities are for `rooms`."""
        if column == "nobody":
            return None
        if column == "revoked":
            return self._void_token
        claims: dict[str, Any] = {}
        if column in _CAPABILITIES:
            claims["rooms"] = {room: [column] for room in rooms}
        if column == "stranger":
            claims["project"] = OTHER_PROJECT
        if column == "expired":
            claims["ttl"] = -60.0
        return make_token(self.user(column), **claims)

    async def send(
        self, column: str, method: str, path: str, body: Any = None, *, room: str = ""
    ) -> Response:
        """One request with the column's credential."""
        credential: dict[str, Any] = {}
        if column in _USERS_OF_KEYS:
            separator = "&" if "?" in path else "?"
            path += f"{separator}user_id={quote(self.user(column))}"
        if column == "other_key":
            credential["key"] = self._other_key
        elif column in KEYS or column == "key_user":
            credential["key"] = self.shared.key
        else:
            credential["token"] = self.token(column, room)
        assert self.shared.api is not None
        return await request(method, self.shared.api.base_url + path, body=body, **credential)

    # --- places -------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make the users, the room that all are in, and the token that is void."""
        users = [self.user(column) for column in (*COLUMNS, "token", "key_user", "newcomer")]
        users = list(dict.fromkeys(users))
        await self.shared.create_room(self.home, *users)
        body = {"id": self.home}
        answer = await self.send("other_key", "POST", "/v1/rooms", body)
        assert answer.status == 201, answer
        revoked = self.user("revoked")
        self._void_token = make_token(revoked)
        await self.shared.ok("DELETE", f"/v1/users/{revoked}/tokens")

    async def place(self, kind: str, column: str, *, fresh: bool = False) -> Place:
        """The room of this kind in which the column's user stands as it says."""
        known = self._places.get((kind, column))
        if known is not None and not fresh:
            return known
        made = await self._make(kind, column)
        if not fresh:
            self._places[kind, column] = made
        return made

    async def _make(self, kind: str, column: str) -> Place:
        number = f"{next(self._numbers)}-{self.suffix}"
        room, actor = f"{kind}-{number}", self.user(column)
        victim, owner = f"victim{number}", f"owner{number}"
        is_member = column in _MEMBERS
        if column == "owner":
            owner = actor
        members = [victim, *([actor] if is_member and column != "owner" else [])]
        fields: dict[str, Any] = {"kind": kind, "created_by": owner, "members": members}
        if kind == "direct":
            fields = {"kind": kind, "members": [victim, actor if is_member else owner]}
        await self.shared.ok("POST", "/v1/rooms", {"id": room, **fields})
        other = await self._write(room, {"user_id": victim})
        own = other
        if is_member:
            own = await self._write(room, {"user_id": actor})
        elif column == "key":
            own = await self._write(room, {})
        elif column in _CAPABILITIES:
            token = make_token(actor, rooms={room: ["publish"]})
            own = await self._write(room, {}, token=token)
        await self._take_standing(room, column, victim)
        return Place(
            kind, column, room, own["seq"], own["id"], other["seq"], other["id"], victim, owner,
            actor, self.home, self.user("newcomer"), number,
        )  # fmt: skip

    async def _write(self, room: str, body: dict[str, Any], token: str | None = None) -> Any:
        assert self.shared.api is not None
        url = f"{self.shared.api.base_url}/v1/rooms/{room}/messages"
        key = self.shared.key if token is None else None
        answer = await request("POST", url, body={"content": "text"} | body, key=key, token=token)
        assert answer.status == 201, answer
        return answer.json()

    async def _take_standing(self, room: str, column: str, victim: str) -> None:
        """From a member to what the column says."""
        actor = self.user(column)
        member = f"/v1/rooms/{room}/members/{actor}"
        match column:
            case "reader" | "admin":
                await self.shared.ok("PATCH", member, {"role": column})
            case "muted":
                await self.shared.ok("PATCH", member, {"muted_until": "2100-01-01T00:00:00Z"})
            case "banned" | "key_banned":
                await self.shared.ok("PUT", f"/v1/rooms/{room}/bans/{actor}")
            case "blocked":
                await self.shared.ok("PUT", f"/v1/me/blocks/{actor}", user=victim)

    def state(self, place: Place) -> dict[str, str]:
        """What of the room only a change moves."""
        found = self.shared.room_hash(place.room)
        return {name: found[name] for name in ("offset", "seq", "ver")}


def limiter() -> trio.CapacityLimiter:
    """For the cells of one test: some at once."""
    return trio.CapacityLimiter(_TOGETHER)


async def open_world(shared: Deployment) -> World:
    """A world on the shared deployment."""
    async with open_database(shared.database_url, pool_size=1) as db:
        _, other_key = await create_api_key(db, OTHER_PROJECT)
    world = World(shared, other_key)
    await world.prepare()
    return world
