"""What every connection of a broker shares; built once by the composition root, passed down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from broker.counts import Counts
from broker.domain.access import AccessReader
from broker.domain.changing import Changer
from broker.domain.identity import TokenVerifier
from broker.domain.kept_pages import KeptPages
from broker.domain.marking import Marker
from broker.domain.publishing import Publisher
from broker.domain.seeding import Seeder
from broker.fairness import Fairness
from broker.missed import MissedEvents
from broker.node import Node
from broker.protocol.events import TimeTexts
from broker.rates import Paces
from broker.turnstile import Turnstile
from config import limits
from config.metrics import Metrics
from config.settings import Settings
from storage.postgres.pool import Database
from storage.redis.store import RedisStore


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a command may need."""

    settings: Settings
    node: Node
    store: RedisStore
    db: Database
    verifier: TokenVerifier
    access: AccessReader
    pages: KeptPages
    seeder: Seeder
    publisher: Publisher
    changer: Changer
    marker: Marker
    metrics: Metrics
    counts: Counts
    times: TimeTexts
    start: Callable[[Callable[[], Awaitable[None]]], None]
    """Run something in a task of the broker's, behind a barrier for bugs."""
    paces: Paces
    """What each connection may send."""
    fairness: Fairness
    """Commands of users run in tasks by turns."""
    looks: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(limits.LOOKS_AT_ONCE)
    )
    """Rechecks of connections take turns: a lost inbox asks for one of everybody's at once."""
    turnstile: Turnstile = field(default_factory=Turnstile)
    """So do authentications: when a node has died, the others get all of its clients at once."""
    missed: MissedEvents = field(default_factory=MissedEvents)
    """What members who come back together get, made once."""
