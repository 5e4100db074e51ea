"""`python -m tests.faults.defects [NAME ...]`: is each defect found, by what, how soon?

A copy of the tree is made in a temporary folder, one defect is put in, what must find it is run
there, and the copy is mended for the next one. Exit status 1 if one was not found. With `--storm
SEED` the harness of `tests.faults.storm` is asked when no test has found it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.faults.defects.table import DEFECTS, Defect
from tests.support.sources import PACKAGES, ROOT

_TIMEOUT = 600
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist", "node_modules")


class Finding(NamedTuple):
    """What a defect was found by; empty: it was not."""

    by: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.defects", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="defects; none: all")
    parser.add_argument("--storm", type=int, metavar="SEED", help="ask the storm, too")
    options = parser.parse_args()
    known = {defect.name: defect for defect in DEFECTS}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no such defect: {', '.join(unknown)}; there are {', '.join(known)}")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="parley-defects-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        check_imports(copy)
        for name in options.names or known:
            finding = look_for(known[name], copy, options.storm)
            missed += not finding.by
            found = f"found by {finding.by}" if finding.by else "NOT FOUND"
            print(f"{name}: {found} after {finding.seconds:.1f} s", flush=True)
    return 1 if missed else 0


def look_for(defect: Defect, copy: Path, storm: int | None) -> Finding:
    """Put the defect into the copy, run what must find it, and take it out again."""
    target = copy / defect.patch.file
    sound = target.read_text(encoding="utf-8")
    target.write_text(defect.patch.apply(sound), encoding="utf-8")
    began = time.monotonic()
    try:
        by = _run_tests(defect, copy)
        if not by and storm is not None and _fails(copy, "tests.faults.storm", f"--seed={storm}"):
            by = f"the storm, seed {storm}"
        return Finding(by, time.monotonic() - began)
    finally:
        target.write_text(sound, encoding="utf-8")


def _run_tests(defect: Defect, copy: Path) -> str:
    """The first test that fails; empty if none does. An error in collecting is no finding."""
    for file in defect.tests:
        result = _run(copy, "pytest", "-q", "-x", "-p", "no:cacheprovider", file)
        found = _FAILED.search(result.stdout)
        if result.returncode == 1 and found:
            return found[1]
        if result.returncode not in (0, 1):
            raise SystemExit(f"{defect.name}: {file} did not run\n{result.stdout[-2000:]}")
    return ""


def check_imports(copy: Path) -> None:
    """What is run in the copy must be the copy's code: an editable install names the tree."""
    names = ", ".join(PACKAGES)
    code = f"import {names}; print(*(m.__file__ for m in ({names},)), sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environment(copy), check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    places = result.stdout.split()
    if len(places) != len(PACKAGES) or not all(Path(p).is_relative_to(copy) for p in places):
        raise SystemExit(f"the copy would not be run, but {places}")


def _fails(copy: Path, module: str, *arguments: str) -> bool:
    return _run(copy, module, *arguments).returncode != 0


def _run(copy: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=copy, env=environment(copy),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT, check=False,
    )  # fmt: skip


def environment(copy: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(main())
