"""How much one connection may ask, and what asking for more costs it, and nobody else."""

import json
from collections.abc import Callable

import pytest
import trio

from tests.integration.conftest import strict_token
from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment
from tests.support.processes import ServerProcess
from tests.support.raw_socket import open_raw_socket
from tests.support.waiting import wait_until

Name = Callable[[str], str]

# The strict broker: 10 messages a second, twice that at once, and ten times that of the rest.
BURST = 20
OTHER_BURST = 200


def refused(client: ChatClient) -> list[dict[str, object]]:
    return [frame for frame in client.frames if frame["type"] == "error"]


async def test_messages_above_the_rate(
    shared: Deployment, strict_broker: ServerProcess, name: Name
) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with ChatClient.connect(strict_broker.url, strict_token(alice)) as client:
        for number in range(BURST + 20):
            frame = {"type": "publish", "id": number, "room": room, "content": f"{number}"}
            await client.send(frame)
        await client.wait(lambda: len(client.frames) > BURST + 20)
        errors = refused(client)
        assert {error["code"] for error in errors} == {"rate_limited"}
        # A machine that takes its time lets some more through.
        assert 10 <= len(errors) <= 20
        for error in errors:
            assert error["field"] is None
            assert isinstance(error["retry_after"], float)
            assert 0 < error["retry_after"] <= 0.11
        accepted = BURST + 20 - len(errors)
        history = await client.call("history", room=room, limit=100)
        assert [m["content"] for m in history["messages"]][:BURST] == [
            f"{number}" for number in range(BURST)
        ]
        assert len(history["messages"]) == accepted
        # What was refused is simply sent again after that time.
        pause = errors[-1]["retry_after"]
        assert isinstance(pause, float)
        due = trio.current_time() + pause
        await wait_until(lambda: trio.current_time() >= due)
        await client.publish(room, "later")


async def test_changes_of_messages_count_as_messages(
    shared: Deployment, strict_broker: ServerProcess, name: Name
) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    await shared.post(room, "text", alice)
    frames: list[dict[str, object]] = [
        {"type": "edit", "content": "x"},
        {"type": "react", "reaction": "x"},
        {"type": "unreact", "reaction": "x"},
        {"type": "delete"},
    ]
    async with ChatClient.connect(strict_broker.url, strict_token(alice)) as client:
        for number in range(BURST + 20):
            await client.send(frames[number % 4] | {"id": number, "room": room, "seq": 1})
        await client.wait(lambda: len(client.frames) > BURST + 20)
        limited = [error for error in refused(client) if error["code"] == "rate_limited"]
        assert 10 <= len(limited) <= 20


async def test_other_frames_have_a_rate_of_their_own(
    strict_broker: ServerProcess, name: Name
) -> None:
    async with ChatClient.connect(strict_broker.url, strict_token(name("alice"))) as client:
        for number in range(OTHER_BURST + 100):
            await client.send({"type": "ping", "id": number})
        await client.wait(lambda: len(client.frames) > OTHER_BURST + 100)
        errors = refused(client)
        assert {error["code"] for error in errors} == {"rate_limited"}
        assert 20 <= len(errors) <= 100
        with pytest.raises(ChatError) as away:
            await client.publish("nowhere", "messages are counted apart")
        assert away.value.code == "room_not_found"


@pytest.mark.parametrize(
    "text", ['{"type":"ping"}', '{"type":"nonsense"}', '{"type":"publish","room":"a/b"}']
)
async def test_ten_thousand_frames_at_once(
    shared: Deployment, strict_broker: ServerProcess, name: Name, text: str
) -> None:
    """A thousand refusals end the connection; who shares the node is not harmed."""
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with (
        ChatClient.connect(strict_broker.url, strict_token(alice)) as other,
        open_raw_socket(strict_broker.url, strict_token(name("mallory"))) as flooder,
    ):
        await other.subscribe(room)
        answers = 0

        async def flood() -> None:
            try:
                for _ in range(10_000):
                    await flooder.send(text)
            except Exception as error:
                # The connection ends in the middle of it, one way or another.
                assert type(error).__name__ == "ConnectionClosed", error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            for _ in range(15):
                await other.publish(room, "calm")
            code, _reason = await flooder.wait_closed()
            answers = code
        assert answers == 4529
        await other.wait_messages(room, 15)
        assert not other.ended.is_set()
        assert other.errors == []


async def test_refusals_are_counted_up_to_the_thousandth(
    strict_broker: ServerProcess, name: Name
) -> None:
    async with open_raw_socket(strict_broker.url, strict_token(name("mallory"))) as socket:
        for _ in range(999):
            await socket.send({"type": "nonsense"})
        answers = [json.loads(await socket.receive()) for _ in range(999)]
        assert {answer["code"] for answer in answers} == {"unknown_type"}
        assert json.loads(await socket.ask({"type": "ping", "id": 1}))["type"] == "reply"
        assert json.loads(await socket.ask({"type": "nonsense"}))["code"] == "unknown_type"
        assert (await socket.wait_closed())[0] == 4529


async def test_refusals_before_authentication_count_too(shared: Deployment) -> None:
    async with open_raw_socket(shared.brokers[0].url) as socket:
        for _ in range(1000):
            await socket.send({"type": "ping"})
        answers = [json.loads(await socket.receive()) for _ in range(1000)]
        assert {answer["code"] for answer in answers} == {"unauthenticated"}
        assert (await socket.wait_closed())[0] == 4529
