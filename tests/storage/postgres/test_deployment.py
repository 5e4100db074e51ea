"""The deployment's id and its number of partitions are decided once."""

import pytest
import trio

from config.errors import ConfigError
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import Database


async def test_everybody_gets_the_id_that_the_first_one_made(database: Database):
    ids: set[str] = set()

    async def ask() -> None:
        ids.add(await ensure_deployment(database, 16))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert len(ids) == 1
    assert await ensure_deployment(database, 16) in ids


async def test_another_number_of_partitions_is_refused_in_one_line(database: Database):
    await ensure_deployment(database, 16)
    with pytest.raises(ConfigError) as caught:
        await ensure_deployment(database, 8)
    assert str(caught.value).startswith("ROOM_PARTITIONS: 8 ")
    assert "16" in str(caught.value)
    assert "\n" not in str(caught.value)
