"""What the handlers work with; built once by the composition root, or by a test."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.auth import Authenticator
from broker.domain.access import AccessReader
from broker.domain.announcing import Announcer
from broker.domain.changing import Changer
from broker.domain.forwarding import Forwarder
from broker.domain.identity import TokenVerifier
from broker.domain.kept_pages import KeptPages
from broker.domain.marking import Marker
from broker.domain.members import Members
from broker.domain.publishing import Publisher
from broker.domain.room_changes import RoomChanges
from broker.domain.user_changes import UserChanges
from config.metrics import Metrics
from config.readiness import Readiness
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
    pages: KeptPages
    publisher: Publisher
    changer: Changer
    marker: Marker
    forwarder: Forwarder
    announcer: Announcer
    members: Members
    room_changes: RoomChanges
    user_changes: UserChanges
    verifier: TokenVerifier
    auth: Authenticator
    metrics: Metrics
    readiness: Readiness = field(default_factory=Readiness)
