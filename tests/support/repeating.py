"""How often tests repeat what depends on chance: a part of it each time, all of it with FULL=1.

`make test` runs often and must be quick; over some runs it repeats as much as one whole run, with
other moments each time. Before a release: `FULL=1 make test`.
"""

import os

# Of what `FULL=1` repeats, everybody's run repeats one part in this many.
_PARTS = 4


def times(full: int) -> int:
    """`full` with FULL=1 in the environment, else a quarter of it."""
    return full if os.environ.get("FULL") == "1" else full // _PARTS
