"""What a further node costs: the same rooms over one, two and three nodes.

Rules: rooms of six, whose members are spread over all nodes, so every message goes to each node and
the deliveries are the same for any number of nodes. All nodes share the server's core: what is
compared is CPU per message, summed over the nodes, and Redis' beside it. `processes-2` is one
broker with BROKER_PROCESSES=2, over which the kernel spreads the connections.

With two cores, one of them the generator's, two processes can not be seen to be faster than one.
What they would do on two free cores follows from the CPU that a message costs them, and the table
says so.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from bench import figures, servers
from bench.pairs import PairsOptions, run_pairs
from bench.scenarios import Opener, Scenario
from bench.stage import Stage
from bench.target import Target
from bench.tokens import TokenMaker

MEMBERS: Final = 6  # of a room: as many on each of 1, 2 or 3 nodes
COUNTS: Final = (1, 2, 3)
_NOTE: Final = (
    "every node ran on the one core of the server; the speed of two processes on two free cores is "
    "worked out as 2 x (CPU per message of one) / (CPU per message of two), not seen"
)


@dataclass(frozen=True, kw_only=True)
class NodesOptions:
    """Sizes of the scenario."""

    rooms: int = 100
    seconds: float = 5.0


@contextlib.contextmanager
def open_nodes(stage: Stage, count: int) -> Iterator[Target]:
    """So many brokers, each a node of its own, seen as one server."""
    system, api = stage.need_system()
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(servers.open_process("broker", system, stage.options.server_core))
            for _ in range(count)
        ]
        (process, port), *more = started
        yield Target(
            name=f"nodes-{count}",
            host="127.0.0.1",
            port=port,
            process=process,
            more_ports=[one for _, one in more],
            more_processes=[one for one, _ in more],
            token=TokenMaker(system).token,
            prepare_rooms=api.prepare_rooms,
            redis_url=system["REDIS_URL"],
            **stage.cores,
        )


def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
    """Cost against one node, and what two processes would do on two cores."""
    found = []
    redis = {
        count: figures.detail(rounds, f"nodes-{count}", "redis_us_per_message") for count in COUNTS
    }
    for count in COUNTS[1:]:
        cost = figures.ratio(rounds, "nodes-1", f"nodes-{count}")
        found.append(
            figures.Bar(
                name=f"cost on {count} nodes", value=cost, limit=1.15, unit="", at_least=False
            )
        )
        one, many = redis[1], redis[count]
        more = None if one is None or many is None else (many - one) / (count - 1)
        found.append(
            figures.Bar(
                name=f"Redis a node, {count} nodes", value=more, limit=4, unit="µs", at_least=False
            )
        )
    share = figures.ratio(rounds, "processes-2", "nodes-1")
    speed = None if share is None else 2 * share
    found.append(
        figures.Bar(
            name="BROKER_PROCESSES=2, worked out", value=speed, limit=1.8, unit="", at_least=True
        )
    )
    return found


def scenario(stage: Stage, options: NodesOptions) -> Scenario:
    """Its rooms and contenders."""
    system, api = stage.need_system()
    rooms = {
        f"{stage.run}-nodes-{number}": [
            f"{stage.run}-{number * MEMBERS + member}" for member in range(MEMBERS)
        ]
        for number in range(options.rooms)
    }
    contenders: dict[str, Opener] = {
        f"nodes-{count}": partial(open_nodes, stage, count) for count in COUNTS
    }
    contenders["processes-2"] = partial(
        servers.open_broker,
        system,
        api,
        **stage.cores,
        name="processes-2",
        settings={"BROKER_PROCESSES": "2"},
    )
    sizes = PairsOptions(rooms=options.rooms, seconds=options.seconds)
    return Scenario(
        name="nodes",
        unit="messages / server CPU s",
        parameters={**asdict(options), "members": MEMBERS},
        contenders=contenders,
        rooms=rooms,
        turn=lambda target: run_pairs(target, rooms, sizes),
        bars=bars,
        fresh=True,
        note=_NOTE,
    )
