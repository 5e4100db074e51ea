"""The pictures: what is in them, and that they are well-formed."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from bench import plots
from bench.main import main


def scenario(name: str = "pairs", *, more_is_better: bool = True) -> dict[str, Any]:
    figures = {"broker": [20.0, 30.0, 40.0], "floor": [100.0], "a & b": [], "nchan": [5.0, 7.0]}
    return {
        "scenario": name,
        "unit": "messages / server CPU s",
        "more_is_better": more_is_better,
        "targets": {
            key: {"median": sorted(values)[len(values) // 2] if values else None}
            for key, values in figures.items()
        },
        "rounds": [
            {"target": key, "figure": value, "refused": None}
            for key, values in figures.items()
            for value in values
        ]
        + [{"target": "broker", "figure": 9999.0, "refused": "full"}],
    }


def texts(picture: str) -> list[str]:
    root = ElementTree.fromstring(picture)
    return [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("more_is_better", [True, False])
def test_contenders_stand_in_the_order_of_their_medians(more_is_better: bool):
    found = plots.bars_of(scenario(more_is_better=more_is_better))
    expected = ["floor", "broker", "nchan"]
    assert [bar.name for bar in found] == (expected if more_is_better else expected[::-1])


def test_a_picture_names_every_contender_with_its_figure():
    found = texts(plots.draw(scenario()))
    assert {"floor", "broker", "nchan", "100", "30", "7"} <= set(found)
    assert not any("9,999" in text for text in found)


def test_names_are_escaped():
    one = scenario('<"&>')
    assert any('<"&>' in text for text in texts(plots.draw(one)))


def test_a_command_draws_what_json_holds(tmp_path: Path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"scenarios": [scenario("pairs"), scenario("fanout")]}))
    out = tmp_path / "pictures"
    result = CliRunner().invoke(main, ["plot", str(file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert sorted(one.name for one in out.iterdir()) == ["fanout.svg", "pairs.svg"]
    file.write_text("[]")
    result = CliRunner().invoke(main, ["plot", str(file), "--out", str(out)])
    assert result.exit_code == 1
    assert "not what --json wrote" in result.output
