"""State machines of the suite as targets of `make fuzz`: sequences of steps, not single inputs.

Hypothesis makes the sequences and shrinks one that breaks a rule to the shortest; it is printed as
the program that repeats it. A row for each machine, so that a new one is run for minutes, too.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Final

import hypothesis
import structlog
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.broker.test_hub_room import RoomMachine
from tests.broker.test_node_machine import NodeMachine
from tests.storage.redis.test_resume_machine import open_resume_machine

Machine = type[RuleBasedStateMachine]
MACHINES: Final[Mapping[str, Callable[[], AbstractContextManager[Machine]]]] = MappingProxyType(
    {
        "room-machine": lambda: nullcontext(RoomMachine),
        "node-machine": lambda: nullcontext(NodeMachine),
        "resume-machine": open_resume_machine,
    }
)
STEPS: Final = 60
_EXAMPLES_AT_ONCE: Final = 50


def run_machine(name: str, *, seconds: float, seed: int) -> None:
    """Take random steps until the time is over or a rule is broken."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())
    given = hypothesis.settings(
        max_examples=_EXAMPLES_AT_ONCE, stateful_step_count=STEPS, deadline=None, database=None,
        report_multiple_bugs=False, suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    done = 0
    try:
        with MACHINES[name]() as machine:
            while time.monotonic() < end:
                seeded = hypothesis.seed(rng.randrange(2**32))(machine)
                run_state_machine_as_test(seeded, settings=given)
                done += _EXAMPLES_AT_ONCE
    finally:
        print(f"stat::number_of_executed_units: {done}", file=sys.stderr)
