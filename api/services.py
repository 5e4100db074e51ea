"""What the handlers work with; built once by the composition root, or by a test."""

from __future__ import annotations

from dataclasses import dataclass

from api.auth import Authenticator
from broker.domain.access import AccessReader
from broker.domain.changing import Changer
from broker.domain.forwarding import Forwarder
from broker.domain.members import Members
from broker.domain.publishing import Publisher
from config.metrics import Metrics
from config.settings import Settings
from storage.postgres.pool import Database
from storage.redis.store import RedisStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services of one API process."""

    settings: Settings
    db: Database
    store: RedisStore
    access: AccessReader
    publisher: Publisher
    changer: Changer
    forwarder: Forwarder
    members: Members
    auth: Authenticator
    metrics: Metrics
