"""Limits that are not variables: every queue, loop, wait and size has one, with its reason.

Law of this file: constants only, grouped by the package that uses them; units last in the name,
durations in seconds (no unit in the name), sizes in bytes or in what the name counts. What an
operator may want to change is a variable in `settings` instead. Nothing here is computed from
settings; where two limits depend on each other, the comment says so. Those of the broker's sockets
and frames are in `wire_limits`, those of the REST API in `api_limits`.
"""

from __future__ import annotations

from typing import Final

# --- the whole product ------------------------------------------------------------------------

# How long a command to Redis or PostgreSQL may take before it counts as lost (outcome unknown).
# Clients give up on a reply after 5 to 10 s; an answer "unavailable" must come before that.
COMMAND_TIMEOUT: Final = 3.0
# How long opening a connection to either may take; a dead address must not eat a client's patience.
CONNECT_TIMEOUT: Final = 2.0
# First and longest pause between attempts to connect again. Jittered, so that all processes of a
# deployment do not come back in the same instant; short enough to be back within seconds.
RECONNECT_DELAY_MIN: Final = 0.05
RECONNECT_DELAY_MAX: Final = 2.0

# --- storage.redis ----------------------------------------------------------------------------

# A resume longer than this is answered `recovered: false`; reloading a page is cheaper for both
# sides than replaying it, and one script call must not hold Redis for longer than some
# milliseconds. As long as the default ROOM_LOG_LENGTH.
RESUME_EVENTS_MAX: Final = 1000
# The same in bytes as they are sent: below the frame limit, with room for the rest of the reply.
# The smallest SEND_QUEUE_BYTES takes a whole frame, so a resume makes nobody a slow consumer.
RESUME_BYTES_MAX: Final = 720 * 1024
# Unarchived events a subscribe looks through for the unread count. The archiver is normally some
# hundred milliseconds behind; while it is further, what lies beyond is estimated, instead of
# letting every subscribe read a backlog.
LAG_EVENTS_MAX: Final = 200
# A room hears of one user's read (delivered) mark at most once in this: the newest counts.
RECEIPT_INTERVAL: Final = 1.0
# How long it is known what a room has heard: longer than telling the rest takes.
RECEIPT_STATE_TTL: Final = 60.0
# Entries an inbox may hold: with so many unread ones its node is dead or stopped. The inbox is
# unlinked as a whole, never trimmed: a missing inbox is the sign of loss that the node looks for.
# While entries hold many events (up to 32), a quarter of them is enough.
INBOX_LENGTH_MAX: Final = 100_000
# After a new life (fence), rooms that had an earlier one wait this long before they are seeded,
# so that every node can report the highest numbers it has seen.
FENCE_WAIT: Final = 2.0
# How often each process compares the lives it works under with those in Redis: a new one must be
# noticed, and the floors reported, well before rooms are seeded in it.
LIVES_INTERVAL: Final = 0.5
# How long reported floors are kept at least. A seed takes its room's away; a room that nobody needs
# for longer than this after a fence, and that nobody had archived, may repeat a number.
FLOORS_TTL: Final = 7 * 24 * 3600.0

# --- broker -----------------------------------------------------------------------------------

# No server frame exceeds this: popular clients refuse messages above 1 MiB.
SERVER_FRAME_BYTES_MAX: Final = 768 * 1024
# How long a connection that we end may take to send what is kept and answer the close frame.
CLOSE_TIMEOUT: Final = 2.0
# The same for a slow consumer, which is behind by what the kernel holds: it should still find 4508
# when it reads again. What waited for it has been dropped, so this costs no memory.
SLOW_CLOSE_TIMEOUT: Final = 10.0
# A node's heartbeat renews its lease this many times within one NODE_LEASE: two may fail.
HEARTBEATS_PER_LEASE: Final = 3
# Every so often a node asks Redis whether it is registered and up to date in all of its rooms,
# so that no lost entry stays silent because no later event came.
AUDIT_INTERVAL: Final = 10.0
# Rooms in one audit call: about a millisecond of Redis.
AUDIT_ROOMS: Final = 200
# A token may end this much before its connection does: time for a client to send `refresh`.
TOKEN_EXPIRY_GRACE: Final = 25.0
# Longest token that is looked at. A real one is below 2 KiB; capabilities for many rooms make it
# longer; everything else is somebody's attempt to make us compute.
TOKEN_BYTES_MAX: Final = 16 * 1024
# Clocks of two machines may differ by this much when `exp`, `iat` and `nbf` are judged.
TOKEN_LEEWAY: Final = 5.0
# Capabilities are checked for each token: bounded work.
TOKEN_ROOMS_MAX: Final = 1000
# The longest life of a minted token: ten years. Longer ones are a mistake of units.
TOKEN_TTL_MAX: Final = 3650 * 86_400.0
# A JWT secret below this many bytes can be guessed offline from any token (RFC 7518 section 3.2).
JWT_SECRET_BYTES_MIN: Final = 32

# How often the keys of JWT_JWKS_URL are fetched anew: so long a key that was taken back may verify.
JWKS_REFRESH_INTERVAL: Final = 300.0
# A token of an unknown key makes us ask at once, but not more often than this: whoever invents
# key ids must not make us bother the provider.
JWKS_RETRY_AFTER: Final = 5.0
# How long a fetch may take; clients that wait for it have 5 to 10 s.
JWKS_TIMEOUT: Final = 4.0
# What a key set may hold. Real ones have two to ten keys and a few KiB.
JWKS_BYTES_MAX: Final = 256 * 1024
JWKS_KEYS_MAX: Final = 32

# --- config -----------------------------------------------------------------------------------

# The metrics page is small and asked for by one scraper: few at once, little patience.
METRICS_REQUEST_BYTES_MAX: Final = 8 * 1024
METRICS_REQUEST_TIMEOUT: Final = 5.0
METRICS_CONNECTIONS_MAX: Final = 32

# --- parley -----------------------------------------------------------------------------------

# How long `parley broker` waits for its children beyond their own DRAIN_SECONDS before it ends
# them the hard way.
CHILD_STOP_EXTRA: Final = 5.0

# --- storage.redis: the transport -------------------------------------------------------------

# Commands of one connection that wait for their answer. At 10 microseconds of Redis each this is
# a second of work; more would only wait for a deadline that it cannot meet.
REDIS_UNANSWERED_MAX: Final = 100_000
# Bytes of commands that the kernel has not taken yet. They pile up only while Redis does not read,
# and then refusing at once is kinder than holding a client's message until the deadline.
REDIS_UNSENT_BYTES_MAX: Final = 64 * 1024 * 1024
# Most bytes taken from the socket at a time, and the size of each connection's buffer: one system
# call for hundreds of replies, yet few enough that others get their turn within some milliseconds.
REDIS_RECEIVE_BYTES: Final = 128 * 1024
# How often the oldest unanswered command is looked at: a deadline is met to within this.
REDIS_WATCHDOG_INTERVAL: Final = 0.1
# An overdue command gets this much more, so that a reply which arrived while this process itself
# was stopped or starved is read before the connection is judged.
REDIS_WATCHDOG_GRACE: Final = 0.05
# A connection lost sooner than this after it was opened counts as one more failure, or a server
# that accepts and then refuses everything would be called upon without a pause.
REDIS_STABLE_AFTER: Final = 1.0
# How long `prepare` (loading the scripts, verifying the lives) may take on a new connection.
REDIS_PREPARE_TIMEOUT: Final = 10.0
# How long one sentinel may take to be reached and to answer; all are asked at once, so this is what
# a dead one costs while there is no majority of the others.
SENTINEL_TIMEOUT: Final = 1.0
# How often a process with a connection asks whether another master has been named meanwhile: a
# master that was replaced, but goes on accepting, is left after about this long.
SENTINEL_WATCH_INTERVAL: Final = 2.0
# TCP keepalive for connections with nothing to say: a dead peer is noticed after about 20 s.
REDIS_KEEPALIVE_IDLE: Final = 10
REDIS_KEEPALIVE_INTERVAL: Final = 3
REDIS_KEEPALIVE_PROBES: Final = 3

# --- broker.domain ----------------------------------------------------------------------------

# How long warming a room may take, a fence's wait (2 s) included; clients wait 5 to 10 s.
SEED_DEADLINE: Final = 5.0
# How long a publish may take with all its repairs; then the client is told `unavailable`.
PUBLISH_DEADLINE: Final = 6.0
# Marks of users whose rooms one process still has to tell; beyond it a room hears of the next mark.
RECEIPTS_HELD_MAX: Final = 20_000
# Members that each turn may read and count for; in a larger room only who is mentioned is told.
NOTIFIED_MEMBERS_MAX: Final = 200
# Users that are told something at once: one pipeline of some milliseconds of Redis.
NOTIFIED_AT_ONCE: Final = 500
# How often members of a room are told of its newest message.
NOTIFY_INTERVAL: Final = 0.5
# Rooms whose messages wait to be told (some hundred bytes each); beyond it the next message tells.
NOTIFIED_ROOMS_MAX: Final = 10_000
# Messages of one room that are told together: mentions in earlier ones are forgotten.
NOTIFIED_MESSAGES_MAX: Final = 50
# What clients are told to wait after `unavailable` and `overloaded`, in seconds.
UNAVAILABLE_RETRY_AFTER: Final = 1.0
OVERLOADED_RETRY_AFTER: Final = 5.0
# Size of the archive backlog over all partitions. The events lie in Redis twice (log and archive),
# so this is up to 8 GiB of its memory while PostgreSQL is away.
ARCHIVE_BACKLOG_BYTES: Final = 4 * 1024 * 1024 * 1024

# What `q` of a search may hold: more words than anybody types, few enough to look each one up.
SEARCH_BYTES_MAX: Final = 256
SEARCH_WORDS_MAX: Final = 16
# A search answers with what it has found after this long (and the step it is in); the client goes
# on from there. Only words that are frequent and hardly ever together take so long.
SEARCH_WALK_SECONDS: Final = 0.02
# How long a step should take, how much wider it may be than the one before, and the widest: a
# million messages (8192 a stretch), whose index entries are read within some milliseconds.
SEARCH_STEP_SECONDS: Final = 0.01
SEARCH_STEP_MAX: Final = 8
SEARCH_STRETCHES_MAX: Final = 128

# How long deleting a user waits for its messages to go, and the pause between two looks for those
# that are not archived yet: the usual few are gone at the answer, the archiver does the rest.
REMOVAL_WAIT: Final = 2.0
REMOVAL_PAUSE: Final = 0.1

# --- broker: hub and node ---------------------------------------------------------------------

# Events kept for a subscription while its script is on its way (one Redis round trip). More than
# this and the client resyncs, which costs less than the memory of thousands of held rooms.
HELD_EVENTS_MAX: Final = 1000
HELD_BYTES_MAX: Final = 1024 * 1024
# Events that wait while a gap is filled; beyond it the room resyncs.
PENDING_EVENTS_MAX: Final = 5000
# Events that arrive together share a send up to this size: a joined send must never make a client
# that reads a slow consumer, so it is a quarter of the default SEND_QUEUE_BYTES.
JOINED_BYTES_MAX: Final = 256 * 1024
# Bytes that one inbox read should bring: between two reads the outboxes' writers get their turn.
INBOX_READ_BYTES: Final = 512 * 1024
# Entries one inbox read takes at most: enough to join sends under load.
INBOX_READ_COUNT: Final = 512
# Delivered entries are trimmed from an inbox in portions of this size: each trim costs Redis as
# much as handing out an entry.
INBOX_TRIM_BYTES: Final = 256 * 1024
# Rooms whose newest answered numbers a node remembers (twice this many at most): 200 bytes each.
ANSWERED_ROOMS_MAX: Final = 20_000
# How often a node looks for nodes whose lease has ended: with a lease of 15 s no presence outlives
# its node by 20 s.
SWEEP_INTERVAL: Final = 2.0
# How long an inbox read waits in Redis; also how soon a stopped reader notices a new incarnation.
INBOX_BLOCK: Final = 5.0
# Commands of one connection that wait for earlier ones of the same room or for authentication;
# at this many its socket is not read any more, and below half of it again.
COMMANDS_WAITING_MAX: Final = 256
# Rates: how many frames a connection may send at once beyond the steady rate, in seconds' worth
# (RATE_MESSAGES_PER_SECOND 50 gives a burst of 100), and what other frames are allowed.
RATE_BURST_SECONDS: Final = 2.0
RATE_OTHER_FACTOR: Final = 10
# What asks the storages (subscribe, history, presence, refresh) costs them a millisecond each time,
# a hundred times as much as other frames: as many at once and a tenth more, for a client that comes
# back to all of its rooms and asks for pages of some, but then only a fifth of their rate.
RATE_READING_COST: Final = 5
RATE_READING_BURST: Final = 1.1
# So many bytes of pages and resumes count as one such frame more: the largest resume as eleven.
RATE_READING_BYTES: Final = 64 * 1024
# Commands in tasks at the same time, of one user (over all connections) and of a node; others take
# turns. Enough to hide round trips and fill the pool (10); more would only stand before others.
COMMANDS_AT_ONCE: Final = 16
NODE_COMMANDS_AT_ONCE: Final = 64
# So many refused frames in so many seconds end a connection with 4529.
RATE_REFUSED_MAX: Final = 1000
RATE_REFUSED_SECONDS: Final = 10.0
# Connections whose users are read again at the same time. After a lost inbox all are, and the
# commands of clients must still find a connection of the pool (10) in time.
LOOKS_AT_ONCE: Final = 4
# How long one slow command (subscribe, history) may take before `unavailable`.
SLOW_COMMAND_DEADLINE: Final = 8.0
# How often deadlines of connections (authentication, token expiry) are looked at.
TICK_INTERVAL: Final = 1.0
# Part of DRAIN_SECONDS in which only /readyz says that the process stops (4 of 20 s), and the most
# it may be: balancers that ask every second or two need two refusals to be sure. Beyond, a longer
# DRAIN_SECONDS is for the clients.
DRAIN_LEAD_SHARE: Final = 0.2
DRAIN_LEAD_MAX: Final = 10.0
# Whoever asks /readyz twice within this watches it: the usual pauses are 1 to 10 s. Where nobody
# watches nobody is waited for, and Ctrl-C of a developer ends at once.
READY_WATCHED_WITHIN: Final = 30.0
# Part of DRAIN_SECONDS that clients get to reconnect elsewhere; the rest is for answers and closes.
DRAIN_RECONNECT_SHARE: Final = 0.5
# Part of DRAIN_SECONDS that is kept for the end: last writes, leaving Redis, closing both storages.
# What is left between the clients' part and this is for the closes (2 of 20 s).
DRAIN_LEAVE_SHARE: Final = 0.2
# The least that a node takes for leaving, whatever DRAIN_SECONDS is: one round trip to Redis.
DRAIN_LEAVE_MIN: Final = 0.5
# A drained node's presence outlives it by at most this, whatever DRAIN_SECONDS is.
DRAIN_LINGER_MAX: Final = 15.0

# --- broker: live state ------------------------------------------------------------------------

# Who types is shown for so long after the last word of it; clients drop it then by themselves, so
# that nothing is left of a node that died. Twice the pause between two words of a client, so that
# one may be lost.
TYPING_EXPIRES: Final = 6.0
# Over all nodes at most one typing.started per user passes in this time: clients that say it with
# every key must not cost a room more.
TYPING_PAUSE: Final = 3.0
# How often a node looks for typing that has expired or is to be repeated.
TYPING_TICK: Final = 0.25
# How often a quiet room tells how many are online, if that has changed.
QUIET_COUNT_INTERVAL: Final = 5.0
# Users whose last_seen_at one statement writes, and the pause between two: a storm of reconnects
# costs PostgreSQL no more than this many small updates a second and node.
LAST_SEEN_ROWS: Final = 500
LAST_SEEN_INTERVAL: Final = 1.0
# Users that wait for their last_seen_at to be written while PostgreSQL is away, 100 bytes each;
# beyond it the oldest are forgotten.
LAST_SEEN_WAITING_MAX: Final = 200_000

# --- broker: repairs and connections -----------------------------------------------------------

# Rooms that are registered again at the same time after a lost inbox: enough to fill the pipeline.
REPAIRS_AT_ONCE: Final = 64
# Counts and leaves of connections that a node sends at the same time, for the same reason.
MARKS_AT_ONCE: Final = 64
# Pause of a repair while Redis is away.
REPAIR_RETRY_AFTER: Final = 0.25
# WebSockets of one process. Beyond it memory and the time to drain grow, not the work done.
CONNECTIONS_MAX: Final = 50_000

# Handshakes, and authentications, at the same time: enough to keep PostgreSQL's ten connections and
# Redis busy, few enough that each has its answer within some milliseconds and nobody's frames are
# behind thousands of them. While more of those who are in wait, the door lets one in at a time.
ADMISSIONS_AT_ONCE: Final = 16
# When the first before the door has waited for this long, or so many wait, further handshakes are
# answered 503 before they cost more: a balancer tries another node, a client comes back later.
ADMISSION_WAIT: Final = 4.0
ADMISSIONS_WAITING_MAX: Final = 500
# Who still has no turn after this is closed with 4503: its client has given up, or soon will.
ADMISSION_WAIT_MAX: Final = 10.0

# Of one field of a log line, in characters: a traceback fits, a frame that somebody sent does not.
LOG_TEXT_MAX: Final = 16_384
