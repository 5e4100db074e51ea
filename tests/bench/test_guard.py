"""The guard: which change is a loss, and that what is missing is never taken for good."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench import figures, guard
from bench.accounting import Usage
from bench.scenarios import Outcome


def one_round(target: str, figure: float, **details: float) -> figures.Round:
    usage = Usage(
        wall=1.0,
        server_cpu=1.0,
        generator_cpu=0.1,
        generator_waiting=0.0,
        redis_cpu=None,
        server_core=None,
        generator_core=None,
    )
    return figures.Round(target=target, figure=figure, usage=usage, details=details)


def outcome(name: str, *rounds: figures.Round) -> Outcome:
    return Outcome(scenario=cast(Any, SimpleNamespace(name=name)), rounds=list(rounds))


def test_values_are_shares_of_a_floor_of_the_same_run():
    pairs = outcome(
        "pairs",
        one_round("broker", 20.0, redis_us_per_message=50.0),
        one_round("floor", 30.0),
    )
    fanout = outcome("fanout", one_round("floor", 100.0))
    found = guard.values_of([fanout, pairs, outcome("storm", one_round("broker", 5.0))])
    assert found["pairs"] == 0.2
    assert found["storm"] == 0.05
    assert found["pairs-redis"] == pytest.approx(0.005)
    assert found["fanout"] is None


def test_what_was_refused_is_no_value():
    refused = figures.Round(**{**vars(one_round("broker", 20.0)), "refused": "full"})
    fanout = outcome("fanout", one_round("floor", 100.0))
    found = guard.values_of([fanout, outcome("pairs", refused)])
    assert found["pairs"] is None


@pytest.mark.parametrize(
    ("name", "before", "now", "is_lost"),
    [
        ("pairs", 0.30, 0.26, False),
        ("pairs", 0.30, 0.25, True),
        ("pairs", 0.30, 0.60, False),
        ("pairs", 0.30, None, True),
        ("pairs", 0.30, 0.0, True),
        ("idle-kib", 20.0, 23.0, False),
        ("idle-kib", 20.0, 24.0, True),
        ("idle-kib", 20.0, 10.0, False),
    ],
)
def test_more_than_fifteen_percent_worse_is_a_loss(
    name: str, before: float, now: float | None, is_lost: bool
):
    lines, found = guard.compare({name: now}, {name: before})
    assert found is is_lost
    assert any("LOSS" in line for line in lines) is is_lost


def test_without_a_record_nothing_is_lost_and_it_is_said():
    lines, is_lost = guard.compare({"pairs": 0.3}, {})
    assert not is_lost
    assert "pairs: 0.3, nothing recorded" in lines


def test_what_is_recorded_is_read_again(tmp_path: Path):
    file = tmp_path / "ratios.json"
    assert guard.read_recorded(file) == {}
    guard.write_recorded({"pairs": 0.123456, "fanout": None}, {"cores": 2}, file)
    assert guard.read_recorded(file) == {"pairs": 0.1235}
    assert json.loads(file.read_text())["machine"] == {"cores": 2}


def test_every_recorded_value_belongs_to_a_check():
    names = {check.name for check in guard.CHECKS}
    assert len(names) == len(guard.CHECKS)
    assert set(guard.read_recorded()) <= names
