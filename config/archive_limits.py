"""What bounds the work of an archiver."""

from typing import Final

# A batch of large events ends once it has so many bytes: what an archiver holds of each of its
# flushes, and about a tenth of a second of PostgreSQL, in which the rooms of the batch are locked.
ARCHIVE_BATCH_BYTES: Final = 4 * 1024 * 1024

# Batches in one transaction where so many wait. What a batch costs for its rooms (locking and
# moving them, their members' marks) is shared by all of its events: four together cost a fifth less
# than four alone. More give little, and who waits for the newest event waits for all of it.
ARCHIVE_BATCHES_TOGETHER: Final = 4

# Rooms whose members are read in one statement, to be told of new messages: at most some ten
# thousand rows, some milliseconds.
NOTIFIED_ROOMS_AT_ONCE: Final = 50
