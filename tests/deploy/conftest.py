"""Sites behind the balancers of deploy/, on the run's Redis and PostgreSQL."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.site import Site, open_site
from tests.support.servers import RedisServer

OpenSite = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def site(tmp_path: Path, redis_server: RedisServer, redis_url: str, database_url: str) -> OpenSite:
    """Opens a site (see `open_site`)."""
    return partial(open_site, tmp_path / "site", redis_server, database_url)
