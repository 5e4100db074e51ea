-- 0008 data: search, and what finding everything of one user takes (export, erasure, retention).

-- Search. One index for two questions at once: in which stretch of which room (8192 seqs; the
-- first column, an array because GIN has no plain numbers), and which words. So a search reads
-- stretch by stretch from the newest, and neither a word that is everywhere nor one that is
-- nowhere makes it read the room. Deleted messages are not in it. A short pending list: every
-- search reads all of it. `search` has the statements, docs/decisions the figures.
CREATE INDEX messages_words ON messages USING gin (
    (ARRAY[(room_pk << 24) | (seq >> 13)]), to_tsvector('simple', content)
) WITH (fastupdate = on, gin_pending_list_limit = 512) WHERE deleted_at IS NULL;

-- Copies that name who wrote the first: they forget an erased user.
CREATE INDEX messages_forwarded ON messages ((forwarded_from ->> 'sender'), room_pk)
    WHERE forwarded_from IS NOT NULL;

-- Rooms whose messages go away after some days.
CREATE INDEX rooms_retention ON rooms (pk) WHERE retention_days IS NOT NULL;

-- What a user did, for its export.
CREATE INDEX reactions_user ON reactions (user_id, room_pk, seq);
CREATE INDEX audit_actor ON audit (project, actor, id) WHERE actor IS NOT NULL;
