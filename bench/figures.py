"""From readings to figures: percentiles, medians, spread, ratios, bars, and when to refuse.

Rules: pure functions on numbers. A figure that the generator limited is refused, not printed: it
would say something of the generator.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.accounting import TICKS, Usage

WITH_REDIS: Final = "with_redis"  # the detail that is the figure counting Redis' CPU too
SATURATED: Final = 0.95  # share of a core from which on it counts as full
DISTURBED: Final = 0.05  # share of the server's core that others may have without a remark


@dataclass(frozen=True, kw_only=True)
class Round:
    """One target's turn at one scenario. `figure` is what is compared; `details` explain it."""

    target: str
    figure: float
    usage: Usage
    details: dict[str, float] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure and its limit. `value` None: it could not be measured."""

    name: str
    value: float | None
    limit: float
    unit: str
    at_least: bool

    @property
    def is_met(self) -> bool | None:
        """Whether the limit holds; None without a value."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def saturation(usage: Usage) -> str | None:
    """Why this interval says nothing of the server, or None.

    A generator that computed, or was ready to compute and had to let others on its core go first,
    nearly all the time was the bottleneck if the server's core still had time. How busy its core
    is as a whole decides nothing: Redis, PostgreSQL and the archiver may fill it while the
    generator mostly sleeps. Judged only where the server's core is known.
    """
    if usage.server_core is None or usage.wall <= 0:
        return None
    wanted = (usage.generator_cpu + usage.generator_waiting) / usage.wall
    if wanted > SATURATED and usage.server_core < SATURATED:
        return (
            f"the generator was busy or waiting for its core {wanted:.0%} of the time "
            f"while the server's core was only {usage.server_core:.0%} busy"
        )
    return None


def foreign_share(usage: Usage) -> float | None:
    """What share of the server's core others had: the figure of a quiet machine has about none."""
    if usage.server_core is None or usage.wall <= 0:
        return None
    return max(0.0, usage.server_core - usage.server_cpu / usage.wall)


def is_disturbed(usage: Usage) -> bool:
    """Whether others had so much of the server's core that the round deserves a remark."""
    foreign = foreign_share(usage)
    return foreign is not None and foreign > DISTURBED


def per_cpu_second(count: float, seconds: float) -> float:
    """`count` over CPU seconds; less than the kernel's tick can not be told from one tick."""
    return count / max(seconds, 1 / TICKS)


def redis_details(count: float, messages: float, usage: Usage) -> dict[str, float]:
    """What Redis had to do for it: a server that leaves its work to Redis looks better than it is.

    `WITH_REDIS` is `count` per CPU second of both together.
    """
    redis = usage.redis_cpu
    details = {WITH_REDIS: per_cpu_second(count, usage.server_cpu + (redis or 0.0))}
    if redis is not None and messages:
        details["redis_us_per_message"] = redis / messages * 1e6
    return details


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the ascending values do not exceed."""
    if not ordered:
        raise ValueError("no values")
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} is not in (0, 1]")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float | None:
    """The middle value, or None without values."""
    return statistics.median(values) if values else None


def spread(values: Sequence[float]) -> float | None:
    """(greatest - smallest) / median, or None with fewer than two values."""
    middle = median(values)
    if middle is None or len(values) < 2 or middle == 0:
        return None
    return (max(values) - min(values)) / middle


def figures_of(rounds: Sequence[Round], target: str) -> list[float]:
    """The figures of one target that were not refused."""
    return [one.figure for one in rounds if one.target == target and one.refused is None]


def detail(rounds: Sequence[Round], target: str, name: str) -> float | None:
    """The median of one detail of one target over the rounds that have it."""
    return median(
        [
            one.details[name]
            for one in rounds
            if one.target == target and one.refused is None and name in one.details
        ]
    )


def detail_ratio(rounds: Sequence[Round], target: str, other: str, name: str) -> float | None:
    """Median detail of `target` over that of `other`."""
    upper, lower = detail(rounds, target, name), detail(rounds, other, name)
    if upper is None or lower is None or lower == 0:
        return None
    return upper / lower


def ratio(rounds: Sequence[Round], target: str, floor: str) -> float | None:
    """Median figure of `target` over the median figure of `floor`."""
    upper, lower = median(figures_of(rounds, target)), median(figures_of(rounds, floor))
    if upper is None or lower is None or lower == 0:
        return None
    return upper / lower
