"""Limits of the pages of messages that a process keeps for a moment, and the reason for each."""

from __future__ import annotations

from typing import Final

# How long a page is kept at most. What is asked for often is asked for sooner; what retention has
# removed is gone from everywhere after it.
KEPT_PAGE_SECONDS: Final = 10.0
# Of all pages together: some 600 of 50 messages, each what one statement and 1 ms cost. Half as
# many of those that are asked for again over the WebSocket: their answers are kept beside them.
KEPT_PAGES_BYTES: Final = 16 * 1024 * 1024
# Of one page: larger ones are of long messages, and would push out many.
KEPT_PAGE_BYTES_MAX: Final = 256 * 1024
# Bytes of the objects around a page.
KEPT_PAGE_OVERHEAD: Final = 2048
# Whose rights are remembered with one page, some 400 bytes each; others are looked up.
KEPT_PAGE_VIEWERS: Final = 500
# How long a project's stamp stays in Redis. It must be longer than KEPT_PAGE_SECONDS: a page that
# was kept before the stamp came must not be there any more when it is gone.
PAGE_STAMP_SECONDS: Final = 60
