"""What one message costs Redis, on a machine that also does other things.

    python -m tests.scale.redis_cost                            # this tree, piece by piece
    python -m tests.scale.redis_cost --against ../before        # two trees by turns
    python -m tests.scale.redis_cost --against ../before --instructions
    python -m tests.scale.redis_cost --together 1               # publishes that come alone

Each run starts a private Redis and sends it the course of `redis_cost_run`: the real scripts, a
node's reader and an archiver's reads and acknowledgements, without sockets of clients and without
PostgreSQL. CPU is what Redis says of itself (`INFO cpu`, all its threads). Trees and pieces are
measured by turns and medians printed, with (greatest - smallest) / median beside them: other work
on the machine disturbs both alike. `--instructions` counts instead what Redis executes outside the
kernel (it needs valgrind), by the difference of a long and a short run: slow, the same every time,
and blind to system calls and to memory that is not in a cache. `--against` names another checkout
of this repository.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parents[2]
EVERYTHING: Final = ("reader", "archiver", "client_id", "aof")
# Each line leaves out one more piece than the one before.
PIECES: Final = (
    ("everything", EVERYTHING),
    ("no archiver", ("reader", "client_id", "aof")),
    ("no node either", ("client_id", "aof")),
    ("no client_id either", ("aof",)),
    ("no append-only file either", ()),
)
_US: Final = 1e6
_TIMEOUT: Final = 600.0


def run(tree: Path, options: dict[str, Any]) -> dict[str, float]:
    """One run of a tree's scripts; a figure for each message."""
    command = [sys.executable, str(HERE / "tests/scale/redis_cost_run.py"), json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT, check=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def count_instructions(tree: Path, options: dict[str, Any]) -> float:
    """What Redis executes for each message of a long run beyond a short one."""
    counts = (300, 1300)
    short, long = (
        run(tree, options | {"messages": count, "warm_up": 300, "valgrind": True})["instructions"]
        for count in counts
    )
    return (long - short) / (counts[1] - counts[0])


def spread(values: list[float]) -> str:
    """(greatest - smallest) / median."""
    middle = statistics.median(values)
    return f"{(max(values) - min(values)) / middle:.0%}" if middle else "-"


def print_trees(trees: list[Path], options: dict[str, Any], pairs: int) -> None:
    """The trees by turns."""
    found: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for turn in range(pairs):
        for tree in trees if turn % 2 == 0 else reversed(trees):
            found[tree].append(run(tree, options))
    print(
        f"{'':40}{'Redis':>9}{'spread':>8}{'AOF':>8}{'in':>7}{'out':>7}{'commands':>10}{'client':>9}"
    )
    for tree, results in found.items():
        cpu = [result["cpu"] * _US for result in results]
        client = statistics.median(result["client"] * _US for result in results)
        one = results[0]
        calls = sum(value for name, value in one.items() if name.startswith("calls "))
        print(
            f"{tree.name or tree!s:40}{statistics.median(cpu):7.1f}us{spread(cpu):>8}"
            f"{one['aof_bytes']:7.0f}B{one['in_bytes']:6.0f}B{one['out_bytes']:6.0f}B"
            f"{calls:10.1f}{client:7.1f}us"
        )
    if len(trees) == 2:
        ratios = [
            after["cpu"] / before["cpu"]
            for before, after in zip(found[trees[0]], found[trees[1]], strict=True)
        ]
        print(f"second / first, of each pair: {statistics.median(ratios):.3f} ({spread(ratios)})")
    for tree, results in found.items():
        print(f"\ncommands of one message, {tree.name}:")
        calls_of = {name[6:]: value for name, value in results[0].items() if name[:6] == "calls "}
        ranked = sorted(calls_of.items(), key=lambda pair: -pair[1])
        print("  " + ", ".join(f"{name} {value:.2f}" for name, value in ranked if value >= 0.005))


def print_pieces(options: dict[str, Any], pairs: int) -> None:
    """This tree, with fewer and fewer pieces."""
    found: dict[str, list[float]] = {name: [] for name, _parts in PIECES}
    for _ in range(pairs):
        for name, parts in PIECES:
            found[name].append(run(HERE, options | {"parts": parts})["cpu"] * _US)
    before = 0.0
    print(f"{'':30}{'Redis':>9}{'spread':>8}{'less by':>9}")
    for name, values in found.items():
        middle = statistics.median(values)
        less = f"{before - middle:7.1f}us" if before else ""
        print(f"{name:30}{middle:7.1f}us{spread(values):>8}{less:>9}")
        before = middle


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.redis_cost")
    parser.add_argument("--against", type=Path, help="another checkout, measured first")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=8000)
    parser.add_argument("--rooms", type=int, default=200)
    parser.add_argument("--together", type=int, default=16, help="publishes in one turn")
    parser.add_argument("--parts", nargs="*", choices=EVERYTHING, default=list(EVERYTHING))
    parser.add_argument("--instructions", action="store_true")
    given = parser.parse_args()
    options = {
        "rooms": given.rooms, "together": given.together, "parts": given.parts,
        "messages": given.messages, "warm_up": 1000, "valgrind": False,
    }  # fmt: skip
    trees = [HERE] if given.against is None else [given.against.resolve(), HERE]
    if given.instructions:
        for tree in trees:
            print(f"{tree.name:40}{count_instructions(tree, options):9.0f} instructions")
    elif given.against is None:
        print_pieces(options, given.pairs)
        print_trees(trees, options, 1)
    else:
        print_trees(trees, options, given.pairs)


if __name__ == "__main__":
    main()
