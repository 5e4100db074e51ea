"""A publish whose outcome is unknown is never sent twice by us: only its client may do that."""

import pytest

from storage.errors import StorageUnavailable
from storage.redis.outcomes import Appended
from tests.support.local_broker import LocalBroker, open_broker, replaced
from tests.support.rooms import key_of
from tests.support.seen import ChatError

ROOM = "general"


@pytest.fixture
async def broker(redis_url, database_url):
    async with open_broker(redis_url, database_url) as opened:
        await opened.storage.create_room(ROOM, "alice", "bob")
        yield opened
        await opened.storage.flush()
        await opened.storage.check_rooms()


def fail_once_after_doing_it(original):
    """The first answer that it is done is lost on its way."""
    done = 0

    async def call(*args, **kwargs):
        nonlocal done
        outcome = await original(*args, **kwargs)
        done += isinstance(outcome, Appended)
        if done == 1:
            raise StorageUnavailable("redis", "unknown", "the connection was cut")
        return outcome

    return call


async def test_without_a_client_id_it_is_not_repeated(broker: LocalBroker):
    """B17: the client is told that nobody knows, and there is one message."""
    rooms = broker.storage.store.rooms
    async with broker.connect("alice", check=False) as alice:
        # The first of a node goes this way: no role is known yet.
        with (
            replaced(rooms, "publish", fail_once_after_doing_it),
            pytest.raises(ChatError) as refused,
        ):
            await alice.publish(ROOM, "once")
        assert refused.value.code == "unavailable"
    entries = await rooms.log_range(key_of(ROOM), 1, 10)
    assert [entry.event for entry in entries].count("message.created") == 1
