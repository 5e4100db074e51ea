"""Results files: a line of JSON for each run; and the table of docs/reliability.md made of them."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.faults.storm.checker import PROMISES, Breach
from tests.faults.storm.record import Record, Subscribed, Unsubscribed
from tests.faults.storm.run import Outcome

JUDGED = {
    1: "answered events",
    2: "resumes and reloads",
    3: "repeated publishes",
    5: "presence lists and quick reconnects",
    6: "processes ended by SIGTERM",
    7: "removals and refusals",
    8: "keys of Redis",
}
"""What is counted for each promise: how often a run could have shown a breach of it."""
_REFUSALS = {"room_not_found", "not_a_member", "forbidden"}


def line_of(outcome: Outcome, breaches: list[Breach]) -> dict[str, Any]:
    """What a results file keeps of a run."""
    return {
        "seed": outcome.plan.seed,
        "layout": outcome.plan.layout,
        "faults": outcome.plan.kinds,
        "events": outcome.events,
        "operations": len(outcome.notes.operations),
        "connections": len(outcome.notes.lines),
        "seconds": outcome.seconds,
        "lossy_seconds": outcome.lossy_seconds,
        "judged": list(judged(outcome).values()),
        "breaches": [
            [PROMISES[breach.kind], str(breach).splitlines()[0][:300]] for breach in breaches
        ],
    }


def judged(outcome: Outcome) -> dict[int, int]:
    """How much of each promise the run showed, in the order of `JUDGED`."""
    record = outcome.record
    assert record is not None
    operations = record.operations
    requests = Counter(
        (one.room, one.user, one.asked["client_id"])
        for one in operations
        if one.kind == "publish" and one.asked.get("client_id")
    )
    removals = sum(one.kind in ("remove", "leave") and one.outcome == "ok" for one in operations)
    return {
        1: outcome.events,
        2: _resumes(record),
        3: sum(count > 1 for count in requests.values()),
        5: outcome.observed_presence + len(outcome.absences),
        6: outcome.plan.kinds.count("terminate"),
        7: removals + sum(one.code in _REFUSALS for one in operations),
        8: len(record.keys),
    }


def _resumes(record: Record) -> int:
    return sum(
        (isinstance(frame, Subscribed) and frame.since is not None)
        or (isinstance(frame, Unsubscribed) and frame.code == "resync")
        for connection in record.connections
        for frame in connection.frames
    )


def read_lines(files: list[Path]) -> list[dict[str, Any]]:
    """The runs of all files; of a seed that is there twice the last."""
    lines = {}
    for file in files:
        for text in file.read_text(encoding="utf-8").splitlines():
            if text:
                line = json.loads(text)
                lines[line["seed"]] = line
    return list(lines.values())


def table_of(files: list[Path]) -> str:
    """Faults by promises, in Markdown: in each cell how much was judged, then the breaches."""
    runs: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    broken: dict[str, Counter[int]] = defaultdict(Counter)
    for line in read_lines(files):
        hits.update(line["faults"])
        hits["all"] += len(line["faults"])
        for kind in {*line["faults"], "all"}:
            runs[kind] += 1
            counts[kind].update(dict(zip(JUDGED, line["judged"], strict=True)))
            broken[kind].update(promise for promise, _ in line["breaches"])
    heads = " | ".join(f"{promise}: {what}" for promise, what in JUDGED.items())
    rows = [f"| fault | runs | times | {heads} | else |", "|---" * (len(JUDGED) + 4) + "|"]
    for kind in [*sorted(runs.keys() - {"all"}), "all"]:
        name = "**all**" if kind == "all" else f"`{kind}`"
        cells = " | ".join(f"{counts[kind][p]} · {broken[kind][p]}" for p in JUDGED)
        rows.append(f"| {name} | {runs[kind]} | {hits[kind]} | {cells} | {broken[kind][0]} |")
    return "\n".join(rows)
