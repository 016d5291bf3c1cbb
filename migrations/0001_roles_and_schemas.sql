-- Roles and schemas: one of each per service. Services connect as the migrating user and take their role at once
-- (`SET ROLE`), so that one credential serves the installation and no service can read another's schema.

-- Needs a superuser only where the extension is missing; whoever runs Postgres may install it beforehand.
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

-- Roles belong to the cluster, not to the database: other installations may create them at this very moment, and
-- Postgres reports that race as a duplicate or as an internal error ("tuple concurrently updated"). Try again then.
DO $$
DECLARE
    name text;
    tries integer;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'mesh_registry', 'mesh_execution', 'mesh_execution_reader', 'mesh_messaging', 'mesh_memory', 'mesh_identity',
        'mesh_heartbeat', 'mesh_reconciler'
    ] LOOP
        tries := 0;
        LOOP
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', name);
                END IF;
                IF NOT EXISTS (
                    SELECT FROM pg_catalog.pg_auth_members AS granted
                    JOIN pg_catalog.pg_roles AS role ON role.oid = granted.roleid
                    JOIN pg_catalog.pg_roles AS member ON member.oid = granted.member
                    WHERE role.rolname = name AND member.rolname = current_user AND granted.set_option
                ) THEN
                    -- Taken on with SET ROLE only: without it the migrating user reads no tenant's rows.
                    EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', name, current_user);
                END IF;
                EXIT;
            EXCEPTION WHEN duplicate_object OR unique_violation OR internal_error THEN
                tries := tries + 1;
                IF tries >= 50 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.02);
            END;
        END LOOP;
    END LOOP;
END $$;

CREATE SCHEMA registry;
CREATE SCHEMA execution;
CREATE SCHEMA messaging;
CREATE SCHEMA memory;
CREATE SCHEMA identity;
CREATE SCHEMA heartbeat;
CREATE SCHEMA reconciler;

GRANT USAGE ON SCHEMA registry TO mesh_registry;
GRANT USAGE ON SCHEMA execution TO mesh_execution, mesh_execution_reader;
GRANT USAGE ON SCHEMA messaging TO mesh_messaging;
GRANT USAGE ON SCHEMA memory TO mesh_memory;
GRANT USAGE ON SCHEMA identity TO mesh_identity;
GRANT USAGE ON SCHEMA heartbeat TO mesh_heartbeat;
GRANT USAGE ON SCHEMA reconciler TO mesh_reconciler;

-- A service waits at its start until the schema it was built for is there; this table says so.
GRANT SELECT ON public._sqlx_migrations TO mesh_registry, mesh_execution, mesh_execution_reader, mesh_messaging,
    mesh_memory, mesh_identity, mesh_heartbeat, mesh_reconciler;
