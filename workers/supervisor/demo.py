"""What a newcomer starts with: a project with an API key, two users, a room that both are in.

All of it is made over the REST API, as a customer would, but the key, which is made in the
database. Doing it again changes nothing: the key is kept beside the data, because it is stored
hashed and could not be shown a second time.
"""

from dataclasses import dataclass
from pathlib import Path

from broker.domain.api_keys import ApiKeys, create_api_key
from storage.postgres.pool import open_database
from workers.embedded.folder import write_private
from workers.supervisor.rest import Rest

PROJECT = "default"
USERS = {"alice": "Alice", "bob": "Bob"}
ROOM = "demo"
_KEY_FILE = "demo_api_key"
_TOKEN_TTL = "24h"


@dataclass(frozen=True, slots=True)
class Demo:
    """What the banner shows."""

    api_key: str
    tokens: dict[str, str]
    room: str


async def ensure_key(folder: Path, database_url: str) -> str:
    """The demo API key: the kept one if the database knows it, else a new one, kept in `folder`."""
    path = folder / _KEY_FILE
    async with open_database(database_url, pool_size=1) as database:
        try:
            key = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            key = ""
        if key and await ApiKeys(database).find_project(key) == PROJECT:
            return key
        _, key = await create_api_key(database, PROJECT)
    write_private(path, key + "\n")
    return key


async def ensure_demo(rest: Rest, key: str) -> Demo:
    """Make the users and the room where they are missing, and a token for each user.

    Raises RestFailed.
    """
    for user, name in USERS.items():
        profile = {"id": user, "username": user, "display_name": name}
        await rest.call("POST", "/v1/users", profile, accept=(409,))
    status, _ = await rest.call("GET", f"/v1/rooms/{ROOM}", accept=(404,))
    if status == 404:
        first, *others = USERS
        room = {"id": ROOM, "name": "Demo", "created_by": first, "members": others}
        await rest.call("POST", "/v1/rooms", room)
    tokens = {}
    for user in USERS:
        _, answer = await rest.call("POST", f"/v1/users/{user}/token", {"ttl": _TOKEN_TTL})
        tokens[user] = answer["token"]
    return Demo(api_key=key, tokens=tokens, room=ROOM)
