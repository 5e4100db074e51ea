"""What every process of ours sets in Python itself: when its garbage collector runs."""

from typing import Final

# What a process has imported is never garbage and is not looked at any more. Objects of the
# youngest generation before it is collected: Python's 700 would mean a collection every ten
# connections that come, and this many take a millisecond.
COLLECT_AT: Final = 10_000
# A full collection of a node with 20 000 connections stops everybody for most of a second, and
# finds nothing: a connection that has ended leaves no cycles (a test holds it). So it comes after
# ten million objects more than went. The API's requests leave some, so it is a million there.
COLLECT_ALL_AFTER_BROKER: Final = 100
COLLECT_ALL_AFTER: Final = 10
