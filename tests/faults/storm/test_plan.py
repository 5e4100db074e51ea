"""A seed gives the same plan each time; faults of one plan leave each other alone."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.storm.faults import all_kinds
from tests.faults.storm.plan import make_plan
from tests.faults.storm.results import table_of
from tests.support.sources import ROOT

RESULTS = Path(__file__).with_name("results")
SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS)
def test_a_seed_gives_the_same_plan(seed):
    one, two = (make_plan(seed, events=100) for _ in range(2))
    assert list(map(str, one.faults)) == list(map(str, two.faults))
    assert (one.settings, one.appendfsync) == (two.settings, two.appendfsync)
    assert one.rng_of("client1").random() == two.rng_of("client1").random()
    assert one.rng_of("client1").random() != one.rng_of("client2").random()


@given(seed=SEEDS)
def test_what_a_fault_takes_is_its_own(seed):
    until: dict[str, float] = {}
    for fault in make_plan(seed, events=100).faults:
        for name in fault.takes:
            assert fault.at >= until.get(name, 0.0)
            until[name] = fault.at + fault.length


@given(seed=SEEDS)
def test_a_killed_redis_has_written_everything(seed):
    plan = make_plan(seed, events=100)
    assert "redis-kill" not in plan.kinds or plan.appendfsync == "always"


@pytest.mark.parametrize("kind", all_kinds())
def test_only_what_is_asked_for(kind):
    plan = make_plan(1, events=100, kinds=[kind])
    assert {*plan.kinds} == {kind}
    assert make_plan(1, events=100, kinds=[]).faults == []


def test_the_table_counts_runs_and_events(tmp_path):
    results = tmp_path / "results.jsonl"
    lines = [
        {"seed": 1, "faults": ["kill", "kill", "stop"], "judged": [10, 9, 8, 7, 6, 5, 4]},
        {"seed": 2, "faults": ["kill"], "judged": [5, 1, 1, 1, 1, 1, 1], "breaches": [[1, "lost"]]},
    ]
    lines = [{"breaches": []} | line for line in lines]
    results.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    assert table_of([results]).splitlines()[2:] == [
        "| `kill` | 2 | 3 | 15 · 1 | 10 · 0 | 9 · 0 | 8 · 0 | 7 · 0 | 6 · 0 | 5 · 0 | 0 |",
        "| `stop` | 1 | 1 | 10 · 0 | 9 · 0 | 8 · 0 | 7 · 0 | 6 · 0 | 5 · 0 | 4 · 0 | 0 |",
        "| **all** | 2 | 4 | 15 · 1 | 10 · 0 | 9 · 0 | 8 · 0 | 7 · 0 | 6 · 0 | 5 · 0 | 0 |",
    ]


def test_the_table_of_the_docs_is_of_the_kept_results():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert table_of(sorted(RESULTS.glob("*.jsonl"))) in page
