"""`parley bench storm`, `archive`, `history`, `nodes`, `growth`: more than live messages."""

from collections.abc import Sequence
from functools import partial

import click

from bench import archive as archiving
from bench import growth as growing
from bench import history as paging
from bench import nodes as spreading
from bench import storm as storming
from bench.archive import ArchiveOptions
from bench.history import HistoryOptions
from bench.nodes import NodesOptions
from bench.options import RunOptions, run, run_options, seconds_option
from bench.storm import StormOptions


@click.command("storm")
@click.option("--connections", default=5000, show_default=True, type=click.IntRange(1))
@click.option(
    "--missed", default=20, show_default=True, type=click.IntRange(1), help="Events of each."
)
@click.option(
    "--at-once",
    default=400,
    show_default=True,
    type=click.IntRange(1),
    help="Connections on their way back at a time.",
)
@run_options
def storm(options: RunOptions, connections: int, missed: int, at_once: int) -> None:
    """Everybody is dropped and resumes: resumes per server CPU second."""
    sizes = StormOptions(connections=connections, missed=missed, at_once=at_once)
    run(options, [partial(storming.scenario, options=sizes)])


@click.command("archive")
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
def archive(options: RunOptions, events: int, rooms: int, present: int) -> None:
    """A backlog into PostgreSQL through one archiver: events a second."""
    if events % rooms:
        raise click.UsageError("--events must be a multiple of --rooms")
    sizes = ArchiveOptions(events=events, rooms=rooms, present=present)
    run(options, [partial(archiving.scenario, options=sizes)])


@click.command("history")
@seconds_option
@click.option("--messages", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--connections", default=8, show_default=True, type=click.IntRange(1))
@run_options
def history(options: RunOptions, seconds: float, messages: int, connections: int) -> None:
    """Pages of 50 over REST (cold, hot, 304) and the WebSocket: pages per server CPU second."""
    sizes = HistoryOptions(messages=messages, connections=connections, seconds=seconds)
    run(options, paging.scenarios_of(sizes))


@click.command("nodes")
@seconds_option
@click.option("--rooms", default=100, show_default=True, type=click.IntRange(1))
@run_options
def nodes(options: RunOptions, seconds: float, rooms: int) -> None:
    """The same rooms over one, two and three nodes, and two processes: cost per message."""
    sizes = NodesOptions(rooms=rooms, seconds=seconds)
    run(options, [partial(spreading.scenario, options=sizes)])


@click.command("growth")
@seconds_option
@click.option(
    "--direction",
    "directions",
    multiple=True,
    type=click.Choice(list(growing.SIZES)),
    help="What grows; repeatable; all three when left out.",
)
@click.option(
    "--size", "sizes", multiple=True, type=click.IntRange(1), help="Instead of the usual sizes."
)
@run_options
def growth(
    options: RunOptions, seconds: float, directions: Sequence[str], sizes: Sequence[int]
) -> None:
    """Cost per message while rooms, a user's rooms or a room's members grow."""
    if len(set(sizes)) == 1 or (sizes and len(directions) != 1):
        raise click.UsageError("--size: two or more different ones, and one --direction")
    run(options, growing.scenarios_of(directions, sizes, seconds))
