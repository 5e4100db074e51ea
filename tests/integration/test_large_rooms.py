"""A room with more than SENDS_PER_TURN subscriptions gets its events in portions, under change."""

from contextlib import AsyncExitStack

import trio

from config.spreading_limits import SENDS_PER_TURN
from tests.integration.conftest import Start
from tests.support.lean_client import LeanClient, open_lean_client
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

ROOM = "hall"
USERS = [f"user{number}" for number in range(10)]
CONNECTIONS = SENDS_PER_TURN + 12  # by turns of the ten users
MESSAGES = 60
WINDOW = 6


async def publish(client: LeanClient, count: int) -> None:
    for start in range(0, count, WINDOW):
        await client.call_all(
            "publish", [{"room": ROOM, "content": f"{start + n}"} for n in range(WINDOW)]
        )


async def test_events_in_portions_while_people_are_removed_and_leave_and_come(
    start: Start,
) -> None:
    """Nobody misses one, gets one twice or out of order; nobody gets one after its own removal."""
    system = await start(brokers=1, archiver=False, RATE_MESSAGES_PER_SECOND="10000")
    await system.create_room(ROOM, "speaker", *USERS)
    url = system.brokers[0].url
    async with AsyncExitStack() as stack:

        async def enter(user: str) -> LeanClient:
            return await stack.enter_async_context(open_lean_client(url, make_token(user)))

        speakers = [await enter("speaker") for _ in range(2)]
        crowd = [await enter(USERS[number % 10]) for number in range(CONNECTIONS)]
        begins_at: dict[LeanClient, int] = {}
        for client in crowd:
            begins_at[client] = int(str((await client.call("subscribe", room=ROOM))["offset"]))
        leaving, late = crowd[10:20], [await enter(USERS[1]) for _ in range(10)]

        async def come() -> None:
            for client in late:
                begins_at[client] = int(str((await client.call("subscribe", room=ROOM))["offset"]))

        async def leave() -> None:
            for client in leaving:
                await client.call("unsubscribe", room=ROOM)

        async def remove() -> None:
            await wait_until(lambda: len(crowd[5].events[ROOM]) > MESSAGES // 2)
            assert (await system.remove_member(ROOM, USERS[0])).status == 204

        async with trio.open_nursery() as nursery:
            for speaker in speakers:
                nursery.start_soon(publish, speaker, MESSAGES)
            nursery.start_soon(come)
            nursery.start_soon(leave)
            nursery.start_soon(remove)
        await publish(speakers[0], WINDOW)
        last = 2 * MESSAGES + WINDOW + 1  # with the removal

        def offsets(client: LeanClient) -> list[int]:
            return [seen.offset for seen in client.events[ROOM]]

        removed = crowd[0:CONNECTIONS:10]
        stayed = [client for client in (*crowd, *late) if client not in (*removed, *leaving)]
        await wait_until(lambda: all(offsets(client)[-1:] == [last] for client in stayed))
        for client in stayed:
            assert offsets(client) == list(range(begins_at[client] + 1, last + 1))
        for client in (*removed, *leaving):
            got = offsets(client)
            assert got == list(range(begins_at[client] + 1, begins_at[client] + 1 + len(got)))
        for client in removed:
            if client not in leaving:
                assert client.events[ROOM][-1].event == "member.removed"
