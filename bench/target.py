"""What a scenario needs to know of a server, and what a peer must provide to take its turns.

A peer is a server that people would use instead. `bench.peers.PEERS` names them all; each is a
`Peer`: a name, the scenarios in which it takes part, why it cannot run here (or None), and how to
start it. `open` yields a `Target` for as long as the server runs, then ends every process that it
started. Rules for it:

- started with `accounting.pinned(place.server_core)`, so that it is on its core before its first
  instruction; a Redis of its own (or anything else that it uses) with `place.generator_core`;
- `process` is the root of everything whose CPU and memory count as the server's. Redis is counted
  beside it, from `INFO cpu` at `redis_url`; the table prints figures with it and without;
- set up as its own documentation recommends for speed, and everything that it needs found
  beforehand: `missing` is one line for the user, never an exception;
- whoever publishes gets their own event too, as from Parley (a server that leaves the sender out
  is told to send it as well): every scenario counts on it;
- `token` and `prepare_rooms` may do nothing where the server knows no users or rooms;
- for `history`: `page` gives the whole HTTP request for one page of 50 messages of `room` below
  the number `before`, ascending, from the tables in `place.database_url` that Parley's own API
  reads; each message in the answer has `"seq":NUMBER` (spaces do not matter) exactly once.

Not started by a peer: the generator, the floors, Parley.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from bench import accounting
from bench.dialect import Dialect
from bench.product import ParleyDialect

PEER_SCENARIOS: Final = frozenset(
    {"fanout", "fanout-joined", "pairs", "idle", "latency", "history"}
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running server. Figures are compared between targets that took turns in one run."""

    name: str
    host: str
    port: int
    process: int  # root of the process tree whose CPU and memory are counted
    token: Callable[[str], str]
    prepare_rooms: Callable[[Mapping[str, Sequence[str]]], None]  # room -> members
    dialect: Dialect = field(default_factory=ParleyDialect)
    redis_url: str | None = None
    database_process: int | None = None  # root of PostgreSQL's processes, where they are ours
    checks_content: bool = True  # False: sends a prepared frame whatever was published
    server_core: int | None = None  # None: not pinned, so its core can not be judged
    generator_core: int | None = None
    more_ports: Sequence[int] = ()  # further nodes; connections go to all in turn
    more_processes: Sequence[int] = ()
    page: Callable[[str, int], bytes] | None = None  # for `history`, see above

    def meter(self) -> accounting.Meter:
        """Reads what this server and all around it has cost so far."""
        return accounting.Meter(
            self.process,
            *self.more_processes,
            redis_url=self.redis_url,
            database=self.database_process,
            server_core=self.server_core,
            generator_core=self.generator_core,
        )

    def port_of(self, index: int) -> int:
        """Where the connection with this number goes."""
        ports = (self.port, *self.more_ports)
        return ports[index % len(ports)]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a peer is started."""

    folder: Path  # empty, its own, removed when the peer has ended
    server_core: int | None
    generator_core: int | None
    redis_url: str | None  # of the private system: there to be used; flushed by nobody
    database_url: str | None  # of the private system, for `history`


class Peer(Protocol):
    """A server to compare with."""

    @property
    def name(self) -> str:
        """As in `--peer NAME` and in every table: lower case, words joined by hyphens."""

    @property
    def scenarios(self) -> frozenset[str]:
        """Those of `PEER_SCENARIOS` in which it takes part."""

    def missing(self) -> str | None:
        """What is not there to run it, as one line; None when it can run."""

    def open(self, place: Place) -> AbstractContextManager[Target]:
        """Start it; end everything with the block."""
