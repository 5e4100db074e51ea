"""Void credentials beside the table's own: each is refused before anything else, on every route.

A user who is banned from the project or deleted, and an API key that was revoked. Their answers do
not depend on the route, so they are no columns; the routes are the table's.
"""

import pytest
import trio

from broker.domain.api_keys import create_api_key, revoke_api_key
from storage.postgres.pool import open_database
from tests.matrix.table import ELSEWHERE, OPERATIONS, Elsewhere, Operation
from tests.matrix.world import World
from tests.support.http import request
from tests.support.raw_socket import open_raw_socket
from tests.support.tokens import make_token

ROUTES: list[Operation | Elsewhere] = [
    *OPERATIONS,
    *(row for row in ELSEWHERE if row.answer("nobody") == "U"),
]
VOID = {"banned from the project": "forbidden", "deleted": "forbidden", "revoked key": None}


@pytest.fixture(scope="module")
def credentials(world: World) -> dict[str, dict[str, str]]:
    """By kind: what a request sends. Each was good once, and made before it became void."""
    return trio.run(_make, world)


async def _make(world: World) -> dict[str, dict[str, str]]:
    shared = world.shared
    banned, deleted = f"banned-user-{world.suffix}", f"deleted-user-{world.suffix}"
    found = {
        "banned from the project": {"token": make_token(banned)},
        "deleted": {"token": make_token(deleted)},
    }
    for user in (banned, deleted):
        await shared.ok("POST", "/v1/users", {"id": user})
        await shared.ok("POST", f"/v1/rooms/{world.home}/members", {"user": user})
    await shared.ok("PATCH", f"/v1/users/{banned}", {"status": "banned"})
    await shared.ok("DELETE", f"/v1/users/{deleted}")
    async with open_database(shared.database_url, pool_size=1) as db:
        key_id, key = await create_api_key(db, "default")
        assert await revoke_api_key(db, key_id) == [key_id]
    return found | {"revoked key": {"key": key}}


@pytest.mark.parametrize("kind", VOID)
async def test_every_route(world: World, credentials: dict[str, dict[str, str]], kind: str) -> None:
    place = await world.place("group", "member")
    wrong = []
    for operation in ROUTES:
        assert world.shared.api is not None
        url = world.shared.api.base_url + place.path(operation.path)
        body, sent = place.fill(operation.body), credentials[kind]
        answer = await request(
            operation.method, url, body=body, key=sent.get("key"), token=sent.get("token")
        )
        if answer.json()["code"] != (VOID[kind] or "unauthenticated"):
            wrong.append(f"{operation.method} {operation.path}: {answer}")
    assert wrong == []


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("kind", [kind for kind in VOID if VOID[kind]])
async def test_no_frame_at_all(
    world: World, credentials: dict[str, dict[str, str]], kind: str, node: int
) -> None:
    token = credentials[kind]["token"]
    url = world.shared.brokers[node].url
    async with open_raw_socket(url, token, wait_hello=False) as socket:
        assert (await socket.wait_closed())[0] == 4403
