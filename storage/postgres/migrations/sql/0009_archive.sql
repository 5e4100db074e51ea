-- 0009 archive: an index less for every message. What it was for, a room's idempotency window, is found
-- by walking the primary key back from the newest message to where the window begins (`seeds`).

-- Takes its lock for a moment: nothing is read or written.
DROP INDEX messages_client_id;
