"""`parley` with a wall clock that is off by SHIFT_SECONDS; only wall time, not the clock of trio.

Run as `-m tests.faults.storm.clock` in place of `-m parley`. What the process reads by `time.time`,
`time.time_ns` and `datetime.now` is shifted before anything of the product is imported; what C code
reads is not.
"""

import datetime
import os
import sys
import time

_SHIFT = float(os.environ["SHIFT_SECONDS"])
_true_time = time.time
_true_time_ns = time.time_ns
_TrueDatetime = datetime.datetime


def _shifted_time() -> float:
    return _true_time() + _SHIFT


def _shifted_time_ns() -> int:
    return _true_time_ns() + int(_SHIFT * 1e9)


class _ShiftedDatetime(_TrueDatetime):
    @classmethod
    def now(cls, tz=None):
        return _TrueDatetime.fromtimestamp(_shifted_time(), tz)

    @classmethod
    def utcnow(cls):
        return _TrueDatetime.fromtimestamp(_shifted_time(), datetime.UTC).replace(tzinfo=None)


def main() -> None:
    time.time = _shifted_time
    time.time_ns = _shifted_time_ns
    datetime.datetime = _ShiftedDatetime  # type: ignore[misc]
    from parley.cli import main as parley

    sys.exit(parley())


if __name__ == "__main__":
    main()
