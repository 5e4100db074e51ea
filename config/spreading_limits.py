"""Limits of sending the events of large rooms in portions, and the reason for each."""

from __future__ import annotations

from typing import Final

# Sends of events of large rooms in one turn of the loop, one or two milliseconds: a room with more
# live subscriptions gets its events in portions, and a smaller one at once.
SENDS_PER_TURN: Final = 128
# Sends of one batch of events that go out at once, some milliseconds; rooms beyond take turns.
SENDS_PER_BATCH: Final = 512
# The most seconds in which portions are sent in one turn, however long the loop had other work: an
# event of a room of a thousand.
SPREADING_TURN_MAX: Final = 0.008
# With so many rooms behind the inbox is read no further: what they keep is bounded (each by
# JOINED_BYTES_MAX), and so is what a room waits for.
ROOMS_BEHIND_MAX: Final = 64
