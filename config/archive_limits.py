"""What bounds the work of an archiver."""

from typing import Final

# A batch of large events ends once it has so many bytes: what an archiver holds of each of its
# flushes, and about a tenth of a second of PostgreSQL, in which the rooms of the batch are locked.
ARCHIVE_BATCH_BYTES: Final = 4 * 1024 * 1024
