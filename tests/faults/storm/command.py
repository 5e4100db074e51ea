"""The options of `make faults`, its output, its results file and the table made of such files."""

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

from tests.faults.storm.checker import Breach
from tests.faults.storm.faults import all_kinds
from tests.faults.storm.judging import judge, keep_record
from tests.faults.storm.plan import Plan, make_plan
from tests.faults.storm.results import line_of, table_of
from tests.faults.storm.run import Outcome, open_run
from tests.support.servers import PostgresServer
from tests.support.time_limit import within

EVENTS = 5000
TIME_LIMIT = 600.0
"""Seconds for one run, twice what the slowest took; then it fails, with the stack of every task."""
COMMAND = "python -m tests.faults.storm"


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 1 if a promise was broken."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    options = _parse(arguments)
    if options.list:
        for name, kind in all_kinds().items():
            print(f"{name:18} {(kind.__doc__ or '').splitlines()[0]}")
        return 0
    if options.table:
        print(table_of([Path(name) for name in options.table]))
        return 0
    return _campaign(options)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    add = parser.add_argument
    add("--seed", type=int, help="seed of the first run, the next ones count up; default: any")
    add("--runs", type=int, help="how many runs; default 1, without end with --minutes")
    add("--minutes", type=float, help="begin no further run after so many minutes")
    add("--faults", help="kinds of faults to choose from, by commas; 'none' for none")
    add("--events", type=int, default=EVENTS, help="durable events a run is to make")
    add("--keep", type=Path, help="folder for records and outputs of runs that fail")
    add("--results", type=Path, help="file to which each run adds a line of JSON")
    add("--list", action="store_true", help="list the kinds of faults")
    add("--table", nargs="+", metavar="FILE", help="print the table of results files")
    return parser.parse_args(arguments)


def _campaign(options: argparse.Namespace) -> int:
    first = random.randrange(2**32) if options.seed is None else options.seed
    runs = options.runs or (10**9 if options.minutes else 1)
    give_up_at = time.monotonic() + 60 * (options.minutes or 10**6)
    kinds = (
        None if options.faults is None else [k for k in options.faults.split(",") if k != "none"]
    )
    failed = 0
    with tempfile.TemporaryDirectory(prefix="storm-") as scratch:
        postgres = PostgresServer(Path(scratch) / "postgres")
        postgres.start()
        try:
            for seed in range(first, first + runs):
                if time.monotonic() > give_up_at:
                    break
                plan = make_plan(seed, events=options.events, kinds=kinds)
                folder = Path(scratch) / str(seed)
                try:
                    outcome, breaches = run_plan(plan, folder, postgres)
                except Exception:
                    # The harness itself failed: one run less, the others go on.
                    traceback.print_exc()
                    print(f"  no result; again: {repeat_command(plan)}", flush=True)
                    failed += 1
                    continue
                failed += bool(breaches)
                _report(outcome, breaches, folder, options)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            postgres.stop()
    return 1 if failed else 0


def run_plan(
    plan: Plan, folder: Path, postgres: PostgresServer, *, limit: float = TIME_LIMIT
) -> tuple[Outcome, list[Breach]]:
    """Act the plan out and judge it; the breaches. OverTime if it takes longer than `limit`."""
    return trio.run(within, limit, partial(_run_plan, plan, folder, postgres))


async def _run_plan(
    plan: Plan, folder: Path, postgres: PostgresServer
) -> tuple[Outcome, list[Breach]]:
    async with open_run(plan, folder, postgres) as run:
        outcome = await run.act()
    return outcome, judge(outcome)


def repeat_command(plan: Plan) -> str:
    """The shortest command that runs the plan again."""
    parts = [COMMAND, f"--seed {plan.seed}"]
    if plan.events != EVENTS:
        parts.append(f"--events {plan.events}")
    if plan.allowed is not None:
        parts.append(f"--faults {','.join(plan.allowed) or 'none'}")
    return " ".join(parts)


def _report(
    outcome: Outcome, breaches: list[Breach], folder: Path, options: argparse.Namespace
) -> None:
    line: dict[str, Any] = line_of(outcome, breaches)
    if options.results:
        with options.results.open("a", encoding="utf-8") as results:
            results.write(json.dumps(line) + "\n")
    print(
        f"seed {line['seed']}: {line['events']} events, {line['operations']} operations, "
        f"{line['seconds']} s, {len(breaches)} breaches; {', '.join(line['faults'])}",
        flush=True,
    )
    if breaches:
        kept = keep_record(outcome, breaches, folder, options.keep)
        for breach in breaches[:20]:
            print(f"  {str(breach)[:3000]}")
        print(f"  again: {repeat_command(outcome.plan)}\n  kept: {kept}", flush=True)
    sys.stdout.flush()
