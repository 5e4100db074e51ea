"""How keys look and how long a good one is believed."""

from __future__ import annotations

import msgspec
import pytest

from broker.domain import api_keys
from broker.domain.api_keys import ApiKeys, create_api_key, key_digest, revoke_api_key
from storage.postgres.audit import list_audit
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


async def test_making_and_revoking_keys_is_audited_once(database_url):
    async with open_database(database_url, pool_size=1) as db:
        key_id, key = await create_api_key(db, "one")
        for _ in range(2):
            assert await revoke_api_key(db, key[:12]) == [key_id]
        count, rows = await list_audit(db, "one", entity=f"key:{key_id}", skip=0, limit=10)
        found = msgspec.json.decode(rows)
        assert [(row["actor"], row["action"], row["detail"]) for row in found] == [
            (None, "key.revoked", {"prefix": key[:12]}),
            (None, "key.created", {"prefix": key[:12]}),
        ]
        assert count == 2
        assert key.encode() not in rows


async def test_a_project_has_several_keys_each_with_its_own_life(database_url):
    async with open_database(database_url, pool_size=1) as db:
        keys = ApiKeys(db)
        (_, first), (other_id, other) = [await create_api_key(db, "one") for _ in range(2)]
        await revoke_api_key(db, other_id)
        assert await keys.find_project(other) is None
        assert await keys.find_project(first) == "one"


async def test_use_is_noted_once_a_minute(database_url):
    async with open_database(database_url, pool_size=1) as db:
        _, key = await create_api_key(db, "one")
        seen = []
        for age in (None, "30 seconds", "61 seconds"):
            if age is not None:
                await db.execute(f"UPDATE api_keys SET last_used_at = now() - interval '{age}'")
            before = await db.fetchval("SELECT last_used_at FROM api_keys")
            assert await ApiKeys(db).find_project(key) == "one"
            seen.append(await db.fetchval("SELECT last_used_at FROM api_keys") != before)
        assert seen == [True, False, True]
