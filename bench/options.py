"""The options that all sub-commands of `parley bench` have, and what a run does with them.

Rules: progress goes to stderr, the table to stdout. Exit status: 0 measured (whether or not a bar
was met: that is the table's to say), 1 the server lost or changed something or could not be
measured, 2 wrong usage, 3 every round of a contender was refused because the generator was the
bottleneck.
"""

import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click

from bench import accounting, checks, figures, report, scenarios, wire
from bench.connection import BenchError
from bench.peers import PEERS
from bench.stage import FLOORS, Stage, StageOptions, open_stage
from bench.target import Peer

Builder = Callable[[Stage], scenarios.Scenario]
_PEERS: Final[Mapping[str, Peer]] = MappingProxyType({one.name: one for one in PEERS})
NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What all sub-commands have in common."""

    rounds: int
    json_file: Path | None
    stage: StageOptions

    @property
    def only(self) -> str | None:
        """The one contender that is measured, if it is one."""
        return self.stage.only


seconds_option = click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Measured time of each turn.",
)


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the common options; the command gets them as one `RunOptions`."""

    @click.option(
        "--rounds", default=3, show_default=True, type=click.IntRange(1), help="Turns of each."
    )
    @click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write every reading to this file.",
    )
    @click.option(
        "--env-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Join the running system that `parley up --env-file` described, instead of "
        "starting a private one.",
    )
    @click.option(
        "--peer",
        "peers",
        multiple=True,
        metavar="NAME",
        help="Let this server take turns too; repeatable; `all`: every one that can run here. "
        f"Known: {', '.join(sorted(_PEERS)) or 'none'}.",
    )
    @click.option("--only", metavar="NAME", help="Measure one contender alone: broker, floor, …")
    @click.option("--server-core", default=0, show_default=True, type=click.IntRange(0))
    @click.option("--generator-core", default=1, show_default=True, type=click.IntRange(0))
    @click.option(
        "--pin/--no-pin",
        default=True,
        show_default=True,
        help="Keep the server on one core and everything else on another.",
    )
    @wraps(command)
    def wrapper(
        rounds: int,
        json_file: Path | None,
        env_file: Path | None,
        peers: Sequence[str],
        only: str | None,
        server_core: int,
        generator_core: int,
        pin: bool,
        **rest: Any,
    ) -> None:
        if pin:
            _check_cores(server_core, generator_core)
        stage = StageOptions(
            server_core=server_core if pin else None,
            generator_core=generator_core if pin else None,
            only=only,
            env_file=env_file,
            peers=_choose_peers(peers, only),
        )
        command(RunOptions(rounds=rounds, json_file=json_file, stage=stage), **rest)

    return wrapper


def _choose_peers(peers: Sequence[str], only: str | None) -> tuple[Peer, ...]:
    names = sorted(_PEERS) if "all" in peers else list(dict.fromkeys(peers))
    if only is not None and only in _PEERS and only not in names:
        names.append(only)
    for name in names:
        if name not in _PEERS:
            known = ", ".join(sorted(_PEERS)) or "none"
            raise click.UsageError(f"--peer {name}: unknown; known: {known}")
    if only is not None and only not in ("broker", *FLOORS, *_PEERS):
        raise click.UsageError(f"--only {only}: neither broker nor a floor nor a peer")
    return tuple(_PEERS[name] for name in names)


def _check_cores(server_core: int, generator_core: int) -> None:
    usable = accounting.usable_cores()
    if server_core == generator_core:
        raise click.UsageError("--server-core and --generator-core must differ")
    for core in (server_core, generator_core):
        if core not in usable:
            raise click.UsageError(
                f"core {core} is not usable here (usable: {usable}); two cores are needed, or "
                "--no-pin for figures that compare badly"
            )


def measure(
    options: RunOptions, builders: Sequence[Builder], settings: Mapping[str, str] = NO_SETTINGS
) -> tuple[dict[str, Any], list[scenarios.Outcome]]:
    """Run the scenarios: a description of the machine, and the outcomes.

    `settings` are further variables of the private system. A wrong delivery or a server that
    cannot be measured is a `click.ClickException`.
    """
    _raise_file_limit()
    machine = report.describe_machine()
    outcomes: list[scenarios.Outcome] = []
    try:
        with (
            accounting.pinned(options.stage.generator_core),
            open_stage(scenarios.run_name(), options.stage, settings, say) as stage,
        ):
            if stage.system is not None:
                machine["versions"]["redis-server"] = report.redis_version(
                    stage.system["REDIS_URL"]
                )
            peers = {peer.name for peer in options.stage.peers}
            for build in builders:
                outcomes.append(scenarios.run_scenario(build(stage), options.rounds, say, peers))
    except checks.CheckFailed as error:
        raise click.ClickException(f"wrong delivery, no figure: {error}") from error
    except (BenchError, wire.WireError, OSError) as error:
        raise click.ClickException(str(error)) from error
    return machine, outcomes


def run(
    options: RunOptions, builders: Sequence[Builder], settings: Mapping[str, str] = NO_SETTINGS
) -> None:
    """Measure, print, and leave with the right status."""
    machine, outcomes = measure(options, builders, settings)
    click.echo(report.format_table(outcomes))
    if options.json_file is not None:
        report.write_json(options.json_file, machine, outcomes)
    if any(is_refused(one) for one in outcomes):
        sys.exit(3)


def is_refused(outcome: scenarios.Outcome) -> bool:
    """Whether a contender has no figure at all."""
    names = {one.target for one in outcome.rounds}
    return any(not figures.figures_of(outcome.rounds, name) for name in names)


def _raise_file_limit() -> None:
    """Thousands of sockets need thousands of files; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def say(line: str) -> None:
    """A line of progress."""
    click.echo(line, err=True)
