"""Short storms with a fresh seed each time (printed), and every seed that ever found something."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.storm.command import repeat_command, run_plan
from tests.faults.storm.plan import make_plan
from tests.support.servers import PostgresServer

FRESH = 10
EVENTS = 150
"""At least: they go on while the faults of the plan last."""
TIME_LIMIT = 120.0
SEEDS = Path(__file__).with_name("seeds.txt")


def kept_seeds() -> list[tuple[int, list[str] | None, int]]:
    """Seed, kinds of faults and events of each line of seeds.txt."""
    lines = SEEDS.read_text(encoding="utf-8").splitlines()
    words = [line.split()[:3] for line in lines if line and not line.startswith("#")]
    return [
        (int(seed), None if faults == "all" else faults.split(","), int(events))
        for seed, faults, events in words
    ]


@pytest.fixture(scope="module")
def postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres_files: Path
) -> Iterator[PostgresServer]:
    """A PostgreSQL that storms may stop, kill and fill; each has a database of its own in it."""
    server = PostgresServer.copy(postgres_files, tmp_path_factory.mktemp("storms") / "postgres")
    server.start()
    yield server
    server.stop()


def weather(seed: int, kinds: list[str] | None, events: int, folder: Path, postgres) -> None:
    """Act the plan of the seed out; it keeps every promise."""
    plan = make_plan(seed, events=events, kinds=kinds)
    print(f"again: {repeat_command(plan)}")
    outcome, breaches = run_plan(plan, folder, postgres, limit=TIME_LIMIT)
    print("\n".join(outcome.faults))
    assert breaches == []
    assert outcome.events >= events / 2, "it was meant to be a storm"


@pytest.mark.slow
@pytest.mark.timeout(TIME_LIMIT + 60, func_only=True)  # what hangs fails before, with stacks
@pytest.mark.parametrize("kept", [*range(FRESH), *kept_seeds()], ids=str)
def test_a_storm_breaks_no_promise(tmp_path, postgres, kept):
    """Fresh seeds, and every seed that ever found something."""
    fresh = (random.randrange(2**32), None, EVENTS)
    seed, kinds, events = fresh if isinstance(kept, int) else kept
    weather(seed, kinds, events, tmp_path / "storm", postgres)
