"""Each scenario, small, against the floor; and against floors that do one thing wrong."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from bench import accounting, checks, floors, messaging, scenarios
from bench.beside import loaded
from bench.connection import BenchError
from bench.fanout import FanoutOptions, run_fanout
from bench.idle import IdleOptions, run_idle
from bench.latency import LatencyOptions, run_latency
from bench.pairs import PairsOptions, run_pairs
from bench.stage import Stage, StageOptions
from bench.target import Target
from tests.bench.faulty_floor import FAULTS

LONG = 20.0
SHORT = 0.5  # seconds to wait for what a faulty floor never sends


@pytest.fixture(params=[floors.open_floor, floors.open_c_floor], ids=["python", "c"])
def floor(request: pytest.FixtureRequest) -> Iterator[Target]:
    with request.param(server_core=None, generator_core=None) as target:
        yield target


def faulty(fault: str, name: str = "floor"):
    command = (sys.executable, "-m", "tests.bench.faulty_floor", fault)
    return floors.open_floor(server_core=None, generator_core=None, command=command, name=name)


def small_fanout(target: Target, patience: float = LONG, in_flight: int = 1):
    options = FanoutOptions(
        receivers=10, in_flight=in_flight, seconds=0.3, warm_up=0.1, patience=patience
    )
    return run_fanout(target, "room", [f"user{number}" for number in range(10)], options)


def small_pairs(target: Target, patience: float = LONG):
    options = PairsOptions(rooms=3, seconds=0.3, warm_up=0.1, patience=patience)
    rooms = {f"room{number}": (f"ann{number}", f"bob{number}") for number in range(3)}
    return run_pairs(target, rooms, options)


def small_latency(target: Target, patience: float = LONG):
    options = LatencyOptions(receivers=3, rate=200.0, seconds=0.3, warm_up=0.1, patience=patience)
    return run_latency(target, "room", ["ann", "bob", "cyd"], options)


@pytest.mark.parametrize("in_flight", [1, 8])
def test_fanout_counts_what_every_receiver_got(floor: Target, in_flight: int):
    outcome = small_fanout(floor, in_flight=in_flight)
    assert outcome.figure > 0
    assert outcome.details["deliveries"] % 10 == 0
    assert outcome.details["deliveries"] > 0


def test_pairs_counts_answered_messages(floor: Target):
    outcome = small_pairs(floor)
    assert outcome.details["messages"] > 3
    assert outcome.figure > 0


def test_rooms_rest_between_messages_if_told(floor: Target):
    options = PairsOptions(rooms=3, seconds=0.3, warm_up=0.1, patience=LONG, pause=0.1)
    rooms = {f"room{number}": (f"ann{number}", f"bob{number}") for number in range(3)}
    outcome = run_pairs(floor, rooms, options)
    assert 3 <= outcome.details["messages"] <= 4 * 3
    assert outcome.figure > 0


def test_latency_counts_the_events_of_everybody_but_the_sender(floor: Target):
    outcome = small_latency(floor)
    assert outcome.details["events"] % 2 == 0
    assert 0 < outcome.details["p50_ms"] <= outcome.details["p99_ms"]


def test_idle_measures_memory(floor: Target):
    users = [f"user{number}" for number in range(150)]
    outcome = run_idle(floor, ["room"] * 150, users, IdleOptions(connections=150, seconds=0.1))
    assert outcome.details["connections"] == 150
    assert -10 < outcome.details["kib_connected"] < 100  # what the crowd freed may be given back


def test_latency_is_measured_beside_a_room_under_load(floor: Target):
    with loaded(floor, "busy", [f"user{number}" for number in range(20)]) as rate:
        outcome = small_latency(floor)
    assert outcome.details["p99_ms"] > 0
    assert rate[0] > 0


def test_a_room_beside_that_loses_something_ends_the_run():
    with (
        faulty("closed") as target,
        pytest.raises(BenchError, match="beside"),
        loaded(target, "busy", [f"user{number}" for number in range(3)]),
    ):
        pass


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", [small_fanout, small_pairs, small_latency])
def test_a_faulty_server_gets_no_figure(scenario, fault: str):
    if fault == "changed" and scenario is not small_fanout:
        fault = "lost"  # content is compared there with what was published, see the next test
    with faulty(fault) as target, pytest.raises((checks.CheckFailed, BenchError)) as failure:
        scenario(target, SHORT)
    expected = BenchError if fault == "closed" else checks.CheckFailed
    assert failure.type is expected


def test_pairs_compares_contents_where_the_server_sends_them(floor: Target):
    honest = Target(**{**vars(floor), "checks_content": True})
    with pytest.raises(checks.CheckFailed, match="holds"):
        small_pairs(honest)


def test_fanout_compares_contents_where_the_server_sends_them(floor: Target):
    honest = Target(**{**vars(floor), "checks_content": True})
    with pytest.raises(checks.CheckFailed, match="holds"):
        small_fanout(honest)


def test_turns_alternate_and_every_target_is_judged():
    stage = Stage(
        run=scenarios.run_name(),
        options=StageOptions(),
        system=None,
        is_private=True,
        api=None,
        say=lambda _: None,
    )
    scenario = messaging.pairs(stage, PairsOptions(rooms=2, seconds=0.1, warm_up=0.05))
    lines: list[str] = []

    def open_as(name: str):
        def opener():
            return floors.open_floor(server_core=None, generator_core=None, name=name)

        return opener

    openers = {"broker": open_as("broker"), "floor": open_as("floor")}
    scenario = replace(scenario, contenders=openers)
    outcome = scenarios.run_scenario(scenario, 2, lines.append)
    assert [one.target for one in outcome.rounds] == ["broker", "floor", "floor", "broker"]
    assert len(lines) == 4
    ratio, redis = outcome.bars
    assert ratio.value is not None
    assert redis.is_met is None


def test_a_peer_that_loses_something_has_no_figure_and_the_others_go_on():
    stage = Stage(
        run=scenarios.run_name(), options=StageOptions(), system=None, is_private=True, api=None,
        say=lambda _: None,
    )  # fmt: skip
    options = PairsOptions(rooms=2, seconds=0.1, warm_up=0.05, patience=SHORT)
    scenario = messaging.pairs(stage, options)
    openers = {
        "floor": partial(floors.open_floor, server_core=None, generator_core=None),
        "loser": partial(faulty, "lost", "loser"),
    }
    lines: list[str] = []
    scenario = replace(scenario, contenders=openers)
    outcome = scenarios.run_scenario(scenario, 3, lines.append, {"loser"})
    assert [one.target for one in outcome.rounds] == ["floor"] * 3
    assert [line for line in lines if "no figure for loser" in line]
    with pytest.raises(checks.CheckFailed):
        scenarios.run_scenario(scenario, 1, lines.append)


def test_the_floor_ends_with_its_generator(floor: Target):
    assert accounting.process_tree(floor.process)[0] == floor.process
    with floors.open_floor(server_core=None, generator_core=None) as other:
        process = other.process
        assert accounting.tree_memory(process) > 0
    assert accounting.tree_memory(process) == 0
