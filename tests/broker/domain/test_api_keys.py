"""How keys look and how long a good one is believed."""

from __future__ import annotations

import pytest

from broker.domain import api_keys
from broker.domain.api_keys import ApiKeys, create_api_key, key_digest, revoke_api_key
from storage.postgres.pool import open_database


async def test_a_key_is_found_remembered_and_forgotten(database_url, monkeypatch):
    now = 100.0
    monkeypatch.setattr("broker.domain.api_keys.time.monotonic", lambda: now)
    async with open_database(database_url, pool_size=1) as db:
        _, first = await create_api_key(db, "one")
        key_id, second = await create_api_key(db, "two")
        assert first != second
        keys = ApiKeys(db)
        assert await keys.find_project(first) == "one"
        assert await keys.find_project(second) == "two"
        await revoke_api_key(db, key_id)
        assert await keys.find_project(second) == "two"
        now = 101.1
        assert await keys.find_project(second) is None
        assert await keys.find_project(first) == "one"


async def test_the_memory_is_bounded(database_url, monkeypatch):
    monkeypatch.setattr(api_keys, "API_KEYS_CACHED_MAX", 2)
    async with open_database(database_url, pool_size=1) as db:
        keys = ApiKeys(db)
        for number in range(4):
            _, key = await create_api_key(db, f"p{number}")
            assert await keys.find_project(key) == f"p{number}"
            assert len(keys._known) <= 2


@pytest.mark.parametrize("key", ["", "\ud800", "k" * 10_000])
async def test_odd_keys_are_just_unknown(database_url, key):
    async with open_database(database_url, pool_size=1) as db:
        assert await ApiKeys(db).find_project(key) is None
    assert len(key_digest(key)) == 32
