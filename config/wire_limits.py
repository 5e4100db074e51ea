"""Limits of the broker's connections as bytes and frames, that nobody sets: each with its reason.

The rest are in `config.limits`; what an operator may set is in `config.settings`.
"""

from __future__ import annotations

from typing import Final

# Connections above the limit that are still told so (503), or told how the process is (health).
CONNECTIONS_ABOVE_MAX: Final = 64
# Connections that wait in the kernel to be accepted: a reconnect storm. The kernel cuts it to its
# own limit (somaxconn).
LISTEN_BACKLOG: Final = 4096
# Connections accepted before other tasks get their turn: a millisecond or two.
ACCEPTS_PER_TURN: Final = 64
# How long accepting rests when the process is out of descriptors or memory.
ACCEPT_PAUSE: Final = 0.2
# How long a client may take for its request head and the handshake, and how long the head may be
# (a token in the query, cookies of a big site).
HEAD_TIMEOUT: Final = 10.0
HEAD_BYTES_MAX: Final = 16 * 1024
# Most bytes taken from a client at a time: 80 small frames, a turn of one or two milliseconds. Who
# had as much ready waits in line with all who had before it is read again, one in a round of the
# event loop: whatever many connections send as fast as they can, everybody else's frames, answers
# and events have their turns in between. More than people type at once.
RECEIVE_BYTES: Final = 4 * 1024
# Connections read in one turn, before answers and events of Redis get theirs: a few milliseconds,
# and enough for full calls of publishes.
READS_PER_TURN: Final = 64
# How long an answer waits for the event that it is about, before it is sent alone: at most twice
# that, much longer than the event takes and too short to be felt.
COMPANY_SECONDS: Final = 0.01
# Frames that go up to trio-websocket in one turn; each costs it tens of microseconds.
FRAMES_UP_PER_TURN: Final = 32
# More control frames than this in so many seconds end a connection with 4529: a client pings once
# in some seconds, and each ping costs trio-websocket as much as ten messages cost us.
CONTROL_FRAMES_MAX: Final = 1000
CONTROL_FRAMES_SECONDS: Final = 10.0
# The same for fragments and what comes behind them, which trio-websocket puts together for tens of
# microseconds each: ten pieces for each message of the default rate, at a few per cent of a core.
FRAGMENTS_MAX: Final = 5000
# Fragments of one message: each is kept as an object of its own, sixty bytes for one. A frame of
# the default MAX_FRAME_BYTES may come in pieces of 64 bytes.
FRAGMENTS_PER_MESSAGE_MAX: Final = 1024
