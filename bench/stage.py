"""What a run has started and may start: the system, and everybody who takes turns.

Rules: the system (`parley up --ephemeral`, or the one of an env file) lives as long as the run;
contenders are started by the scenario that they take part in, and end with it. Whoever is missing
on this machine is named in a line and left out.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypedDict

from bench import floors, servers
from bench.connection import BenchError
from bench.rest import Api
from bench.scenarios import Opener
from bench.target import Peer, Place, Target

FLOORS: Final = ("floor", "floor-c")


class Cores(TypedDict):
    """Where a server runs, and everything else."""

    server_core: int | None
    generator_core: int | None


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Who takes part, where, and in which system."""

    server_core: int | None = None
    generator_core: int | None = None
    only: str | None = None  # one contender alone
    env_file: Path | None = None
    peers: Sequence[Peer] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An open run. `system` is None when the floors alone are measured."""

    run: str  # a prefix for users and rooms that no other run uses
    options: StageOptions
    system: Mapping[str, str] | None
    is_private: bool  # the system is ours alone: its archiver may be stopped, its tables filled
    api: Api | None
    say: Callable[[str], None]

    @property
    def cores(self) -> Cores:
        """Keyword arguments for whatever starts a server."""
        return Cores(
            server_core=self.options.server_core, generator_core=self.options.generator_core
        )

    def need_system(self) -> tuple[Mapping[str, str], Api]:
        """The system and its API, for scenarios that mean nothing without."""
        if self.system is None or self.api is None:
            raise BenchError("this scenario measures the product: leave out --only")
        return self.system, self.api

    def contenders(self, scenario: str, *, floors: bool = True) -> dict[str, Opener]:
        """Everybody who takes turns in a scenario, and how each is started."""
        found: dict[str, Opener] = {}
        if self.system is not None and self.api is not None:
            found["broker"] = partial(servers.open_broker, self.system, self.api, **self.cores)
        if floors and self.options.only != "broker":
            found |= self._floors()
        found |= self.peer_contenders(scenario)
        if self.options.only is not None:
            found = {name: one for name, one in found.items() if name == self.options.only}
        return found

    def peer_contenders(self, scenario: str) -> dict[str, Opener]:
        """The peers that take part in a scenario and can run here."""
        found: dict[str, Opener] = {}
        for peer in self.options.peers:
            if scenario in peer.scenarios:
                reason = peer.missing()
                if reason is None:
                    found[peer.name] = partial(self._open_peer, peer)
                else:
                    self.say(f"{scenario}: without {peer.name}: {reason}")
        return found

    def _floors(self) -> dict[str, Opener]:
        found: dict[str, Opener] = {"floor": partial(floors.open_floor, **self.cores)}
        if floors.compiler() is None:
            self.say("without the C floor: no C compiler (cc) is installed")
        else:
            found["floor-c"] = partial(floors.open_c_floor, **self.cores)
        return found

    @contextlib.contextmanager
    def _open_peer(self, peer: Peer) -> Iterator[Target]:
        folder = Path(tempfile.mkdtemp(prefix=f"parley-bench-{peer.name}-"))
        system = self.system or {}
        place = Place(
            folder=folder,
            redis_url=system.get("REDIS_URL"),
            database_url=system.get("DATABASE_URL"),
            **self.cores,
        )
        try:
            with peer.open(place) as target:
                yield target
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def open_stage(
    run: str, options: StageOptions, settings: Mapping[str, Any], say: Callable[[str], None]
) -> Iterator[Stage]:
    """Start the system, unless the floors alone or a peer alone are measured.

    `settings` are variables of the private system's processes beside the usual ones.
    """
    with contextlib.ExitStack() as stack:
        system: Mapping[str, str] | None = None
        is_private = options.env_file is None
        if options.only not in FLOORS:
            if options.env_file is not None:
                system = servers.read_env_file(options.env_file)
            else:
                say("starting a private system")
                system = stack.enter_context(servers.open_system(options.generator_core, settings))
        api = None
        if system is not None:
            api = Api(system["API_URL"], system["API_KEY"])
            stack.callback(api.close)
        yield Stage(
            run=run, options=options, system=system, is_private=is_private, api=api, say=say
        )
