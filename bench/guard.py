"""Did it become slower? Shares of a floor, compared with those that were recorded.

Rules: absolute figures do not travel between machines, so every value here is a share of a floor
that was measured in the same run; only memory is taken as it is. A share that is more than `LOSS`
worse than the recorded one is a loss. Recorded values are in `ratios.json` beside this; they are
recorded on a quiet machine and committed with the change that moved them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from bench import figures
from bench.scenarios import Outcome

RECORDED: Final = Path(__file__).with_name("ratios.json")
LOSS: Final = 0.15
Rounds = Mapping[str, Sequence[figures.Round]]  # scenario -> its rounds


@dataclass(frozen=True, kw_only=True)
class Check:
    """One value. `value` gives None where it could not be measured."""

    name: str
    value: Callable[[Rounds], float | None]
    more_is_better: bool = True


def _median(rounds: Rounds, scenario: str, target: str, detail: str | None = None) -> float | None:
    mine = rounds.get(scenario, ())
    if detail is not None:
        return figures.detail(mine, target, detail)
    return figures.median(figures.figures_of(mine, target))


def _share(
    scenario: str,
    target: str,
    floor: tuple[str, str],
    detail: str | None = None,
) -> Callable[[Rounds], float | None]:
    def value(rounds: Rounds) -> float | None:
        upper = _median(rounds, scenario, target, detail)
        lower = _median(rounds, *floor)
        return None if upper is None or not lower else upper / lower

    return value


def _redis_work(rounds: Rounds) -> float | None:
    """Redis' µs a message as a multiple of what a delivery costs the floor."""
    redis = _median(rounds, "pairs", "broker", "redis_us_per_message")
    floor = _median(rounds, *_FLOOR)
    return None if redis is None or floor is None else redis * floor / 1e6


# How fast the machine is. (The floor of `pairs` is often faster than any generator, and refused.)
_FLOOR: Final = ("fanout", "floor")
_ROUTE: Final = ("history-hot", "empty-route")
CHECKS: Final = (
    Check(name="fanout", value=_share("fanout", "broker", ("fanout", "floor"))),
    Check(
        name="fanout-joined", value=_share("fanout-joined", "broker", ("fanout-joined", "floor"))
    ),
    Check(name="pairs", value=_share("pairs", "broker", _FLOOR)),
    Check(name="pairs-redis", value=_redis_work, more_is_better=False),
    Check(name="storm", value=_share("storm", "broker", _FLOOR)),
    Check(name="archive", value=_share("archive", "archiver", _FLOOR, "events_per_cpu_second")),
    Check(name="history-cold", value=_share("history-cold", "api", _ROUTE)),
    Check(name="history-hot", value=_share("history-hot", "api", _ROUTE)),
    Check(name="history-unchanged", value=_share("history-unchanged", "api", _ROUTE)),
    Check(name="history-socket", value=_share("history-socket", "broker", _ROUTE)),
    Check(name="history-socket-hot", value=_share("history-socket-hot", "broker", _ROUTE)),
    Check(
        name="idle-kib",
        value=lambda rounds: _median(rounds, "idle-2000", "broker"),
        more_is_better=False,
    ),
)


def values_of(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Every value of a run."""
    rounds = {one.scenario.name: one.rounds for one in outcomes}
    return {check.name: check.value(rounds) for check in CHECKS}


def read_recorded(file: Path = RECORDED) -> Mapping[str, float]:
    """What was recorded; empty when nothing was."""
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return MappingProxyType(content.get("values", {}))


def write_recorded(
    values: Mapping[str, float | None], machine: Mapping[str, Any], file: Path = RECORDED
) -> None:
    """Record the values of a run and the machine that they come from."""
    present = {name: round(value, 4) for name, value in values.items() if value is not None}
    file.write_text(json.dumps({"machine": machine, "values": present}, indent=2) + "\n")


def compare(
    values: Mapping[str, float | None], recorded: Mapping[str, float]
) -> tuple[list[str], bool]:
    """A line for each value, and whether there is a loss.

    What was recorded and could not be measured counts as a loss: a guard that sees nothing must
    not say that all is well.
    """
    lines, is_lost = [], False
    for check in CHECKS:
        now, before = values.get(check.name), recorded.get(check.name)
        if before is None:
            lines.append(f"{check.name}: {_number(now)}, nothing recorded")
            continue
        if now is None:
            lines.append(f"{check.name}: not measured, recorded {_number(before)}: LOSS")
            is_lost = True
            continue
        change = (now / before if check.more_is_better else before / now) - 1 if now else -1.0
        verdict = ": LOSS" if change < -LOSS else ""
        is_lost |= change < -LOSS
        lines.append(
            f"{check.name}: {_number(now)}, recorded {_number(before)} ({change:+.0%}){verdict}"
        )
    return lines, is_lost


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
