"""Tokens: the three ways to pass one, every bad kind of one, a second one, one that expires."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import trio

from tests.integration.conftest import strict_token
from tests.support.client import ChatClient, ChatError, ConnectionEnded
from tests.support.deployment import Deployment
from tests.support.processes import ServerProcess
from tests.support.raw_socket import open_raw_socket
from tests.support.tokens import JWT_SECRET, make_token
from tests.support.waiting import wait_until

Name = Callable[[str], str]

OTHER_SECRET = "another secret, just as long, that is not the configured one"


def unsigned(**header: Any) -> str:
    """A token without a signature."""
    claims = {"sub": "alice", "exp": time.time() + 3600, "aud": "chat", "iss": "tests"}
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT"} | header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def spoiled(token: str) -> str:
    """The token with other claims under the old signature."""
    header, _claims, signature = token.split(".")
    return f"{header}.{strict_token('mallory').split('.')[1]}.{signature}"


BAD: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "nonsense": lambda: "nonsense",
    "dots": lambda: "..",
    "alg none": lambda: unsigned(alg="none"),
    "alg None": lambda: unsigned(alg="None"),
    "alg missing": lambda: unsigned(),
    "alg empty": lambda: unsigned(alg=""),
    "alg RS256": lambda: unsigned(alg="RS256"),
    "alg HS384": lambda: strict_token("alice", algorithm="HS384"),
    "wrong key": lambda: strict_token("alice", secret=OTHER_SECRET),
    "other claims": lambda: spoiled(strict_token("alice")),
    "no signature": lambda: strict_token("alice").rpartition(".")[0] + ".",
    "no audience": lambda: make_token("alice", iss="tests"),
    "wrong audience": lambda: strict_token("alice", aud="other"),
    "wrong audiences": lambda: strict_token("alice", aud=["a", "b"]),
    "no issuer": lambda: make_token("alice", aud="chat"),
    "wrong issuer": lambda: strict_token("alice", iss="other"),
    "no exp": lambda: strict_token("alice", exp=None),
    "exp is text": lambda: jwt.encode(
        {"sub": "alice", "aud": "chat", "iss": "tests", "exp": str(int(time.time()) + 60)},
        JWT_SECRET,
    ),
    "issued in the future": lambda: strict_token("alice", iat=time.time() + 60),
    "not valid yet": lambda: strict_token("alice", nbf=time.time() + 60),
    "no user": lambda: strict_token("alice", sub=None),
    "user is no id": lambda: strict_token("a/b"),
    "user is too long": lambda: strict_token("x" * 129),
    "project is no id": lambda: strict_token("alice", project="a/b"),
    "rooms are no object": lambda: strict_token("alice", rooms=["room"]),
    "unknown capability": lambda: strict_token("alice", rooms={"room": ["everything"]}),
    "wrong key and expired": lambda: strict_token("alice", secret=OTHER_SECRET, ttl=-60),
}


@pytest.mark.parametrize("way", ["query", "header", "frame"])
async def test_bad_ones_end_the_connection_after_the_handshake(
    strict_broker: ServerProcess, way: str
) -> None:
    codes: dict[str, tuple[int | None, bool]] = {}

    async def present(kind: str, token: str) -> None:
        async with ChatClient.connect(
            strict_broker.url, token if way != "frame" else None, way=way, hello=False
        ) as client:
            if way == "frame":
                await client.send({"type": "auth", "id": 1, "token": token})
            await client.wait_ended()
            codes[kind] = (client.close_code, client.frames == [])
            assert client.close_reason
            assert len(client.close_reason.encode()) <= 123

    # A header can not hold a token that is empty.
    kinds = [kind for kind in BAD if (way, kind) != ("header", "empty")]
    for kind in kinds:
        await present(kind, BAD[kind]())
    assert codes == dict.fromkeys(kinds, (4401, True))
    for ttl in (-60, -6):
        await present("expired", strict_token("alice", ttl=ttl))
        assert codes["expired"] == (4402, True)


async def test_good_ones_in_every_way(strict_broker: ServerProcess, name: Name) -> None:
    user = name("alice")
    for way in ("query", "header", "frame"):
        # Within the leeway a token is good, too, whatever two clocks say.
        for claims in ({}, {"ttl": -2}, {"iat": time.time() + 2}, {"aud": ["a", "chat"]}):
            token = strict_token(user, **claims)
            async with ChatClient.connect(strict_broker.url, token, way=way) as client:
                assert client.hello is not None
                assert client.hello["user"] == user
                assert "time" in await client.call("ping")


async def test_the_header_beats_the_query(shared: Deployment, name: Name) -> None:
    url, good = shared.brokers[0].url, make_token(name("alice"))
    bad = make_token("alice", secret=OTHER_SECRET)
    async with ChatClient.connect(f"{url}?token={bad}", good, way="header") as client:
        assert client.hello is not None
    async with ChatClient.connect(f"{url}?token={good}", bad, way="header", hello=False) as client:
        assert await client.wait_ended() == 4401


async def test_hello_and_the_order_of_the_first_frames(shared: Deployment, name: Name) -> None:
    user = name("alice")
    token = make_token(user)
    async with open_raw_socket(shared.brokers[0].url) as socket:
        reply = json.loads(await socket.ask({"type": "auth", "id": 7, "token": token}))
        assert list(reply["result"]) == ["user", "expires_at"]
        assert (reply["type"], reply["id"], reply["result"]["user"]) == ("reply", 7, user)
        hello = json.loads(await socket.receive())
        assert list(hello) == [
            "type", "connection", "node", "user", "expires_at", "ping_interval",
            "max_frame_bytes", "server_time",
        ]  # fmt: skip
        assert (hello["type"], hello["user"]) == ("hello", user)
        assert hello["expires_at"] == reply["result"]["expires_at"]
        assert (hello["ping_interval"], hello["max_frame_bytes"]) == (25, 65_536)


async def test_before_authentication_nothing_is_executed(shared: Deployment, name: Name) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    frames: list[dict[str, Any]] = [
        {"type": "publish", "room": room, "content": "text"},
        {"type": "subscribe", "room": room},
        {"type": "unsubscribe", "room": room},
        {"type": "history", "room": room},
        {"type": "refresh", "token": make_token(alice)},
        {"type": "ping"},
        {"type": "publish", "room": "a/b"},
        {"type": "nonsense"},
        {},
    ]
    async with ChatClient.connect(shared.brokers[0].url) as client:
        for number, frame in enumerate(frames):
            await client.send({"id": number, **frame})
        await client.send({"type": "auth", "id": "a"})
        await client.wait(lambda: len(client.frames) == len(frames) + 1)
        *refused, bad_auth = client.frames
        assert [(f["code"], f["id"]) for f in refused] == [
            ("unauthenticated", number) for number in range(len(frames))
        ]
        assert (bad_auth["code"], bad_auth["field"]) == ("bad_request", "token")
        await client.call("auth", token=make_token(alice))
        await client.wait(lambda: client.hello)
        assert (await client.subscribe(room))["offset"] == 0


async def test_frames_behind_an_auth_wait_for_it(shared: Deployment, name: Name) -> None:
    """A client may send everything at once; the order holds."""
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with ChatClient.connect(shared.brokers[1].url) as client:
        await client.send({"type": "auth", "id": 1, "token": make_token(alice)})
        await client.send({"type": "publish", "id": 2, "room": room, "content": "one"})
        await client.send({"type": "auth", "id": 3, "token": make_token(alice)})
        await client.send({"type": "publish", "id": 4, "room": room, "content": "two"})
        await client.wait(lambda: {f.get("id") for f in client.frames} >= {1, 2, 3, 4})
        assert [frame["type"] for frame in client.frames].count("hello") == 1
        assert [f["type"] for f in client.frames if "id" in f] == ["reply"] * 4
        assert [f.get("id") for f in client.frames[:2]] == [1, None]
        history = await client.call("history", room=room)
        assert [m["content"] for m in history["messages"]] == ["one", "two"]


async def test_no_token_in_time(strict_broker: ServerProcess) -> None:
    """Other frames, refused as they are, do not make the time longer."""
    began = trio.current_time()
    async with ChatClient.connect(strict_broker.url) as client:

        async def pings_until_the_end() -> bool:
            if not client.ended.is_set():
                try:
                    await client.call("ping")
                except ChatError as error:
                    assert error.code == "unauthenticated"
                except ConnectionEnded:
                    return True
            return client.ended.is_set()

        await wait_until(pings_until_the_end)
        assert client.close_code == 4401
    assert trio.current_time() - began >= 1


async def test_a_second_auth_is_a_refresh(shared: Deployment, name: Name) -> None:
    alice = name("alice")
    async with shared.connect(alice) as client:
        assert client.hello is not None
        for type_ in ("refresh", "auth"):
            result = await client.call(type_, token=make_token(alice, ttl=7200))
            assert result["user"] == alice
            assert result["expires_at"] > client.hello["expires_at"]
        assert [frame["type"] for frame in client.frames].count("hello") == 1


async def test_a_refresh_that_fails_leaves_the_old_token(shared: Deployment, name: Name) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice) as client:
        for type_ in ("refresh", "auth"):
            for token, code in (
                (make_token(name("bob")), "forbidden"),
                (make_token(alice, project="another"), "forbidden"),
                (make_token(alice, secret=OTHER_SECRET), "unauthenticated"),
                (unsigned(alg="none"), "unauthenticated"),
                (make_token(alice, ttl=-60), "token_expired"),
            ):
                with pytest.raises(ChatError) as refused:
                    await client.call(type_, token=token)
                assert (refused.value.code, refused.value.field) == (code, "token")
        sent = await client.publish(room, "still alice")
        history = await client.call("history", room=room)
        assert [(m["id"], m["sender"]) for m in history["messages"]] == [
            (sent["message_id"], alice)
        ]


async def test_capabilities_come_and_go_with_the_token(shared: Deployment, name: Name) -> None:
    """What a refresh loses ends at once; what membership gives does not depend on it."""
    mine, visited, alice, bob = name("mine"), name("visited"), name("alice"), name("bob")
    await shared.create_room(mine, alice, bob)
    await shared.create_room(visited, bob)
    with_rooms = make_token(alice, rooms={visited: ["join"], mine: ["join"]})
    async with ChatClient.connect(shared.brokers[0].url, with_rooms) as client:
        assert (await client.subscribe(mine))["role"] == "member"
        assert (await client.subscribe(visited))["role"] is None
        with pytest.raises(ChatError) as refused:
            await client.publish(visited, "no")
        assert refused.value.code == "forbidden"
        await client.call("refresh", token=make_token(alice, rooms={visited: ["publish"]}))
        await client.publish(visited, "yes")
        await client.wait_messages(visited, 1)
        assert client.unsubscribed == []
        await client.call("refresh", token=make_token(alice))
        await client.wait(lambda: client.unsubscribed)
        assert [(f["room"], f["code"]) for f in client.unsubscribed] == [(visited, "forbidden")]
        for type_, fields in (("publish", {"content": "no"}), ("subscribe", {}), ("history", {})):
            with pytest.raises(ChatError) as refused:
                await client.call(type_, room=visited, **fields)
            assert refused.value.code == "room_not_found"
        async with shared.connect(bob, 1) as other:
            await other.publish(visited, "unseen")
            await other.publish(mine, "seen")
        await client.wait_messages(mine, 1)
        assert len(client.messages(visited)) == 1


async def test_revoked_tokens_end_their_connections(shared: Deployment, name: Name) -> None:
    """On every node, within a second or so; a token made right afterwards is good."""
    alice, bob = name("alice"), name("bob")
    room = name("room")
    await shared.create_room(room, alice, bob)
    async with (
        shared.connect(alice, 0) as here,
        shared.connect(alice, 1) as there,
        shared.connect(bob, 1) as other,
    ):
        old = make_token(alice)
        await here.subscribe(room)
        began = trio.current_time()
        await shared.ok("DELETE", f"/v1/users/{alice}/tokens")
        for client in (here, there):
            assert await client.wait_ended() == 4403
        assert trio.current_time() - began < 5
        for broker in shared.brokers:
            async with ChatClient.connect(broker.url, old, hello=False) as client:
                assert await client.wait_ended() == 4403
            without_iat = make_token(alice, iat=None)
            async with ChatClient.connect(broker.url, without_iat, hello=False) as client:
                assert await client.wait_ended() == 4403
        fresh = await shared.ok("POST", f"/v1/users/{alice}/token", {})
        async with ChatClient.connect(shared.brokers[1].url, fresh["token"]) as client:
            await client.publish(room, "back")
            with pytest.raises(ChatError) as refused:
                await client.call("refresh", token=old)
            assert refused.value.code == "unauthenticated"
        assert not other.ended.is_set()


@pytest.mark.slow
async def test_an_expired_connection_has_a_grace(shared: Deployment, name: Name) -> None:
    """25 s after `exp` it ends with 4402; until then it works, and a refresh keeps it."""
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    # Expired by the clock, yet within the leeway when it connects: saves four seconds of waiting.
    expires_at = time.time() - 4
    token = make_token(alice, exp=expires_at)
    url = shared.brokers[0].url
    async with (
        ChatClient.connect(url, token) as ending,
        ChatClient.connect(url, token) as staying,
    ):
        for client in (ending, staying):
            await client.subscribe(room)
        await ending.publish(room, "within the grace")
        with pytest.raises(ChatError) as refused:
            await staying.call("refresh", token=make_token(alice, ttl=-10))
        assert refused.value.code == "token_expired"
        await staying.call("refresh", token=make_token(alice))
        assert await ending.wait_ended(deadline=30) == 4402
        assert 24.5 <= time.time() - expires_at <= 32
        await staying.publish(room, "refreshed")
        assert not staying.ended.is_set()
