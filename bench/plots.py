"""The figures of a run as pictures: one SVG a scenario, bars for medians, a line for the spread.

Rules: written by hand, because a chart of ten bars is no reason for a library. Colours are right on
white and on black pages; every number is text, so it can be searched and read aloud.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

_WIDTH: Final = 720
_LABELS: Final = 190  # pixels for the names at the left
_NUMBERS: Final = 110  # and for the figures at the right
_ROW: Final = 30
_TOP: Final = 56
_OURS: Final = frozenset({"broker", "api", "archiver"})
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#808080}.title{font-size:15px;font-weight:600}"
    ".ours{fill:#2a78d6}.floor{fill:#9a9a9a}.other{fill:#c07a2c}.spread{stroke:#808080}"
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One contender."""

    name: str
    values: Sequence[float]  # of every round that was not refused
    median: float


def bars_of(scenario: Mapping[str, Any]) -> list[Bar]:
    """Every contender that has a figure, best first."""
    found = []
    for name, target in scenario["targets"].items():
        if target["median"] is not None:
            values = [
                one["figure"]
                for one in scenario["rounds"]
                if one["target"] == name and one["refused"] is None
            ]
            found.append(Bar(name=name, values=values, median=target["median"]))
    return sorted(found, key=lambda bar: bar.median, reverse=scenario["more_is_better"])


def draw(scenario: Mapping[str, Any]) -> str:
    """The whole picture of one scenario of the JSON."""
    bars = bars_of(scenario)
    height = _TOP + _ROW * len(bars) + 12
    greatest = max((max(bar.values) for bar in bars), default=0.0) or 1.0
    scale = (_WIDTH - _LABELS - _NUMBERS) / greatest
    better = "more is better" if scenario["more_is_better"] else "less is better"
    title = f"{scenario['scenario']}: {scenario['unit']}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}"><style>{_STYLE}</style>',
        f'<text class="title" x="12" y="22">{escape(title)}</text>',
        f'<text x="12" y="42">median and spread of the rounds; {better}</text>',
    ]
    for index, bar in enumerate(bars):
        parts.append(_row(bar, _TOP + _ROW * index, scale))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(bar: Bar, top: int, scale: float) -> str:
    kind = "ours" if bar.name in _OURS else "floor" if bar.name.startswith("floor") else "other"
    width = bar.median * scale
    low, high = (_LABELS + value * scale for value in (min(bar.values), max(bar.values)))
    middle = top + _ROW / 2
    return (
        f'<text x="{_LABELS - 10}" y="{middle + 5:g}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect class="{kind}" x="{_LABELS}" y="{top + 5}" width="{width:.1f}" '
        f'height="{_ROW - 10}"/>'
        f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<text x="{high + 8:.1f}" y="{middle + 5:g}">{_number(bar.median)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def write_plots(runs: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """One file a scenario, the last run's where several have it; the files."""
    scenarios = {one["scenario"]: one for run in runs for one in run["scenarios"]}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, scenario in scenarios.items():
        file = folder / f"{name}.svg"
        file.write_text(draw(scenario))
        written.append(file)
    return written
