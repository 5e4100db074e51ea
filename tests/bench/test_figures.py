"""Percentiles, medians, spread, ratios, bars and the refusal of a figure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import figures
from bench.accounting import Moment, Usage, between
from bench.latency import schedule


def usage(
    *, server_core: float | None = None, generator: float = 0.5, waiting: float = 0.0
) -> Usage:
    return Usage(
        wall=2.0,
        server_cpu=1.0,
        generator_cpu=generator * 2,
        generator_waiting=waiting * 2,
        redis_cpu=None,
        server_core=server_core,
        generator_core=0.99,
    )


def one_round(target: str, figure: float, **more: Any) -> figures.Round:
    return figures.Round(target=target, figure=figure, usage=usage(), **more)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1, 100), (0.001, 1)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float):
    assert figures.percentile(range(1, 101), share) == expected


@pytest.mark.parametrize("share", [0, -1, 1.1])
def test_a_percentile_outside_the_scale_is_refused(share: float):
    with pytest.raises(ValueError, match="share"):
        figures.percentile([1.0], share)


def test_no_values_have_no_percentile():
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 0.5)


@given(
    st.lists(st.floats(0, 1e6), min_size=1).map(sorted),
    st.floats(0.001, 1),
)
def test_at_least_the_share_lies_at_or_below_a_percentile(values: list[float], share: float):
    found = figures.percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values)


def test_median_and_spread():
    assert figures.median([]) is None
    assert figures.spread([3.0]) is None
    assert figures.median([1.0, 3.0, 2.0]) == 2.0
    assert figures.spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("generator", "waiting", "server", "is_refused"),
    [
        (0.99, 0.0, 0.80, True),
        (0.96, 0.0, 0.94, True),
        (0.20, 0.78, 0.94, True),
        (0.94, 0.0, 0.80, False),
        (0.20, 0.70, 0.80, False),
        (0.99, 0.0, 0.99, False),
        (0.99, 0.0, None, False),
    ],
)
def test_a_full_generator_before_a_server_with_time_left_is_refused(
    generator: float, waiting: float, server: float | None, is_refused: bool
):
    verdict = figures.saturation(usage(server_core=server, generator=generator, waiting=waiting))
    assert (verdict is not None) == is_refused


def test_others_on_the_servers_core_are_noticed():
    assert figures.foreign_share(usage(server_core=0.75)) == pytest.approx(0.25)
    assert figures.foreign_share(usage(server_core=0.49)) == 0
    assert figures.foreign_share(usage(server_core=None)) is None


def test_a_refused_round_counts_for_nothing():
    rounds = [
        one_round("broker", 50.0),
        one_round("broker", 9000.0, refused="full", details={"redis_us": 1.0}),
        one_round("floor", 100.0),
    ]
    assert figures.figures_of(rounds, "broker") == [50.0]
    assert figures.ratio(rounds, "broker", "floor") == 0.5
    assert figures.detail(rounds, "broker", "redis_us") is None


def test_without_a_floor_there_is_no_ratio():
    assert figures.ratio([one_round("broker", 50.0)], "broker", "floor") is None


@pytest.mark.parametrize(
    ("value", "at_least", "is_met"),
    [(2.0, True, True), (0.5, True, False), (0.5, False, True), (2.0, False, False)],
)
def test_a_bar_is_met_on_its_side(value: float, at_least: bool, is_met: bool):
    bar = figures.Bar(name="b", value=value, limit=1.0, unit="", at_least=at_least)
    assert bar.is_met is is_met


def test_a_bar_without_a_value_is_neither_met_nor_missed():
    assert figures.Bar(name="b", value=None, limit=1, unit="", at_least=True).is_met is None


def test_usage_is_the_difference_of_two_moments():
    before = Moment(
        wall=1.0,
        server=2.0,
        generator=3.0,
        generator_waiting=0.0,
        redis=1.0,
        server_core=(10, 20),
        generator_core=None,
    )
    after = Moment(
        wall=3.0,
        server=3.0,
        generator=3.5,
        generator_waiting=0.25,
        redis=1.25,
        server_core=(11, 22),
        generator_core=None,
    )
    assert between(before, after) == Usage(
        wall=2.0,
        server_cpu=1.0,
        generator_cpu=0.5,
        generator_waiting=0.25,
        redis_cpu=0.25,
        server_core=0.5,
        generator_core=None,
    )


def test_a_schedule_is_independent_of_answers_and_keeps_its_rate():
    due = schedule(100.0, 50.0, seed=3)
    assert due == sorted(due)
    assert due == schedule(100.0, 50.0, seed=3)
    assert due[0] > 0
    assert due[-1] < 50.0
    assert len(due) == pytest.approx(5000, rel=0.1)
