"""Limits of the REST API that nobody sets: each with its reason.

The rest are in `config.limits`; what an operator may set is in `config.settings`.
"""

from __future__ import annotations

from typing import Final

# A key that was good is believed for so long, so that a busy backend costs no query a request;
# a revoked one works for at most this much longer.
API_KEY_CACHE_TTL: Final = 1.0
# Keys remembered at once; beyond it all are asked for again.
API_KEYS_CACHED_MAX: Final = 1000
# Longest key that is looked at; ours have 50 bytes.
API_KEY_BYTES_MAX: Final = 256
# Largest request body: a hundred usual messages in one call.
API_BODY_BYTES_MAX: Final = 2 * 1024 * 1024
# A body that nobody wants (the request was refused before it was read): how long, and how much of
# it, is taken all the same so that the connection can go on; then it is closed. Four times the
# largest body that is allowed, so that whoever sent too much still reads why it was refused.
API_UNREAD_SECONDS: Final = 2.0
API_UNREAD_BYTES_MAX: Final = 4 * API_BODY_BYTES_MAX
# How long a client may take to send its body, or to take an answer.
API_BODY_TIMEOUT: Final = 20.0
API_RESPONSE_TIMEOUT: Final = 60.0
# A request that takes longer than this is looked at, and again: if its client has gone, it ends.
# Most are over long before, so looking at all of them would be for nothing.
API_GONE_CHECK: Final = 1.0
# A connection without a request is closed after this; above what proxies keep theirs (60 s), so
# that it is the proxy that closes and no request meets a closing connection.
API_KEEP_ALIVE: Final = 75.0
# How long the head of a request may take once it has begun, and how long a new connection may take
# for its first: whoever trickles heads does not hold places for long.
API_HEAD_TIMEOUT: Final = 10.0
# Connections of one process, each some ten kilobytes; as many as a broker's share of a machine
# needs many times over.
API_CONNECTIONS_MAX: Final = 10_000
# Read from a connection at once; a larger body comes in several pieces.
API_RECEIVE_BYTES: Final = 64 * 1024
# Head of a request: paths and queries are short, a token has up to TOKEN_BYTES_MAX.
API_HEAD_BYTES_MAX: Final = 32 * 1024
# JSON that is compressed: less fits into one packet anyway; compressing more holds up every other
# request of the process for longer than a few milliseconds.
API_GZIP_BYTES_MIN: Final = 1400
API_GZIP_BYTES_MAX: Final = 512 * 1024
# A cursor page over REST ends early beyond this; only pages of the largest messages do.
API_PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
# Buckets of rate-limited users that are kept; the one unused for longest goes first.
API_RATES_MAX: Final = 20_000
# How long a token lasts that `parley up`'s page gives a demo user; the page asks for the next one.
DEMO_TOKEN_TTL: Final = 24 * 3600.0
# How long /readyz waits for Redis and PostgreSQL.
API_PROBE_TIMEOUT: Final = 1.0
# Pause between attempts to reach both at the start.
API_START_RETRY: Final = 0.5
