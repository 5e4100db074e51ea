-- 0007 lists: what keeps lists quick where there are millions of messages and members.
--
-- Numbers that a list shows or walks by are kept beside the rows they are about: by triggers where
-- many statements change the rows, by the archiver where COPY does (a trigger on inserts would
-- make COPY write row by row). Why: docs/decisions.

-- member_count  members of the room (the count trigger below)
-- active_at     what the members' own rows say about the room's activity; null before the first
--               message, 'infinity' once the room is too big for its members' rows to be changed
-- counted_seq   `message_counts` holds every message below this
ALTER TABLE rooms ADD COLUMN member_count integer NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN active_at timestamptz;
ALTER TABLE rooms ADD COLUMN counted_seq bigint NOT NULL DEFAULT 0;

-- A user's rooms in the order of their activity. The true activity is the time of the room's
-- newest message or, where that is later, of its making: never earlier than `active_at`, and later by
-- at most the archiver's ACTIVITY_SPREAD_SECONDS; rooms with 'infinity' have to be looked at.
-- Null: the room is deleted.
ALTER TABLE members ADD COLUMN active_at timestamptz;

-- Rooms that are not deleted, by user.
CREATE TABLE room_counts (
    project text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    rooms bigint NOT NULL,
    PRIMARY KEY (project, user_id)
) WITH (fillfactor = 70);

-- Messages of a room by blocks of 2048 seqs, for blocks that the archiver has filled. `sender` and
-- `kind` '' stand for all of them; those of kind `text` are what the other kinds leave.
CREATE TABLE message_counts (
    room_pk bigint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    block bigint NOT NULL,
    messages integer NOT NULL,
    PRIMARY KEY (room_pk, sender, kind, block) INCLUDE (messages)
);

-- Messages that a user marked for itself.
CREATE TABLE favorites (
    id bigint GENERATED ALWAYS AS IDENTITY,
    room_pk bigint NOT NULL REFERENCES rooms (pk),
    seq bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    project text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_pk, seq, user_id)
);
CREATE INDEX favorites_user ON favorites (project, user_id, id);

-- Counts the messages of the blocks from `first` to `last` anew.
CREATE FUNCTION count_messages(room bigint, first bigint, last bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM message_counts WHERE room_pk = room AND block BETWEEN first AND last;
    INSERT INTO message_counts (room_pk, sender, kind, block, messages)
    SELECT room, coalesce(m.sender, ''), coalesce(m.kind, ''), m.seq / 2048, count(*)
    FROM messages m
    WHERE m.room_pk = room AND m.seq >= first * 2048 AND m.seq < (last + 1) * 2048
    GROUP BY m.seq / 2048, GROUPING SETS ((), (m.sender), (m.kind), (m.sender, m.kind))
    HAVING (grouping(m.sender) = 1 OR m.sender IS NOT NULL)
       AND (grouping(m.kind) = 1 OR m.kind <> 'text');
END
$$;

-- Rows that go away (retention) take their part of the counts and the marks on them with them.
CREATE FUNCTION recount_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM count_messages(part.room_pk, part.block, part.block)
    FROM (SELECT DISTINCT g.room_pk, g.seq / 2048 AS block FROM gone g) AS part
    JOIN rooms r ON r.pk = part.room_pk
    WHERE part.block * 2048 < r.counted_seq;
    DELETE FROM favorites f USING gone g WHERE f.room_pk = g.room_pk AND f.seq = g.seq;
    RETURN NULL;
END
$$;
CREATE TRIGGER messages_gone AFTER DELETE ON messages
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION recount_messages();

-- A new member's row says what the others' say.
CREATE FUNCTION date_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT CASE WHEN r.deleted_at IS NULL THEN greatest(r.active_at, r.created_at) END
    INTO NEW.active_at FROM rooms r WHERE r.pk = NEW.room_pk;
    RETURN NEW;
END
$$;
CREATE TRIGGER members_date BEFORE INSERT ON members
FOR EACH ROW EXECUTE FUNCTION date_member();

-- In the order of users, so that two transactions never wait for each other. A room of more than
-- two hundred members is 'infinity' from then on.
CREATE FUNCTION count_new_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH grown AS (
        UPDATE rooms r
        SET member_count = r.member_count + part.members,
            active_at = CASE WHEN r.member_count + part.members > 200 THEN 'infinity'
                        ELSE r.active_at END
        FROM (SELECT room_pk, count(*) AS members FROM added GROUP BY room_pk) AS part
        WHERE r.pk = part.room_pk
        RETURNING r.pk, r.active_at = 'infinity' AND r.member_count - part.members <= 200 AS is_big
    )
    UPDATE members m SET active_at = 'infinity'
    FROM grown
    WHERE grown.is_big AND m.room_pk = grown.pk AND m.active_at IS NOT NULL;
    INSERT INTO room_counts AS c (project, user_id, rooms)
    SELECT project, user_id, count(*) FROM added WHERE active_at IS NOT NULL
    GROUP BY project, user_id ORDER BY project, user_id
    ON CONFLICT (project, user_id) DO UPDATE SET rooms = c.rooms + excluded.rooms;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_added AFTER INSERT ON members
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_new_members();

CREATE FUNCTION count_old_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rooms r SET member_count = r.member_count - part.members
    FROM (SELECT room_pk, count(*) AS members FROM gone GROUP BY room_pk) AS part
    WHERE r.pk = part.room_pk;
    INSERT INTO room_counts AS c (project, user_id, rooms)
    SELECT project, user_id, -count(*) FROM gone WHERE active_at IS NOT NULL
    GROUP BY project, user_id ORDER BY project, user_id
    ON CONFLICT (project, user_id) DO UPDATE SET rooms = c.rooms + excluded.rooms;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_gone AFTER DELETE ON members
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_old_members();

-- A deleted room is in nobody's list.
CREATE FUNCTION hide_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH hidden AS (
        UPDATE members m SET active_at = NULL
        WHERE m.room_pk = NEW.pk AND m.active_at IS NOT NULL
        RETURNING m.project, m.user_id
    )
    INSERT INTO room_counts AS c (project, user_id, rooms)
    SELECT project, user_id, -1 FROM hidden ORDER BY project, user_id
    ON CONFLICT (project, user_id) DO UPDATE SET rooms = c.rooms + excluded.rooms;
    RETURN NULL;
END
$$;
CREATE TRIGGER rooms_deleted AFTER UPDATE OF deleted_at ON rooms
FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
EXECUTE FUNCTION hide_room();

-- What is there already.
UPDATE rooms r
SET member_count = found.members,
    active_at = CASE WHEN found.members > 200 THEN 'infinity' ELSE r.last_message_at END
FROM (SELECT room_pk, count(*) AS members FROM members GROUP BY room_pk) AS found
WHERE r.pk = found.room_pk;
UPDATE members m SET active_at = greatest(r.active_at, r.created_at)
FROM rooms r
WHERE r.pk = m.room_pk AND r.deleted_at IS NULL;
INSERT INTO room_counts (project, user_id, rooms)
SELECT project, user_id, count(*) FROM members WHERE active_at IS NOT NULL
GROUP BY project, user_id;
SELECT count_messages(pk, 0, seq / 2048 - 1) FROM rooms WHERE seq >= 2048;
UPDATE rooms SET counted_seq = seq / 2048 * 2048 WHERE seq >= 2048;

CREATE INDEX members_active ON members (project, user_id, active_at, room_pk)
    WHERE active_at IS NOT NULL;

-- A sender's messages of a rare kind, which messages_sender would wade through all others for.
CREATE INDEX messages_sender_kind ON messages (room_pk, sender, kind, seq) WHERE kind <> 'text';

-- Living users and rooms are counted and walked in the index alone.
CREATE INDEX users_living ON users (project, created_at, id) WHERE deleted_at IS NULL;
DROP INDEX users_created_at;
CREATE INDEX rooms_living ON rooms (project, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX rooms_kind ON rooms (project, kind, created_at, id) WHERE deleted_at IS NULL;
DROP INDEX rooms_created_at;
