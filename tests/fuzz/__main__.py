"""`python -m tests.fuzz [--minutes 10] [--seed N] [--corpus FOLDER] [TARGET ...]`: `make fuzz`.

Each target in turn, in a process of its own, the time being shared equally; the figures of each at
the end. See docs/fuzzing.md.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.explore import has_atheris
from tests.fuzz.machines import MACHINES
from tests.fuzz.targets import TARGETS

_EXECUTED = re.compile(r"stat::number_of_executed_units: *(\d+)")
# A child that has not ended so long after its time hangs in an input.
_GRACE = 120.0


def main() -> None:
    known = [*TARGETS, *MACHINES]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(known))
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument(
        "--corpus", type=Path, default=Path(tempfile.gettempdir()) / "parley-fuzz",
        help="where interesting inputs are kept between runs (default: %(default)s)",
    )  # fmt: skip
    given = parser.parse_args()
    names = given.targets or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no target: {', '.join(unknown)}; there are {', '.join(known)}")
    engine = "atheris" if has_atheris() else "Hypothesis (atheris is not installed)"
    print(f"{engine}, seed {given.seed}, inputs in {given.corpus}", flush=True)
    seconds = 60 * given.minutes / len(names)
    failed = [
        name
        for name in names
        if not explore(name, given.corpus / name, seconds=seconds, seed=given.seed)
    ]
    if failed:
        print(f"broken: {', '.join(failed)}")
        raise SystemExit(1)


def explore(name: str, folder: Path, *, seconds: float, seed: int) -> bool:
    """Run one target; whether no rule was broken."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.explore", name, str(folder)]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    began = time.monotonic()
    try:
        ended = subprocess.run(
            command, stderr=subprocess.PIPE, text=True, errors="replace", timeout=seconds + _GRACE
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: did not end", flush=True)
        return False
    executed = _EXECUTED.search(ended.stderr)
    count = int(executed[1]) if executed else 0
    took = time.monotonic() - began
    print(f"{name}: {count} executions in {took:.0f} s, exit {ended.returncode}", flush=True)
    if ended.returncode:
        print(ended.stderr[-6000:], flush=True)
    return ended.returncode == 0


if __name__ == "__main__":
    main()
