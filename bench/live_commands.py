"""`parley bench fanout`, `pairs`, `idle`, `latency`: the scenarios of live messages."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import click

from bench import messaging
from bench.fanout import FanoutOptions
from bench.idle import IdleOptions
from bench.latency import LatencyOptions
from bench.options import RunOptions, run, run_options, seconds_option
from bench.pairs import PairsOptions
from bench.stage import FLOORS

IDLE_SIZES: Final = (5000, 20_000)


@click.command("fanout")
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
def fanout(
    options: RunOptions, seconds: float, receivers: int, senders: int, in_flight: int
) -> None:
    """One room with many receivers: deliveries per server CPU second."""
    if senders > receivers:
        raise click.UsageError("senders are receivers too: --senders is at most --receivers")
    sizes = FanoutOptions(
        receivers=receivers, senders=senders, in_flight=in_flight, seconds=seconds
    )
    run(options, [partial(messaging.fanout, options=sizes)])


@click.command("pairs")
@seconds_option
@click.option("--rooms", default=500, show_default=True, type=click.IntRange(1))
@click.option(
    "--pause",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds that each room rests after a message, where the generator's core would be full.",
)
@run_options
def pairs(options: RunOptions, seconds: float, rooms: int, pause: float) -> None:
    """Rooms of two, every publish answered: messages per server CPU second."""
    sizes = PairsOptions(rooms=rooms, seconds=seconds, pause=pause)
    run(options, [partial(messaging.pairs, options=sizes)])


@click.command("idle")
@click.option(
    "--seconds",
    default=IdleOptions.seconds,
    show_default=True,
    type=click.FloatRange(0),
    help="How long to watch the idle CPU; the usual one holds two pings of each connection.",
)
@click.option(
    "--connections",
    "counts",
    multiple=True,
    default=IDLE_SIZES,
    show_default=True,
    type=click.IntRange(1),
    help="How many; repeatable: one scenario each.",
)
@run_options
def idle(options: RunOptions, seconds: float, counts: Sequence[int]) -> None:
    """Idle connections: KiB of server memory each, and what keeping them costs."""
    if options.only in FLOORS:
        raise click.UsageError("the floor has no part in this scenario")
    sizes = [IdleOptions(connections=one, seconds=seconds) for one in counts]
    run(options, [partial(messaging.idle, options=one) for one in sizes])


@click.command("latency")
@seconds_option
@click.option(
    "--receivers",
    default=LatencyOptions.receivers,
    show_default=True,
    type=click.IntRange(2),
    help="Connections of the room, with the sender.",
)
@click.option(
    "--rate",
    default=LatencyOptions.rate,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Publishes a second.",
)
@click.option(
    "--beside-load",
    is_flag=True,
    help="While a second room of 1 000 is under load as in `fanout`.",
)
@click.option(
    "--load-receivers", default=1000, show_default=True, type=click.IntRange(2), hidden=True
)
@run_options
def latency(
    options: RunOptions,
    seconds: float,
    receivers: int,
    rate: float,
    beside_load: bool,
    load_receivers: int,
) -> None:
    """Time from publish to event, open loop."""
    sizes = LatencyOptions(
        receivers=receivers,
        rate=rate,
        seconds=seconds,
        beside=load_receivers if beside_load else 0,
    )
    run(options, [partial(messaging.latency, options=sizes)])
