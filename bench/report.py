"""What a run says at its end: a table for people, JSON for machines.

Rules: medians with their spread, ratios beside absolute figures (only ratios travel between
machines), every refused round named. Nothing is rounded in the JSON.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench import accounting, figures
from bench.scenarios import Outcome

_PACKAGES: Final = ("trio", "trio-websocket", "wsproto", "redis", "hiredis", "asyncpg", "msgspec")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, kernel and versions."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _first_value("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "usable_cores": accounting.usable_cores(),
        "memory": _first_value("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "versions": versions,
    }


def redis_version(url: str) -> str | None:
    """What the Redis server says of itself."""
    for line in accounting.redis_command(url, "INFO", "server").splitlines():
        if line.startswith("redis_version:"):
            return line.partition(":")[2].strip()
    return None


def summarise(outcome: Outcome) -> dict[str, Any]:
    """One scenario as JSON: parameters, every round, medians, bars."""
    rounds = outcome.rounds
    names = list(dict.fromkeys(one.target for one in rounds))
    return {
        "scenario": outcome.scenario.name,
        "unit": outcome.scenario.unit,
        "note": outcome.scenario.note,
        "more_is_better": outcome.scenario.more_is_better,
        "parameters": dict(outcome.scenario.parameters),
        "rounds": [asdict(one) for one in rounds],
        "targets": {
            name: {
                "median": figures.median(figures.figures_of(rounds, name)),
                "spread": figures.spread(figures.figures_of(rounds, name)),
                "refused": [one.refused for one in rounds if one.target == name and one.refused],
                "details": _details(rounds, name),
                "of": {
                    other: figures.ratio(rounds, name, other) for other in names if other != name
                },
                "of_counting_redis": {
                    other: figures.detail_ratio(rounds, name, other, figures.WITH_REDIS)
                    for other in names
                    if other != name
                },
            }
            for name in names
        },
        "bars": [{**asdict(bar), "is_met": bar.is_met} for bar in outcome.bars],
    }


def write_json(path: Path, machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """All of a run in one file."""
    content = {"machine": machine, "scenarios": [summarise(one) for one in outcomes]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def format_table(outcomes: Sequence[Outcome]) -> str:
    """The plain table."""
    rows = [
        (
            *("scenario", "target", "median", "spread", "unit", "of floor", "of C floor"),
            *("counting Redis", "of C floor", "server", "generator", "rounds"),
        )
    ]
    for outcome in outcomes:
        for name, target in summarise(outcome)["targets"].items():
            mine = [one for one in outcome.rounds if one.target == name]
            rows.append(
                (
                    outcome.scenario.name,
                    name,
                    _number(target["median"]),
                    "-" if target["spread"] is None else f"{target['spread']:.0%}",
                    outcome.scenario.unit,
                    _number(target["of"].get("floor")),
                    _number(target["of"].get("floor-c")),
                    _number(target["details"].get(figures.WITH_REDIS)),
                    _number(target["of_counting_redis"].get("floor-c")),
                    _share([one.usage.server_cpu / one.usage.wall for one in mine]),
                    _share([one.usage.generator_cpu / one.usage.wall for one in mine]),
                    f"{len(mine) - len(target['refused'])} of {len(mine)}{_disturbed(mine)}",
                )
            )
    bars = [("scenario", "bar", "value", "limit", "")]
    for outcome in outcomes:
        for bar in outcome.bars:
            sign = ">=" if bar.at_least else "<="
            verdict = {True: "met", False: "MISSED", None: "not measured"}[bar.is_met]
            bars.append(
                (
                    outcome.scenario.name,
                    bar.name,
                    _number(bar.value),
                    f"{sign} {bar.limit:g} {bar.unit}".rstrip(),
                    verdict,
                )
            )
    return f"{_columns(rows)}\n\n{_columns(bars)}\n\n{_detail_lines(outcomes)}"


def _details(rounds: Sequence[figures.Round], target: str) -> dict[str, float | None]:
    names = dict.fromkeys(name for one in rounds if one.target == target for name in one.details)
    return {name: figures.detail(rounds, target, name) for name in names}


def _detail_lines(outcomes: Sequence[Outcome]) -> str:
    lines = []
    for outcome in outcomes:
        if outcome.scenario.note:
            lines.append(f"{outcome.scenario.name}: {outcome.scenario.note}")
        for name, target in summarise(outcome)["targets"].items():
            details = ", ".join(
                f"{key} {_number(value)}" for key, value in target["details"].items()
            )
            lines.append(f"{outcome.scenario.name} {name}: {details}")
            lines += [f"  refused: {reason}" for reason in target["refused"]]
    return "\n".join(lines)


def _disturbed(rounds: Sequence[figures.Round]) -> str:
    """A remark about rounds in which others used the server's core."""
    count = sum(figures.is_disturbed(one.usage) for one in rounds)
    return f", {count} disturbed" if count else ""


def _share(values: Sequence[float]) -> str:
    """The median share of a core that a process used."""
    middle = figures.median(values)
    return "-" if middle is None else f"{middle:.0%}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _first_value(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
