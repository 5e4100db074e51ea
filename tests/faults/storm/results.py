"""Results files: a line of JSON for each run; and the table of docs/reliability.md made of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.storm.run import Outcome


def line_of(outcome: Outcome, breaches: list[str]) -> dict[str, Any]:
    """What a results file keeps of a run."""
    return {
        "seed": outcome.plan.seed,
        "faults": outcome.plan.kinds,
        "events": outcome.events,
        "clients": outcome.clients,
        "operations": len(outcome.notes.operations),
        "connections": len(outcome.notes.lines),
        "may_have_lost": outcome.may_have_lost,
        "breaches": [breach.splitlines()[0][:300] for breach in breaches],
        "seconds": outcome.seconds,
    }


def table_of(files: list[Path]) -> str:
    """Runs, events and breaches by kind of fault, as a Markdown table."""
    lines = [
        json.loads(text)
        for file in files
        for text in file.read_text(encoding="utf-8").splitlines()
        if text
    ]
    runs: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    events: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for line in lines:
        hits.update(line["faults"])
        for kind in {*line["faults"], "all"}:
            runs[kind] += 1
            events[kind] += line["events"]
            broken[kind] += len(line["breaches"])
    hits["all"] = sum(len(line["faults"]) for line in lines)
    rows = ["| fault | runs | times | events in them | breaches |", "|---|---|---|---|---|"]
    for kind in [*sorted(runs.keys() - {"all"}), "all"]:
        name = kind if kind == "all" else f"`{kind}`"
        rows.append(f"| {name} | {runs[kind]} | {hits[kind]} | {events[kind]} | {broken[kind]} |")
    return "\n".join(rows)
