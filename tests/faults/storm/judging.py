"""Whether a run kept the promises, and what is kept of one that did not."""

import gzip
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.storm.checker import Breach, check
from tests.faults.storm.run import Outcome


def judge(outcome: Outcome) -> list[Breach]:
    """Every breach of a promise, and whatever else went wrong."""
    assert outcome.record is not None
    return [*outcome.breaches, *check(outcome.record)]


def keep_record(outcome: Outcome, breaches: list[Breach], folder: Path, keep: Path | None) -> Path:
    """Keep what was recorded and what the processes wrote, to look into; where that is."""
    target = keep or Path(tempfile.gettempdir()) / "storm-failed"
    target = target / str(outcome.plan.seed)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder / "processes", target / "processes", dirs_exist_ok=True)
    assert outcome.record is not None
    whole: dict[str, Any] = {
        "seed": outcome.plan.seed,
        "settings": outcome.plan.settings,
        "faults": outcome.faults,
        "breaches": list(map(str, breaches)),
        "record": asdict(outcome.record),
    }
    with gzip.open(target / "record.json.gz", "wt", encoding="utf-8") as file:
        json.dump(whole, file, default=list)
    return target
