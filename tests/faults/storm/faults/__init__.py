"""The faults: each kind a small class, found by being in a file of this folder.

A new kind is a file here (or a class in one of these files): subclass `Fault`, name it by `kind`,
draw everything that is random in `__init__` from the given generator, so that a seed gives the same
fault again. `takes` names what no other fault may touch meanwhile, `ways` which ways it needs a
proxy on, `prepares` the statements that PostgreSQL gets before anything runs. `begin` does the
harm, `heal` takes it back and returns when what it hit can work again; both may be called with the
rest of the system in any state. A fault that may take answered writes with it says so in
`World.may_have_lost`.
"""

import importlib
import pkgutil
import random
from functools import cache
from typing import ClassVar, Literal

from tests.faults.storm.world import World

Layout = Literal["one server", "sentinels"]
"""A Redis by itself, or a master and a replica under three sentinels."""


class Fault:
    """One fault of a plan. `at` and `length` are seconds, set by the plan."""

    kind: ClassVar[str]
    lengths: ClassVar[tuple[float, float]] = (0.5, 5.0)
    """Shortest and usual longest time between begin and heal."""
    weight: ClassVar[int] = 4
    """How often it is taken when a plan may choose."""
    layout: ClassVar[Layout | None] = None
    """The only one in which it can be; None: in any."""

    def __init__(self, rng: random.Random) -> None:
        self.takes: frozenset[str] = frozenset()
        self.ways: frozenset[str] = frozenset()
        self.prepares: tuple[str, ...] = ()
        self.length = rng.uniform(*self.lengths)
        self.at = 0.0

    def __str__(self) -> str:
        takes = ",".join(sorted(self.takes))
        return f"{self.kind} of {takes} at {self.at:.1f} s for {self.length:.1f} s"

    async def begin(self, world: World) -> None:
        raise NotImplementedError

    async def heal(self, world: World) -> None:
        """Nothing is left to take back."""


@cache
def all_kinds() -> dict[str, type[Fault]]:
    """Every kind of fault by its name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    kinds = {}
    waiting = list(Fault.__subclasses__())
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        if "kind" in vars(found):
            kinds[found.kind] = found
    return dict(sorted(kinds.items()))
