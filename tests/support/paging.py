"""Reads the whole of a room in every way that history can be paged; all ways must agree."""

from typing import Any

from tests.support.client import ChatClient
from tests.support.deployment import Deployment, room_path


async def read_backwards(system: Deployment, room: str, limit: int) -> list[dict[str, Any]]:
    """From the newest page by `previous`."""
    messages: list[dict[str, Any]] = []
    page = await system.page(room, f"?limit={limit}")
    assert not page["has_more_after"]
    while True:
        messages[:0] = page["items"]
        assert page["has_more_before"] == (page["previous"] is not None)
        if page["previous"] is None:
            return messages
        page = await system.ok("GET", page["previous"])
        assert page["has_more_after"]


async def read_numbered(system: Deployment, room: str, limit: int) -> list[dict[str, Any]]:
    """By `page`, from 1 (the newest) to the last."""
    messages: list[dict[str, Any]] = []
    number, pages = 1, 1
    while number <= pages:
        page = await system.page(room, f"?page={number}&limit={limit}")
        pages = page["totalPages"]
        messages[:0] = page["items"]
        number += 1
    assert page["total"] == len(messages)
    return messages


async def read_skipping(system: Deployment, room: str, limit: int) -> list[dict[str, Any]]:
    """By `skip`, counted from the newest."""
    messages: list[dict[str, Any]] = []
    while True:
        page = await system.page(room, f"?skip={len(messages)}&limit={limit}")
        if not page["items"]:
            assert page["total"] == len(messages)
            return messages
        messages[:0] = page["items"]


async def read_around(system: Deployment, room: str, newest: int, limit: int) -> list[Any]:
    """By `around`, each page beginning where the one before it ended."""
    messages: list[dict[str, Any]] = []
    for seq in range(1 + limit // 2, newest + limit, limit):
        page = await system.page(room, f"?around={seq}&limit={limit}")
        done = messages[-1]["seq"] if messages else 0
        messages += [message for message in page["items"] if message["seq"] > done]
    return messages


async def read_by_socket(client: ChatClient, room: str, limit: int) -> list[dict[str, Any]]:
    """By the WebSocket's `history`, backwards, then checked forwards."""
    messages: list[dict[str, Any]] = []
    bound: dict[str, int] = {}
    while True:
        page = await client.call("history", room=room, limit=limit, **bound)
        messages[:0] = page["messages"]
        if not page["has_more"]:
            break
        bound = {"before": messages[0]["seq"]}
    forwards: list[dict[str, Any]] = []
    while True:
        after = forwards[-1]["seq"] if forwards else 0
        page = await client.call("history", room=room, limit=limit, after=after)
        forwards += page["messages"]
        if not page["has_more"]:
            break
    assert forwards == messages
    return messages


async def read_everything(
    system: Deployment, room: str, *, client: ChatClient, limit: int = 100
) -> list[dict[str, Any]]:
    """The room's messages after all ways of reading them have agreed; some also one by one.

    `client` is somebody who may read the room; its own reactions do not matter here.
    """
    messages = await system.whole_history(room, limit=limit)
    newest = messages[-1]["seq"] if messages else 0
    assert await read_backwards(system, room, limit) == messages
    assert await read_numbered(system, room, limit) == messages
    assert await read_skipping(system, room, limit) == messages
    assert await read_around(system, room, newest, limit) == messages
    assert await read_by_socket(client, room, limit) == messages
    for message in messages[:: max(1, len(messages) // 5)]:
        for wanted in (message["seq"], message["id"]):
            found = await system.ok("GET", f"{room_path(room)}/messages/{wanted}")
            assert found == message
    return messages
