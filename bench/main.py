"""`parley bench`: the command line of the load generator.

It starts what it measures and stops it again. What the options mean that all commands have, and
the exit status, is in `bench.options`.
"""

import os
from collections.abc import Sequence
from functools import partial
from typing import Final

import click

from bench import archive, growth, history, messaging, nodes, storm
from bench.archive import ArchiveOptions
from bench.fanout import FanoutOptions
from bench.growth import GrowthOptions
from bench.history import HistoryOptions
from bench.idle import IdleOptions
from bench.latency import LatencyOptions
from bench.nodes import NodesOptions
from bench.options import Builder, RunOptions, run, run_options, seconds_option
from bench.pairs import PairsOptions
from bench.stage import FLOORS
from bench.storm import StormOptions

JOINED_IN_FLIGHT: Final = 16


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the broker against floors (bare loops that only send) and other servers.

    Needs two cores; the server gets one for itself. docs/performance.md says what the figures
    mean.
    """


@main.command("fanout")
@seconds_option
@click.option("--receivers", default=1000, show_default=True, type=click.IntRange(2))
@click.option("--senders", default=2, show_default=True, type=click.IntRange(1))
@click.option(
    "--in-flight",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Unanswered publishes in the room; from 2 on the server may join events.",
)
@run_options
def fanout_command(
    options: RunOptions, seconds: float, receivers: int, senders: int, in_flight: int
) -> None:
    """One room with many receivers: deliveries per server CPU second."""
    if senders > receivers:
        raise click.UsageError("senders are receivers too: --senders is at most --receivers")
    sizes = FanoutOptions(
        receivers=receivers, senders=senders, in_flight=in_flight, seconds=seconds
    )
    run(options, [partial(messaging.fanout, options=sizes)])


@main.command("pairs")
@seconds_option
@click.option("--rooms", default=500, show_default=True, type=click.IntRange(1))
@run_options
def pairs_command(options: RunOptions, seconds: float, rooms: int) -> None:
    """Rooms of two, every publish answered: messages per server CPU second."""
    sizes = PairsOptions(rooms=rooms, seconds=seconds)
    run(options, [partial(messaging.pairs, options=sizes)])


@main.command("idle")
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0),
    help="How long to watch the idle CPU.",
)
@click.option("--connections", default=5000, show_default=True, type=click.IntRange(1))
@run_options
def idle_command(options: RunOptions, seconds: float, connections: int) -> None:
    """Idle connections: KiB of server memory each."""
    if options.only in FLOORS:
        raise click.UsageError("the floor has no part in this scenario")
    sizes = IdleOptions(connections=connections, seconds=seconds)
    run(options, [partial(messaging.idle, options=sizes)])


@main.command("latency")
@seconds_option
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
@run_options
def latency_command(options: RunOptions, seconds: float, receivers: int, rate: float) -> None:
    """Unloaded: time from publish to event, open loop."""
    sizes = LatencyOptions(receivers=receivers, rate=rate, seconds=seconds)
    run(options, [partial(messaging.latency, options=sizes)])


@main.command("storm")
@click.option("--connections", default=5000, show_default=True, type=click.IntRange(1))
@click.option(
    "--missed", default=20, show_default=True, type=click.IntRange(1), help="Events of each."
)
@click.option(
    "--at-once",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Connections on their way back at a time.",
)
@run_options
def storm_command(options: RunOptions, connections: int, missed: int, at_once: int) -> None:
    """Everybody is dropped and resumes: resumes per server CPU second."""
    sizes = StormOptions(connections=connections, missed=missed, at_once=at_once)
    run(options, [partial(storm.scenario, options=sizes)])


@main.command("archive")
@click.option("--events", default=200_000, show_default=True, type=click.IntRange(1))
@click.option("--rooms", default=2000, show_default=True, type=click.IntRange(1))
@click.option(
    "--present",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Measure again with so many rows in the table.",
)
@run_options
def archive_command(options: RunOptions, events: int, rooms: int, present: int) -> None:
    """A backlog into PostgreSQL through one archiver: events a second."""
    if events % rooms:
        raise click.UsageError("--events must be a multiple of --rooms")
    sizes = ArchiveOptions(events=events, rooms=rooms, present=present)
    run(options, [partial(archive.scenario, options=sizes)])


@main.command("history")
@seconds_option
@click.option("--messages", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--connections", default=8, show_default=True, type=click.IntRange(1))
@run_options
def history_command(options: RunOptions, seconds: float, messages: int, connections: int) -> None:
    """Pages of 50 over REST (cold, hot, 304) and the WebSocket: pages per server CPU second."""
    sizes = HistoryOptions(messages=messages, connections=connections, seconds=seconds)
    run(options, history.scenarios_of(sizes))


@main.command("nodes")
@seconds_option
@click.option("--rooms", default=100, show_default=True, type=click.IntRange(1))
@run_options
def nodes_command(options: RunOptions, seconds: float, rooms: int) -> None:
    """The same rooms over one, two and three nodes, and two processes: cost per message."""
    run(options, [partial(nodes.scenario, options=NodesOptions(rooms=rooms, seconds=seconds))])


@main.command("growth")
@seconds_option
@click.option(
    "--direction",
    "directions",
    multiple=True,
    type=click.Choice(list(growth.SIZES)),
    help="What grows; repeatable; all three when left out.",
)
@click.option(
    "--size", "sizes", multiple=True, type=click.IntRange(1), help="Instead of the usual sizes."
)
@run_options
def growth_command(
    options: RunOptions, seconds: float, directions: Sequence[str], sizes: Sequence[int]
) -> None:
    """Cost per message while rooms, a user's rooms or a room's members grow."""
    if len(sizes) == 1 or (sizes and len(directions) != 1):
        raise click.UsageError("--size: two or more, ascending, and one --direction")
    run(
        options,
        [
            partial(
                growth.scenario,
                options=GrowthOptions(
                    direction=one, sizes=sorted(sizes) or growth.SIZES[one], seconds=seconds
                ),
            )
            for one in directions or growth.SIZES
        ],
    )


@main.command("all")
@seconds_option
@run_options
def all_command(options: RunOptions, seconds: float) -> None:
    """Every scenario with its usual sizes."""
    builders: list[Builder] = [
        partial(messaging.fanout, options=FanoutOptions(seconds=seconds)),
        partial(
            messaging.fanout,
            options=FanoutOptions(seconds=seconds, senders=4, in_flight=JOINED_IN_FLIGHT),
        ),
        partial(messaging.pairs, options=PairsOptions(seconds=seconds)),
        partial(messaging.latency, options=LatencyOptions(seconds=seconds)),
    ]
    if options.only not in FLOORS:
        builders.append(partial(messaging.idle, options=IdleOptions()))
    run(options, builders)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main(prog_name="parley bench")
