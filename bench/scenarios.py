"""A scenario and its rounds: who takes turns, in which order, and what all rounds say together.

Rules: a round is one turn of every contender (the broker, the floors, the peers), in an order that
changes from round to round, so that a machine that becomes slower does so for all. Rooms and users
are made once a run, before anything is measured.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import figures
from bench.target import Target

Turn = Callable[[Target], figures.Round]
Opener = Callable[[], contextlib.AbstractContextManager[Target]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What to measure: `turn` measures one target once; `bars` judges all rounds."""

    name: str
    unit: str
    parameters: Mapping[str, Any]
    contenders: Mapping[str, Opener]  # whoever takes part, and how each is started
    turn: Turn
    bars: Callable[[Sequence[figures.Round]], list[figures.Bar]]
    rooms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fresh: bool = False  # a newly started server for every turn
    more_is_better: bool = True
    note: str = ""  # what the table must say about how it was measured
    alternates: bool = True  # False: all rounds of one contender, then all of the next


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A scenario's rounds."""

    scenario: Scenario
    rounds: list[figures.Round] = field(default_factory=list)

    @property
    def bars(self) -> list[figures.Bar]:
        """The bars with the values of these rounds."""
        return self.scenario.bars(self.rounds)


def run_name() -> str:
    """A prefix for users and rooms that no earlier run has used."""
    return f"bench{time.time_ns() // 1_000_000:x}"


@contextlib.contextmanager
def _open_all(openers: Mapping[str, Opener]) -> Iterator[dict[str, Target]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(opener()) for name, opener in openers.items()}


def run_scenario(scenario: Scenario, rounds: int, say: Callable[[str], None]) -> Outcome:
    """All rounds of one scenario; `say` gets progress lines."""
    outcome = Outcome(scenario=scenario)
    if scenario.alternates:
        _run_rounds(outcome, scenario.contenders, rounds, say)
    else:
        for name, opener in scenario.contenders.items():
            _run_rounds(outcome, {name: opener}, rounds, say)
    return outcome


def _run_rounds(
    outcome: Outcome, openers: Mapping[str, Opener], rounds: int, say: Callable[[str], None]
) -> None:
    scenario = outcome.scenario
    lasting = {} if scenario.fresh else openers
    with _open_all(lasting) as targets:
        for target in targets.values():
            target.prepare_rooms(scenario.rooms)
        for number in range(rounds):
            order = list(openers) if number % 2 == 0 else list(openers)[::-1]
            for name in order:
                if scenario.fresh:
                    with openers[name]() as target:
                        target.prepare_rooms(scenario.rooms)
                        one = scenario.turn(target)
                else:
                    one = scenario.turn(targets[name])
                outcome.rounds.append(one)
                say(describe_round(scenario, number + 1, one))


def describe_round(scenario: Scenario, number: int, one: figures.Round) -> str:
    """A line of progress."""
    text = f"{scenario.name} round {number} {one.target}: {one.figure:,.2f} {scenario.unit}"
    usage = one.usage
    text += f", server {usage.server_cpu / usage.wall:.0%} of a core"
    text += f", generator {usage.generator_cpu / usage.wall:.0%}"
    text += f" and {usage.generator_waiting / usage.wall:.0%} waiting for its core"
    if usage.generator_core is not None:
        text += f" (busy {usage.generator_core:.0%})"
    if figures.is_disturbed(usage):
        text += f"; DISTURBED: others had {figures.foreign_share(usage):.0%} of the server's core"
    return text + (f"; REFUSED: {one.refused}" if one.refused else "")
