-- 0002 messages: pages by sender, kind, time and the message they answer.

CREATE INDEX messages_sender ON messages (room_pk, sender, seq);
-- Most messages are text: pages of those walk the primary key, and their rows cost nothing here.
CREATE INDEX messages_kind ON messages (room_pk, kind, seq) WHERE kind <> 'text';
CREATE INDEX messages_replies ON messages (room_pk, reply_to, seq) WHERE reply_to IS NOT NULL;

-- The seq of the first message of a room that is not older than `moment` (one above the newest if
-- all are older, null in an empty room), by bisection over the primary key: within a room times
-- rise with seq, so no index of times is needed. Where the clock was set back it is only near; who
-- asks looks a little further and compares the times themselves.
CREATE FUNCTION message_seq_at(room bigint, moment timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT AS $$
    WITH RECURSIVE search (low, high) AS (
        SELECT min(seq), max(seq) + 1 FROM messages WHERE room_pk = room
        UNION ALL
        SELECT CASE WHEN probe.created_at < moment THEN probe.seq + 1 ELSE low END,
               CASE WHEN probe.created_at < moment THEN high ELSE (low + high) / 2 END
        FROM search
        CROSS JOIN LATERAL (
            SELECT seq, created_at FROM messages
            WHERE room_pk = room AND seq >= (low + high) / 2
            ORDER BY seq
            LIMIT 1
        ) AS probe
        WHERE low < high
    )
    SELECT low FROM search WHERE low >= high
$$;
