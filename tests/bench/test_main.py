"""The command line, as far as it needs nothing but the floor."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.main import main

SMALL = ["--only", "floor", "--rounds", "2", "--seconds", "0.1", "--no-pin"]


@pytest.mark.parametrize(
    ("command", "sizes"),
    [
        ("fanout", ["--receivers", "5"]),
        ("fanout", ["--receivers", "5", "--in-flight", "4"]),
        ("pairs", ["--rooms", "2"]),
        ("latency", ["--rate", "300", "--receivers", "3"]),
        (
            "latency",
            ["--rate", "300", "--receivers", "3", "--beside-load", "--load-receivers", "5"],
        ),
    ],
)
def test_a_scenario_prints_a_table_and_writes_json(command: str, sizes: list[str], tmp_path: Path):
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(main, [command, *SMALL, *sizes, "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "2 of 2" in result.stdout
    assert "not measured" in result.stdout
    content = json.loads(file.read_text())
    assert content["machine"]["versions"]["python"]
    (scenario,) = content["scenarios"]
    assert scenario["scenario"].startswith(command)
    assert len(scenario["rounds"]) == 2
    assert scenario["targets"]["floor"]["median"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["fanout", "--receivers", "2", "--senders", "3", "--no-pin"],
        ["idle", "--only", "floor", "--no-pin"],
        ["pairs", "--server-core", "0", "--generator-core", "0"],
        ["pairs", "--server-core", "0", "--generator-core", "100000"],
        ["latency", "--rate", "0"],
        ["fanout", "--rounds", "0"],
        ["nonsense"],
        ["archive", "--events", "10", "--rooms", "3", "--no-pin"],
        ["growth", "--size", "5", "--direction", "rooms", "--no-pin"],
        ["growth", "--size", "5", "--size", "6", "--no-pin"],
        ["check", "--only", "floor", "--no-pin"],
        ["pairs", "--peer", "nobody", "--no-pin"],
        ["pairs", "--only", "nobody", "--no-pin"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_help_is_there(command: list[str]):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
