"""`python -m tests.faults.defects.machines [NAME ...] [--examples 200]`: do machines have teeth?

Breaks a copy of the tree in one way at a time and lets the state machine that is asked for it
(`machine_table.py`) make so many sequences of steps: the number of the first that found it, or that
none did.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import structlog
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.faults.defects.__main__ import LEFT_OUT, check_imports, environment
from tests.faults.defects.machine_table import BY_MACHINE
from tests.faults.defects.table import Defect
from tests.fuzz.machines import MACHINES
from tests.support.sources import ROOT

STEPS = 40
"""As the suite has it."""
_TIMEOUT = 1800


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.defects.machines", description=__doc__
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="defects; none: all")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--search", metavar="MACHINE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.search:
        print(search(given.search, given.examples, given.seed))
        return 0
    known = {defect.name for _, defect in BY_MACHINE}
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no such defect: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="parley-machines-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        check_imports(copy)
        asked = [one for one in BY_MACHINE if not given.names or one[1].name in given.names]
        for machine in sorted({machine for machine, _ in asked}):
            if search_in(copy, machine, given.examples, given.seed):
                raise SystemExit(f"{machine} finds something in the sound tree")
        for machine, defect in asked:
            began = time.monotonic()
            found = look_for(machine, defect, copy, given.examples, given.seed)
            missed += not found
            which = f"found by sequence {found}" if found else "NOT FOUND"
            seconds = time.monotonic() - began
            print(f"{defect.name}: {machine}: {which}, {seconds:.1f} s", flush=True)
    return 1 if missed else 0


def look_for(machine: str, defect: Defect, copy: Path, examples: int, seed: int) -> int:
    """The number of the sequence that found it in the copy, which is mended again; 0: none."""
    target = copy / defect.patch.file
    sound = target.read_text(encoding="utf-8")
    target.write_text(defect.patch.apply(sound), encoding="utf-8")
    try:
        return search_in(copy, machine, examples, seed)
    finally:
        target.write_text(sound, encoding="utf-8")


def search_in(copy: Path, machine: str, examples: int, seed: int) -> int:
    """`search` with the copy's code."""
    command = [sys.executable, "-m", "tests.faults.defects.machines", "--search", machine]
    command += ["--examples", str(examples), "--seed", str(seed)]
    ended = subprocess.run(
        command, cwd=copy, env=environment(copy), timeout=_TIMEOUT, text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    if ended.returncode:
        raise SystemExit(f"{machine} did not run\n{ended.stderr[-2000:]}")
    print(ended.stderr[-300:], file=sys.stderr, end="")
    return int(ended.stdout.split()[-1])


def search(name: str, examples: int, seed: int) -> int:
    """The number of the first sequence that breaks a rule of this machine; 0: none."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    given = hypothesis.settings(
        max_examples=examples, stateful_step_count=STEPS, deadline=None, database=None,
        phases=[hypothesis.Phase.generate], report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    begun = 0
    with MACHINES[name]() as machine:

        def count(self: RuleBasedStateMachine) -> None:
            nonlocal begun
            begun += 1
            machine.__init__(self)

        counted = hypothesis.seed(seed)(type("Counted", (machine,), {"__init__": count}))
        try:
            run_state_machine_as_test(counted, settings=given)
        except Exception as error:
            # Hypothesis plays what it found once more, to show it.
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return max(1, begun - 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
