"""Several nodes, and what grows beside a message; small, in a real system."""

from dataclasses import replace
from functools import partial

import pytest

from bench import figures, growth, nodes, servers
from bench.growth import GrowthOptions
from bench.nodes import NodesOptions
from bench.scenarios import run_scenario
from bench.stage import Stage
from bench.target import Target


@pytest.mark.slow
def test_rooms_are_spread_over_nodes_whose_cpu_is_summed(stage: Stage):
    scenario = nodes.scenario(stage, NodesOptions(rooms=2, seconds=0.3))
    assert list(scenario.contenders) == ["nodes-1", "nodes-2", "nodes-3", "processes-2"]
    used: list[Target] = []

    def turn(target: Target) -> figures.Round:
        used.append(target)
        return scenario.turn(target)

    two = {"nodes-2": scenario.contenders["nodes-2"]}
    outcome = run_scenario(replace(scenario, contenders=two, turn=turn), 1, lambda _: None)
    (target,) = used
    assert target.port_of(0) == target.port_of(2) != target.port_of(1)
    assert len({target.process, *target.more_processes}) == 2
    assert outcome.rounds[0].details["messages"] > 0
    assert scenario.note


@pytest.mark.parametrize(
    ("direction", "sizes"), list({"rooms": (2, 5), "user": (1, 3), "members": (3, 6)}.items())
)
def test_a_message_costs_something_at_every_size(
    stage: Stage, direction: str, sizes: tuple[int, int]
):
    system, api = stage.need_system()
    options = GrowthOptions(direction=direction, sizes=sizes, rooms=2, seconds=0.2)
    scenario = growth.scenario(stage, options)
    joined = {name: partial(servers.join_broker, system, api, name) for name in scenario.contenders}
    outcome = run_scenario(replace(scenario, contenders=joined), 1, lambda _: None)
    assert [one.target for one in outcome.rounds] == [f"{direction}-{size}" for size in sizes]
    assert all(one.details["messages"] > 0 for one in outcome.rounds)
    (bar,) = outcome.bars
    assert bar.value is not None
