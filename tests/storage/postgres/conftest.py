"""Fixtures for everything that runs SQL: a Database on a fresh, migrated database."""

from collections.abc import AsyncIterator

import pytest

from storage.postgres.pool import Database, open_database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The pool of the test, on a database of its own with the newest schema."""
    async with open_database(database_url, pool_size=4, name="test") as opened:
        yield opened
