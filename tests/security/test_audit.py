"""What `make audit` makes of a report: a known hole fails, and silence is no verdict."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.sources import ROOT

GOOD = {"name": "click", "version": "8", "vulns": []}
HOLE = {"name": "jwt", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "odd", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("report", "status", "said"),
    [
        ({"dependencies": [GOOD]}, 0, "1 of 1 packages asked about, 0 known holes"),
        ({"dependencies": [GOOD, SKIPPED]}, 0, "1 of 2 packages asked about"),
        ({"dependencies": [GOOD, HOLE]}, 1, "jwt 1: CVE-1, mended in 2"),
        ({"dependencies": [SKIPPED]}, 3, ""),
        ({"dependencies": []}, 3, ""),
        ("", 3, ""),
        ("no JSON", 3, ""),
    ],
)
def test_a_known_hole_fails_and_silence_is_no_verdict(
    tmp_path: Path, report: Any, status: int, said: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(report if isinstance(report, str) else json.dumps(report), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, ROOT / ".ci" / "verdict.py", path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, said in ended.stdout) == (status, True)


def test_ci_asks() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\n    run_piece audit make audit\n" in run
