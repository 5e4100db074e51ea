-- What broker, api and archiver may do in the database: rows of the tables that they write, and
-- nothing else. They own nothing, create nothing, and can neither make API keys nor change the
-- audit trail. The owner of the database keeps `parley migrate`, `parley apikey`, `parley restored`.
--
-- Run it as the owner of the database after every `parley migrate`; it may be repeated:
--
--     psql "$DATABASE_URL" --set ON_ERROR_STOP=1 --single-transaction --file deploy/postgres-roles.sql
--
-- Then, once, a login for the processes:
--
--     CREATE ROLE parley_app LOGIN PASSWORD '…' IN ROLE parley_service;
--
-- The tables of a later migration can be used at once (default privileges below), so old and new
-- processes may run side by side until this file of the new version is run.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'parley_service') THEN
        CREATE ROLE parley_service NOLOGIN;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO parley_service', current_database());
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO parley_service;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM parley_service;
ALTER DEFAULT PRIVILEGES IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO parley_service;

-- Read only.
GRANT SELECT ON alembic_version, projects TO parley_service;
-- A key's last use is noted; keys are made and revoked by the owner.
GRANT SELECT, UPDATE (last_used_at) ON api_keys TO parley_service;
-- Written once, never changed.
GRANT SELECT, INSERT ON audit, settings TO parley_service;
-- Never deleted.
GRANT SELECT, INSERT, UPDATE ON departures, room_counts, rooms, users TO parley_service;
-- Never changed.
GRANT SELECT, INSERT, DELETE ON
    announcements, bans, blocks, dead_letters, favorites, reactions, user_announcements
    TO parley_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON members, message_counts, messages TO parley_service;

-- The search reads the partition of a room by its own name.
DO $$
DECLARE part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'messages'::regclass LOOP
        EXECUTE format('GRANT SELECT ON %s TO parley_service', part);
    END LOOP;
END $$;
