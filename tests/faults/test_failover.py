"""Redis that is not the one it was: promoted replicas, re-promotion, an emptied server.

No (room, seq) may ever stand for two messages, whoever is told must be told (`resync`), and what
PostgreSQL gets late from a life that lost its place is put aside, never mixed in (A8, B1 to B3).
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from storage.postgres.seeds import UNREPORTED_SKIP
from storage.redis.entries import Entry, pack_entry
from tests.faults.storm.checker import Breach, check
from tests.faults.storm.record import Connection, Operation
from tests.support.local_broker import LocalClient, open_broker, replaced
from tests.support.proxy import TcpProxy, open_proxy
from tests.support.recording import ALWAYS, Recorder, publish_of, record_of
from tests.support.rooms import contents, key_of, message, open_storage
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from workers.embedded.ports import LOOPBACK

ROOM = "general"
FAR_AHEAD = 9_999_999_999_999
"""A stream id of the year 2286: what an inbox of a server with another clock may have held."""


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[RedisServer]:
    """A second, empty server."""
    server = RedisServer(tmp_path / "replica")
    server.start()
    yield server
    server.stop()


def replicate(replica: RedisServer, port: int) -> None:
    replica.command("REPLICAOF", LOOPBACK, port)


async def wait_linked(replica: RedisServer) -> None:
    def is_linked() -> bool:
        return b"master_link_status:up" in replica.command("INFO", "replication")

    await wait_until(is_linked, what="the replica is in step")


async def wait_resync(client: LocalClient, times: int = 1) -> None:
    await client.wait(lambda: len(client.unsubscribed) >= times, what="resync")
    assert {frame["code"] for frame in client.unsubscribed} == {"resync"}


async def say(client: LocalClient, text: str) -> Operation:
    begun = trio.current_time()
    answer = await client.publish(ROOM, text, client_id=text)
    return publish_of(ROOM, "alice", text, client_id=text, outcome="ok", begun=begun, answer=answer)


def connection_of(client: LocalClient, user: str) -> Connection:
    """What the client saw, with every position that it was told."""
    recorder = Recorder(client, user, user)
    recorder.take()
    return recorder.connection


def judge(
    attempts: list[Operation], seen: list[Connection], url: str, *, may_have_lost: bool = False
) -> list[Breach]:
    """What is wrong. What Redis may have lost before it was archived may be gone; nothing else."""
    record = record_of(
        attempts, seen, database_url=url, members={ROOM: ["alice", "bob"]},
        may_have_lost=[ALWAYS] if may_have_lost else [],
    )  # fmt: skip
    return check(record)


def seqs_of(rows: list[dict[str, Any]]) -> list[int]:
    return [row["seq"] for row in rows]


async def repoint(proxy: TcpProxy, server: RedisServer) -> None:
    """From now on this way leads to the other server."""
    proxy.target_port = server.port
    proxy.cut()
    await trio.lowlevel.checkpoint()


# --- 11: a replica is promoted that lacks the last writes -----------------------------------------


@pytest.mark.parametrize("archived", [3, 8])
async def test_a_promoted_replica_that_lost_writes(
    private_redis: RedisServer, replica: RedisServer, database_url, archived
):
    """A8, B1, B2 (test 11): A, B and a third process reconnect at different times; PostgreSQL is
    behind what was kept (3) or ahead of it (8). B's cursor is above every id of the new master."""
    async with (
        open_proxy(private_redis.port) as link,
        open_proxy(private_redis.port) as way_a,
        open_proxy(private_redis.port) as way_b,
        open_proxy(private_redis.port) as way_c,
    ):
        replicate(replica, link.port)
        await wait_linked(replica)
        url_a, url_b, url_c = (way.replace_port(private_redis.url) for way in (way_a, way_b, way_c))
        async with (
            open_storage(url_c, database_url) as third,
            open_broker(url_a, database_url) as broker_a,
            open_broker(url_b, database_url) as broker_b,
            broker_a.connect("alice", check=False) as alice,
            broker_b.connect("bob", check=False) as bob,
        ):
            await third.create_room(ROOM, "alice", "bob")
            for client in (alice, bob):
                await client.subscribe(ROOM)
            attempts = [await say(alice, f"kept {number}") for number in range(1, 6)]
            room_hash = third.store.keys.room(key_of(ROOM)).room
            await wait_until(lambda: replica.command("HGET", room_hash, "offset") == b"5")
            link.pause()
            raise_cursor(private_redis, broker_b.inbox())
            attempts += [await say(alice, f"lost {number}") for number in range(6, 11)]
            for client in (alice, bob):
                await client.wait_messages(ROOM, 10)
            partition = third.store.keys.partition(key_of(ROOM))
            await third.archiver(batch=archived).flush(partition)

            replica.command("REPLICAOF", "NO", "ONE")
            await repoint(way_a, replica)
            await wait_resync(alice)
            await repoint(way_b, replica)
            await wait_resync(bob)
            answer = await alice.resume(ROOM)
            assert (answer["recovered"], answer["reason"]) == (False, "epoch")
            attempts.append(await say(alice, "new life"))
            await bob.resume(ROOM)
            attempts.append(await say(alice, "for both"))
            await bob.wait(lambda: "for both" in contents(bob.messages(ROOM)), what="delivery")
            number = third.store.client.connection_number
            await repoint(way_c, replica)
            await wait_until(lambda: third.store.client.connection_number > number)
            began = trio.current_time()
            await third.append(ROOM, message(ROOM, "third", client_id="third"))
            third_said = publish_of(
                ROOM, "alice", "third", client_id="third", outcome="unknown", begun=began
            )
            attempts.append(third_said)
            await bob.wait(lambda: "third" in contents(bob.messages(ROOM)), what="delivery")

            await third.flush()
            rows = await third.rows(ROOM)
            after = [UNREPORTED_SKIP + seq for seq in (11, 12, 13)]
            assert seqs_of(rows) == [*range(1, max(5, archived) + 1), *after]
            assert await third.dead_letters() == []
            seen = [connection_of(alice, "alice"), connection_of(bob, "bob")]
            assert judge(attempts, seen, database_url, may_have_lost=True) == []
            await third.check_rooms()


async def test_marks_that_a_promoted_replica_lost_do_not_go_back(
    private_redis: RedisServer, replica: RedisServer, database_url
):
    """What was answered and is in PostgreSQL holds, for marks in every way that says them; a mark
    that still waited in the replica's archive is kept, too."""
    async with (
        open_proxy(private_redis.port) as link,
        open_proxy(private_redis.port) as way,
        open_broker(way.replace_port(private_redis.url), database_url) as broker,
        broker.connect("alice", check=False) as alice,
        broker.connect("bob", check=False) as bob,
        broker.connect("carol", check=False) as carol,
    ):
        replicate(replica, link.port)
        await wait_linked(replica)
        storage = broker.storage
        await storage.create_room(ROOM, "alice", "bob", "carol")
        for number in range(1, 9):
            await say(alice, f"message {number}")
        await storage.flush()
        # Carol's mark waits in the archive of both servers when Bob's next one is lost.
        assert await bob.call("read", room=ROOM, seq=2) == {"seq": 2, "unread": 6}
        assert await carol.call("read", room=ROOM, seq=3) == {"seq": 3, "unread": 5}
        reads = storage.store.keys.room(key_of(ROOM)).reads
        await wait_until(lambda: (replica.command("HGET", reads, "carol") or b"").startswith(b"3 "))
        link.pause()
        assert await bob.call("read", room=ROOM, seq=5) == {"seq": 5, "unread": 3}
        assert await bob.call("delivered", room=ROOM, seq=7) == {"seq": 7, "unread": 3}
        await storage.flush()

        assert replica.command("HGET", reads, "bob").startswith(b"2 "), "it is behind"
        replica.command("REPLICAOF", "NO", "ONE")
        number = storage.store.client.connection_number
        await repoint(way, replica)
        await wait_until(lambda: storage.store.client.connection_number > number)
        assert await bob.call("read", room=ROOM, seq=3) == {"seq": 5, "unread": 3}
        assert await bob.call("delivered", room=ROOM, seq=4) == {"seq": 7, "unread": 3}
        assert (await carol.call("read", room=ROOM, seq=1))["seq"] == 3
        joined = await bob.subscribe(ROOM)
        assert (joined["read_seq"], joined["unread"]) == (5, 3)
        assert await bob.call("read", room=ROOM, seq=6) == {"seq": 6, "unread": 2}
        await storage.flush()


def raise_cursor(server: RedisServer, inbox: str) -> None:
    """The reader of this inbox gets an entry whose id no later server will reach."""
    entry = Entry(
        "/", 0, 0, 1, "typing.started", key_of(ROOM), "bob", 0, b'{"user":"bob","expires_in":6}'
    )
    server.command("XADD", inbox, f"{FAR_AHEAD}-0", "e", pack_entry(entry))


# --- 12: replaced under open connections, and a first replica -------------------------------------


async def test_a_server_that_was_demoted_and_promoted_again(
    private_redis: RedisServer, replica: RedisServer, database_url
):
    """A8 (test 12): its data was replaced by another server's."""
    async with open_broker(private_redis.url, database_url, node_lease=1.0) as broker:
        await broker.storage.create_room(ROOM, "alice")
        async with broker.connect("alice", check=False) as alice:
            await alice.subscribe(ROOM)
            attempts = [await say(alice, "one")]
            replicate(private_redis, replica.port)
            await wait_linked(private_redis)
            private_redis.command("REPLICAOF", "NO", "ONE")
            await wait_resync(alice)
            await alice.resume(ROOM)
            attempts.append(await say(alice, "two"))
            assert attempts[1].answer["seq"] == 2 + UNREPORTED_SKIP, "above what the node had seen"
            await alice.wait_messages(ROOM, 2)
        await broker.storage.flush()
        await broker.storage.check_rooms()


def follow_and_lead(server: RedisServer) -> None:
    """A replica of nobody for a moment: nothing is lost, but who could tell."""
    server.command("REPLICAOF", LOOPBACK, 1)
    server.command("REPLICAOF", "NO", "ONE")


async def test_another_replication_id_is_noticed_by_the_heartbeat(
    private_redis: RedisServer, database_url
):
    """A8 (test 12): no connection breaks, no command fails; the next heartbeat is fenced."""
    async with open_broker(private_redis.url, database_url, node_lease=1.0) as broker:
        await broker.storage.create_room(ROOM, "alice")
        async with broker.connect("alice", check=False) as alice:
            await alice.subscribe(ROOM)
            await say(alice, "one")
            connections = broker.storage.store.client.connection_number
            life = (await broker.storage.hash_of(ROOM))["epoch"]
            follow_and_lead(private_redis)
            await wait_resync(alice)
            answer = await alice.resume(ROOM)
            assert answer["reason"] == "epoch"
            assert answer["epoch"] != life
            assert broker.storage.store.client.connection_number == connections
            answer = (await say(alice, "two")).answer
            assert (answer["seq"], answer["offset"]) == (2 + UNREPORTED_SKIP, 2)
        await broker.storage.flush()
        assert contents(await broker.storage.rows(ROOM)) == ["one", "two"]
        await broker.storage.check_rooms()


async def test_a_replica_that_comes_and_goes_is_not_noticed(
    private_redis: RedisServer, replica: RedisServer, database_url
):
    """A8 (test 12): the server takes a new replication id and can prove that it lost nothing."""
    async with (
        open_broker(private_redis.url, database_url, node_lease=1.0) as broker_a,
        open_broker(private_redis.url, database_url, node_lease=1.0) as broker_b,
    ):
        storage = broker_a.storage
        await storage.create_room(ROOM, "alice", "bob")
        async with (
            broker_a.connect("alice", check=False) as alice,
            broker_b.connect("bob", check=False) as bob,
        ):
            clients = (alice, bob)
            for client in clients:
                await client.subscribe(ROOM)
            attempts = [await say(alice, f"before {number}") for number in range(3)]
            life = storage.store.keys.life(storage.store.keys.partition(key_of(ROOM)))
            first_id = replid(private_redis)
            private_redis.command("CONFIG", "SET", "repl-backlog-ttl", 1)
            replicate(replica, private_redis.port)
            await wait_linked(replica)
            second_id = replid(private_redis)
            await wait_until(lambda: private_redis.command("HGET", life, "replid") == second_id)
            attempts.append(await say(alice, "with a replica"))
            replica.command("REPLICAOF", "NO", "ONE")
            await wait_until(lambda: replid(private_redis) != second_id, deadline=20)
            third_id = replid(private_redis)
            await wait_until(lambda: private_redis.command("HGET", life, "replid") == third_id)
            assert len({first_id, second_id, third_id}) == 3
            attempts += [await say(alice, f"after {number}") for number in range(2)]
            for client in clients:
                await client.wait_messages(ROOM, 6)
                assert client.unsubscribed == []
            assert len({entry.epoch for entry in await storage.log(ROOM)}) == 1
            seen = [connection_of(alice, "alice"), connection_of(bob, "bob")]
        await storage.flush()
        assert seqs_of(await storage.rows(ROOM)) == [1, 2, 3, 4, 5, 6], "not one seq is missing"
        assert judge(attempts, seen, database_url) == []
        await storage.check_rooms()


def replid(server: RedisServer) -> bytes:
    """The server's replication id."""
    found = re.search(rb"master_replid:(\w+)", server.command("INFO", "replication"))
    assert found is not None
    return found[1]


# --- 13: the archiver holds a batch of a life that is over ----------------------------------------


async def test_a_batch_of_a_former_life_is_put_aside(redis_url, redis_server, database_url):
    """B1 (test 13): the rightful message gets its row, the late one is a dead letter."""
    async with open_storage(redis_url, database_url) as storage:
        await storage.create_room(ROOM, "alice")
        partition = storage.store.keys.partition(key_of(ROOM))
        await storage.publish(ROOM, "one")
        await storage.flush()
        # Whoever answered this is gone when Redis is, so nobody can tell that it was given.
        async with open_storage(redis_url, database_url) as mortal:
            late = await mortal.publish(ROOM, "late")

        def lose_redis(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def read_and_lose(*arguments: Any) -> Any:
                batch = await read(*arguments)
                assert [item.entry.offset for item in batch] == [2]
                redis_server.flush()
                rightful = await storage.publish(ROOM, "rightful")
                assert rightful.offset == late.offset
                assert rightful.seq == late.seq + UNREPORTED_SKIP
                return batch

            return read_and_lose

        archiver = storage.archiver()
        with replaced(storage.store.archive, "read_batch", lose_redis):
            await archiver.flush(partition)
        assert await storage.dead_letters() == [(key_of(ROOM), 2, "late_epoch")]
        await storage.flush()
        assert contents(await storage.rows(ROOM)) == ["one", "rightful"]
        assert (await storage.hash_of(ROOM))["archived"] == "2"
        await storage.check_rooms()


# --- 14 and more: an emptied server ---------------------------------------------------------------


async def test_a_repeat_after_everything_was_lost(redis_url, redis_server, database_url):
    """B3 (test 14): publish, archive, FLUSHALL, repeat: the first answer, one row."""
    async with open_broker(redis_url, database_url) as broker:
        await broker.storage.create_room(ROOM, "alice")
        async with broker.connect("alice") as alice:
            first = await alice.publish(ROOM, "once", client_id="c1")
            await broker.storage.flush()
            redis_server.flush()
            repeat = await alice.publish(ROOM, "once", client_id="c1")
            assert repeat["duplicate"] is True
            for name in ("message_id", "seq", "offset", "created_at"):
                assert repeat[name] == first[name]
        await broker.storage.flush()
        assert contents(await broker.storage.rows(ROOM)) == ["once"]
        await broker.storage.check_rooms()


async def test_what_a_living_node_has_seen_is_never_numbered_again(
    redis_url, redis_server, database_url
):
    """B2: nothing was archived, yet clients have seen seq 1 to 5."""
    async with open_broker(redis_url, database_url, node_lease=1.0) as broker:
        await broker.storage.create_room(ROOM, "alice")
        async with broker.connect("alice", check=False) as alice:
            await alice.subscribe(ROOM)
            attempts = [await say(alice, f"seen {number}") for number in range(5)]
            await alice.wait_messages(ROOM, 5)
            redis_server.flush()
            attempts.append(await say(alice, "after"))
            assert attempts[-1].answer["seq"] == 6 + UNREPORTED_SKIP
            await wait_resync(alice)
            await alice.resume(ROOM)
            attempts.append(await say(alice, "and on"))
            await alice.wait_messages(ROOM, 6)
            seen = [connection_of(alice, "alice")]
        await broker.storage.flush()
        after = [UNREPORTED_SKIP + seq for seq in (6, 7)]
        assert seqs_of(await broker.storage.rows(ROOM)) == after
        assert judge(attempts, seen, database_url, may_have_lost=True) == []
        await broker.storage.check_rooms()
