"""A running Parley for each scenario: the shared deployment, with a project of its own."""

import uuid

import pytest

from broker.domain.api_keys import create_api_key
from storage.postgres.pool import open_database
from tests.scenarios.users_code import Site
from tests.support.deployment import Deployment


@pytest.fixture
async def site(shared: Deployment) -> Site:
    """A project that nobody else has, with its key; so ids may be as in the older service."""
    async with open_database(shared.database_url, pool_size=1) as db:
        _, key = await create_api_key(db, f"scenario-{uuid.uuid4().hex[:12]}")
    assert shared.api is not None
    return Site(shared.api.base_url, tuple(broker.url for broker in shared.brokers), key)
