"""A scenario and its rounds: who takes turns, in which order, and what all rounds say together.

Rules: a round is one turn of every contender (the broker, the floors, the peers), in an order that
changes from round to round, so that a machine that becomes slower does so for all. Rooms and users
are made once a run, before anything is measured. A peer that loses something, or can not go on, has
no figure and takes no further turns; the product and the floors end the run then.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import checks, figures, wire
from bench.connection import BenchError
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


def run_scenario(
    scenario: Scenario, rounds: int, say: Callable[[str], None], peers: Collection[str] = ()
) -> Outcome:
    """All rounds of one scenario; `say` gets progress lines, `peers` are the contenders' names."""
    run = _Run(Outcome(scenario=scenario), rounds, say, peers)
    if scenario.alternates:
        run.take_turns(scenario.contenders)
    else:
        for name, opener in scenario.contenders.items():
            run.take_turns({name: opener})
    return run.outcome


@dataclass
class _Run:
    """The rounds of one scenario, as they are made."""

    outcome: Outcome
    rounds: int
    say: Callable[[str], None]
    peers: Collection[str]

    def take_turns(self, openers: Mapping[str, Opener]) -> None:
        """All rounds of these contenders."""
        scenario = self.outcome.scenario
        openers = dict(openers)
        with _open_all({} if scenario.fresh else openers) as targets:
            for target in targets.values():
                target.prepare_rooms(scenario.rooms)
            for number in range(self.rounds):
                for name in list(openers) if number % 2 == 0 else list(openers)[::-1]:
                    try:
                        one = self._take_turn(openers[name], targets.get(name))
                    except (checks.CheckFailed, BenchError, wire.WireError) as error:
                        if name not in self.peers:
                            raise
                        self._drop(name, error)
                        del openers[name]
                    else:
                        self.outcome.rounds.append(one)
                        self.say(describe_round(scenario, number + 1, one))

    def _take_turn(self, opener: Opener, target: Target | None) -> figures.Round:
        scenario = self.outcome.scenario
        if target is not None:
            return scenario.turn(target)
        with opener() as fresh:
            fresh.prepare_rooms(scenario.rooms)
            return scenario.turn(fresh)

    def _drop(self, name: str, error: Exception) -> None:
        rounds = self.outcome.rounds
        rounds[:] = [one for one in rounds if one.target != name]
        self.say(f"{self.outcome.scenario.name}: no figure for {name}: {error}")


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
