-- 0001 kernel: everything that people who talk in rooms need.
--
-- Law of these files: one migration a file, plain SQL, run in one transaction; a statement ends
-- with a semicolon at the end of a line. A file that has been released is never changed again.
--
-- Ids are compared byte by byte everywhere in Parley, hence COLLATE "C" (also the cheaper index).
-- `room` as text is never a key here: tables refer to rooms.pk, so that a project and a room id
-- are stored once and a row of history stays small. Nothing is ever deleted that could free an id.

-- Facts about the deployment: its id, ROOM_PARTITIONS.
CREATE TABLE settings (
    name text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE projects (
    id text COLLATE "C" PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The project of tokens that name none.
INSERT INTO projects (id) VALUES ('default');

-- `hash` is SHA-256 of the whole key; `prefix` its first characters, to tell keys apart in a list.
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    project text COLLATE "C" NOT NULL REFERENCES projects (id),
    prefix text COLLATE "C" NOT NULL,
    hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_project ON api_keys (project, created_at);

-- A deleted user keeps the row: the id stays taken for good.
CREATE TABLE users (
    project text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    username text COLLATE "C",
    external_user_id text COLLATE "C",
    display_name text,
    email text,
    avatar_url text,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'banned')),
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz,
    tokens_revoked_at timestamptz,
    deleted_at timestamptz,
    PRIMARY KEY (project, id)
);
CREATE UNIQUE INDEX users_username ON users (project, username) WHERE username IS NOT NULL;
CREATE UNIQUE INDEX users_external_user_id ON users (project, external_user_id)
    WHERE external_user_id IS NOT NULL;
CREATE INDEX users_created_at ON users (project, created_at, id);

-- version         rises with every announced change of the room or its members (the row's lock is
--                 what orders them)
-- epoch           the life under which the room was seeded last, null before the first time
-- seeded_at       when `epoch` was set: whoever verified another life before that must look again
-- base_offset,    the numbering of `epoch` goes on above these
-- base_seq
-- archived_offset newest offset of the room that is in this database
-- seq             newest message of the room that is in this database
-- fillfactor: these rows change with every batch of the archiver; room on the page keeps such an
-- update off the indexes.
CREATE TABLE rooms (
    pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL DEFAULT 'group' CHECK (kind IN ('direct', 'group', 'public')),
    name text,
    topic text,
    avatar_url text,
    external_id text COLLATE "C",
    default_role text COLLATE "C" NOT NULL DEFAULT 'member',
    frozen boolean NOT NULL DEFAULT false,
    retention_days integer,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_by text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    direct_low text COLLATE "C",
    direct_high text COLLATE "C",
    version bigint NOT NULL DEFAULT 0,
    epoch text COLLATE "C",
    seeded_at timestamptz,
    base_offset bigint NOT NULL DEFAULT 0,
    base_seq bigint NOT NULL DEFAULT 0,
    archived_offset bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0,
    last_message_at timestamptz,
    UNIQUE (project, id),
    CHECK ((kind = 'direct') = (direct_low IS NOT NULL AND direct_high IS NOT NULL)),
    CHECK (direct_low < direct_high)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX rooms_external_id ON rooms (project, external_id)
    WHERE external_id IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX rooms_direct_pair ON rooms (project, direct_low, direct_high)
    WHERE direct_low IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX rooms_created_at ON rooms (project, created_at, id);

-- `project` repeats the room's, so that a user's rooms are one index range.
CREATE TABLE members (
    room_pk bigint NOT NULL REFERENCES rooms (pk),
    user_id text COLLATE "C" NOT NULL,
    project text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL DEFAULT 'member',
    joined_at timestamptz NOT NULL DEFAULT now(),
    muted_until timestamptz,
    read_seq bigint NOT NULL DEFAULT 0,
    delivered_seq bigint NOT NULL DEFAULT 0,
    read_at timestamptz,
    PRIMARY KEY (room_pk, user_id)
) WITH (fillfactor = 80);
CREATE INDEX members_user ON members (project, user_id);

-- sender       null: the project itself wrote it
-- event_offset offset of message.created; last_offset: of the newest event that changed the row
-- deleted_at   the content stays; whoever reads it decides who may see it
-- json, not jsonb: what was sent comes back as it was (jsonb would write 1e308 with 309 digits).
-- No foreign keys: the archiver must be able to write whatever was answered.
CREATE TABLE messages (
    room_pk bigint NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    sender text COLLATE "C",
    kind text COLLATE "C" NOT NULL DEFAULT 'text',
    content text,
    metadata json,
    attachments json,
    mentions text[],
    reply_to bigint,
    reply_count integer NOT NULL DEFAULT 0,
    forwarded_from json,
    client_id text,
    created_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    deleted_by text COLLATE "C",
    event_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    PRIMARY KEY (room_pk, seq)
) PARTITION BY HASH (room_pk);
CREATE TABLE messages_00 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 0);
CREATE TABLE messages_01 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 1);
CREATE TABLE messages_02 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 2);
CREATE TABLE messages_03 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 3);
CREATE TABLE messages_04 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 4);
CREATE TABLE messages_05 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 5);
CREATE TABLE messages_06 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 6);
CREATE TABLE messages_07 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 7);
CREATE TABLE messages_08 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 8);
CREATE TABLE messages_09 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 9);
CREATE TABLE messages_10 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 10);
CREATE TABLE messages_11 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 11);
CREATE TABLE messages_12 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 12);
CREATE TABLE messages_13 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 13);
CREATE TABLE messages_14 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 14);
CREATE TABLE messages_15 PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER 15);
-- By id first: ids rise with time, so the insert stays at the right edge of the index, and a
-- message can be found by its id alone.
CREATE INDEX messages_id ON messages (id, room_pk);
-- The seed of a room reads the idempotency window from here.
CREATE INDEX messages_client_id ON messages (room_pk, created_at) WHERE client_id IS NOT NULL;

-- A set: one per user, message and reaction.
CREATE TABLE reactions (
    room_pk bigint NOT NULL,
    seq bigint NOT NULL,
    reaction text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (room_pk, seq, reaction, user_id)
);

-- Changes that have committed but may not have been announced yet, in the order of `version`.
-- `data` is what the event will carry, byte for byte.
CREATE TABLE announcements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_pk bigint NOT NULL REFERENCES rooms (pk),
    version bigint NOT NULL,
    event text COLLATE "C" NOT NULL,
    sender text COLLATE "C",
    data json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (room_pk, version)
);
CREATE INDEX announcements_created_at ON announcements (created_at);

-- What the archiver could not take, whole, with the reason. Unique, so that a repeat adds nothing.
CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room text COLLATE "C" NOT NULL,
    epoch text COLLATE "C" NOT NULL,
    event_offset bigint NOT NULL,
    seq bigint NOT NULL,
    event text COLLATE "C" NOT NULL,
    entry bytea NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (room, epoch, event_offset)
);

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    actor text,
    action text NOT NULL,
    entity text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_entity ON audit (project, entity, id);
