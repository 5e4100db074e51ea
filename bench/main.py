"""`parley bench`: the command line of the load generator.

Rules: it starts what it measures and stops it again; it prints progress on stderr and the table on
stdout. Exit status: 0 measured (whether or not a bar was met: that is the table's to say), 1 the
server lost or changed something or could not be measured, 2 wrong usage, 3 every round of a
scenario was refused because the generator was the bottleneck.
"""

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final

import click

from bench import accounting, checks, figures, report, scenarios, servers, wire
from bench.connection import BenchError
from bench.fanout import FanoutOptions
from bench.idle import IdleOptions
from bench.latency import LatencyOptions
from bench.pairs import PairsOptions
from bench.rest import Api

JOINED_IN_FLIGHT: Final = 16
Builder = Callable[[str], scenarios.Scenario]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What all sub-commands have in common."""

    rounds: int
    json_file: Path | None
    env_file: Path | None
    only: str | None
    server_core: int | None
    generator_core: int | None


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """Add the common options; the command gets them as one `RunOptions`."""

    @click.option(
        "--rounds",
        default=3,
        show_default=True,
        type=click.IntRange(1),
        help="Turns of each server.",
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
        "--only", type=click.Choice(["broker", "floor"]), help="Measure one server alone."
    )
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
        only: str | None,
        server_core: int,
        generator_core: int,
        pin: bool,
        **rest: Any,
    ) -> None:
        if pin:
            _check_cores(server_core, generator_core)
        command(
            RunOptions(
                rounds=rounds,
                json_file=json_file,
                env_file=env_file,
                only=only,
                server_core=server_core if pin else None,
                generator_core=generator_core if pin else None,
            ),
            **rest,
        )

    return wrapper


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


_seconds = click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Measured time of each turn.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the broker against the floor: a bare loop in Python that only sends.

    Needs two cores; the server gets one for itself. docs/performance.md says what the figures
    mean.
    """


@main.command("fanout")
@_seconds
@click.option("--receivers", default=500, show_default=True, type=click.IntRange(2))
@click.option("--senders", default=2, show_default=True, type=click.IntRange(1))
@click.option(
    "--in-flight",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Unanswered publishes in the room; from 2 on the server may join events.",
)
@_common
def fanout_command(
    options: RunOptions, seconds: float, receivers: int, senders: int, in_flight: int
) -> None:
    """One room with many receivers: deliveries per server CPU second."""
    if senders > receivers:
        raise click.UsageError("senders are receivers too: --senders is at most --receivers")
    sizes = FanoutOptions(
        receivers=receivers, senders=senders, in_flight=in_flight, seconds=seconds
    )
    _run(options, [partial(scenarios.fanout, options=sizes)])


@main.command("pairs")
@_seconds
@click.option("--rooms", default=200, show_default=True, type=click.IntRange(1))
@_common
def pairs_command(options: RunOptions, seconds: float, rooms: int) -> None:
    """Rooms of two, every publish answered: messages per server CPU second."""
    sizes = PairsOptions(rooms=rooms, seconds=seconds)
    _run(options, [partial(scenarios.pairs, options=sizes)])


@main.command("idle")
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0),
    help="How long to watch the idle CPU.",
)
@click.option("--connections", default=5000, show_default=True, type=click.IntRange(1))
@_common
def idle_command(options: RunOptions, seconds: float, connections: int) -> None:
    """Idle connections: KiB of server memory each."""
    if options.only == "floor":
        raise click.UsageError("the floor has no part in this scenario")
    sizes = IdleOptions(connections=connections, seconds=seconds)
    _run(options, [partial(scenarios.idle, options=sizes)])


@main.command("latency")
@_seconds
@click.option(
    "--receivers",
    default=2,
    show_default=True,
    type=click.IntRange(2),
    help="Connections of the room, with the sender.",
)
@click.option(
    "--rate",
    default=100.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Publishes a second.",
)
@_common
def latency_command(options: RunOptions, seconds: float, receivers: int, rate: float) -> None:
    """Unloaded: time from publish to event, open loop."""
    sizes = LatencyOptions(receivers=receivers, rate=rate, seconds=seconds)
    _run(options, [partial(scenarios.latency, options=sizes)])


@main.command("all")
@_seconds
@_common
def all_command(options: RunOptions, seconds: float) -> None:
    """Every scenario with its usual sizes."""
    builders: list[Builder] = [
        partial(scenarios.fanout, options=FanoutOptions(seconds=seconds)),
        partial(
            scenarios.fanout,
            options=FanoutOptions(seconds=seconds, senders=4, in_flight=JOINED_IN_FLIGHT),
        ),
        partial(scenarios.pairs, options=PairsOptions(seconds=seconds)),
        partial(scenarios.latency, options=LatencyOptions(seconds=seconds)),
    ]
    if options.only != "floor":
        builders.append(partial(scenarios.idle, options=IdleOptions()))
    _run(options, builders)


def _run(options: RunOptions, builders: Sequence[Builder]) -> None:
    """Measure, print, and leave with the right status."""
    _raise_file_limit()
    run = scenarios.run_name()
    machine = report.describe_machine()
    outcomes: list[scenarios.Outcome] = []
    try:
        with accounting.pinned(options.generator_core), _open_servers(options, machine) as openers:
            for build in builders:
                scenario = build(run)
                outcomes.append(scenarios.run_scenario(scenario, openers, options.rounds, _say))
    except checks.CheckFailed as error:
        raise click.ClickException(f"wrong delivery, no figure: {error}") from error
    except (BenchError, wire.WireError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(report.format_table(outcomes))
    if options.json_file is not None:
        report.write_json(options.json_file, machine, outcomes)
    if any(_is_refused(one) for one in outcomes):
        sys.exit(3)


@contextlib.contextmanager
def _open_servers(
    options: RunOptions, machine: dict[str, Any]
) -> Iterator[dict[str, scenarios.Opener]]:
    """How to start each server that takes part."""
    server_core, generator_core = options.server_core, options.generator_core
    openers: dict[str, scenarios.Opener] = {}
    with contextlib.ExitStack() as stack:
        if options.only != "floor":
            if options.env_file is not None:
                system = servers.read_env_file(options.env_file)
            else:
                _say("starting a private system")
                system = stack.enter_context(servers.open_system(options.generator_core))
            machine["versions"]["redis-server"] = report.redis_version(system["REDIS_URL"])
            openers["broker"] = partial(
                servers.open_broker,
                system,
                Api(system["API_URL"], system["API_KEY"]),
                server_core=server_core,
                generator_core=generator_core,
            )
        if options.only != "broker":
            openers["floor"] = partial(
                servers.open_floor, server_core=server_core, generator_core=generator_core
            )
        yield openers


def _is_refused(outcome: scenarios.Outcome) -> bool:
    names = {one.target for one in outcome.rounds}
    return any(not figures.figures_of(outcome.rounds, name) for name in names)


def _raise_file_limit() -> None:
    """Thousands of sockets need thousands of files; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main(prog_name="parley bench")
