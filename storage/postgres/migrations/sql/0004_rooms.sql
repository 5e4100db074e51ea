-- Bans, blocks, who once was a member, and what users' own channels are to be told.

-- Who is kept out of a room. A ban ends the membership, so nobody is in here and in `members`.
CREATE TABLE bans (
    room_pk bigint NOT NULL REFERENCES rooms (pk),
    user_id text COLLATE "C" NOT NULL,
    banned_by text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_pk, user_id)
);

-- `user_id` does not want to hear from `blocked` in their direct room.
CREATE TABLE blocks (
    project text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    blocked text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, user_id, blocked)
);

-- Who was a member once knows that the room exists, so leaving again may be answered like the
-- first time. Everybody else is answered as if there were no room.
CREATE TABLE departures (
    room_pk bigint NOT NULL REFERENCES rooms (pk),
    user_id text COLLATE "C" NOT NULL,
    left_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_pk, user_id)
);

-- Users whose row has changed in a way that live connections must look at. The row goes away once
-- the nodes have been told; telling twice changes nothing.
CREATE TABLE user_announcements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_announcements_user ON user_announcements (project, user_id);
CREATE INDEX user_announcements_created_at ON user_announcements (created_at);

-- What is left to do about a deleted user: `keep`, `delete` or `erase` the messages. Null: nothing.
ALTER TABLE users ADD COLUMN removal text COLLATE "C"
    CHECK (removal IN ('keep', 'delete', 'erase'));
CREATE INDEX users_removal ON users (deleted_at) WHERE removal IS NOT NULL;

-- Everything that happened in a project, newest first.
CREATE INDEX audit_project ON audit (project, id);

-- A user's memberships in the order of the rooms, without a look at the table.
CREATE INDEX members_user_room ON members (project, user_id, room_pk);
DROP INDEX members_user;
