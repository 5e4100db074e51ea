"""`parley bench`: the command line of the load generator.

It starts what it measures and stops it again. What the options mean that all commands have, and
the exit status, is in `bench.options`. `check` has one status more: 1 also for a loss.
"""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click

from bench import (
    archive,
    growth,
    guard,
    history,
    live_commands,
    messaging,
    nodes,
    plots,
    report,
    storm,
)
from bench import system_commands as system
from bench.archive import ArchiveOptions
from bench.fanout import FanoutOptions
from bench.history import HistoryOptions
from bench.idle import IdleOptions
from bench.latency import LatencyOptions
from bench.nodes import NodesOptions
from bench.options import (
    Builder,
    RunOptions,
    measure,
    run,
    run_options,
    say,
    seconds_option,
)
from bench.pairs import PairsOptions
from bench.stage import FLOORS
from bench.storm import StormOptions

JOINED_IN_FLIGHT: Final = 16
W1_RECEIVERS: Final = 1000  # of the room beside which `latency` is measured, too


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the broker against floors (bare loops that only send) and other servers.

    Needs two cores; the server gets one for itself. docs/performance.md says what the figures
    mean.
    """


for _command in (
    *(live_commands.fanout, live_commands.pairs, live_commands.idle, live_commands.latency),
    *(system.storm, system.archive, system.history, system.nodes, system.growth),
):
    main.add_command(_command)


def _live(seconds: float) -> list[Builder]:
    joined = FanoutOptions(seconds=seconds, senders=4, in_flight=JOINED_IN_FLIGHT)
    return [
        partial(messaging.fanout, options=FanoutOptions(seconds=seconds)),
        partial(messaging.fanout, options=joined),
        partial(messaging.pairs, options=PairsOptions(seconds=seconds)),
    ]


@main.command("all")
@seconds_option
@run_options
def all_command(options: RunOptions, seconds: float) -> None:
    """Every scenario with its usual sizes; those of the floors alone with --only floor."""
    beside = LatencyOptions(seconds=seconds, beside=W1_RECEIVERS)
    builders: list[Builder] = [
        *_live(seconds),
        partial(messaging.latency, options=LatencyOptions(seconds=seconds)),
        partial(messaging.latency, options=beside),
    ]
    if options.only not in FLOORS:
        builders += [
            partial(messaging.idle, options=IdleOptions(connections=count))
            for count in live_commands.IDLE_SIZES
        ]
    if options.only is None:
        builders.append(partial(storm.scenario, options=StormOptions()))
        builders.append(partial(nodes.scenario, options=NodesOptions(seconds=seconds)))
        if options.stage.env_file is None:
            builders.append(partial(archive.scenario, options=ArchiveOptions()))
            builders += growth.scenarios_of((), (), seconds)
            builders += history.scenarios_of(HistoryOptions(seconds=seconds))
    run(options, builders)


@main.command("check")
@seconds_option
@click.option(
    "--record", is_flag=True, help="Record what is measured instead of comparing with it."
)
@run_options
def check_command(options: RunOptions, seconds: float, record: bool) -> None:
    """Compare shares of the floors with those recorded; status 1 for a loss above 15 %."""
    if options.only is not None or options.stage.env_file is not None:
        raise click.UsageError("check measures everything in a private system")
    builders: list[Builder] = [
        *_live(seconds),
        partial(storm.scenario, options=StormOptions(connections=1000)),
        partial(messaging.idle, options=IdleOptions(connections=2000, seconds=5.0)),
        partial(archive.scenario, options=ArchiveOptions(events=50_000, rooms=500)),
        *history.scenarios_of(HistoryOptions(messages=100_000, seconds=seconds)),
    ]
    machine, outcomes = measure(options, builders)
    values = guard.values_of(outcomes)
    if record:
        guard.write_recorded(values, machine)
    lines, is_lost = guard.compare(values, guard.read_recorded())
    click.echo("\n".join(lines))
    if options.json_file is not None:
        report.write_json(options.json_file, machine, outcomes)
    # A contender that was refused matters as far as a value needs it, and such a value is lost.
    if is_lost:
        sys.exit(1)


@main.command("plot")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--out",
    "folder",
    default="docs/performance",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the pictures go.",
)
def plot_command(files: Sequence[Path], folder: Path) -> None:
    """Draw the figures that `--json` wrote: one SVG for each scenario."""
    try:
        runs = [json.loads(file.read_text()) for file in files]
        for written in plots.write_plots(runs, folder):
            say(str(written))
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"not what --json wrote: {error!r}") from error


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main(prog_name="parley bench")
