"""One small run of the real thing: private system, measured broker, floor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "arguments",
    [
        ["pairs", "--rooms", "3", "--seconds", "0.3"],
        ["fanout", "--receivers", "120", "--seconds", "0.3", "--in-flight", "4"],
    ],
)
def test_the_broker_is_measured_beside_the_floor(arguments: list[str], tmp_path: Path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "parley", "bench", *arguments]
    result = subprocess.run(
        [*command, "--rounds", "1", "--no-pin", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=140,
    )
    assert result.returncode == 0, result.stderr
    content = json.loads(file.read_text())
    assert content["machine"]["versions"]["redis-server"]
    (scenario,) = content["scenarios"]
    assert scenario["targets"]["broker"]["of"]["floor"] > 0
    assert [one["target"] for one in scenario["rounds"]][:2] == ["broker", "floor"]
