-- What Grafana reads: the course of an invocation, and nothing that anybody said. Grafana's viewers operate the
-- installation, so they see all tenants; inputs, outputs, texts, errors and actors are not granted, so that a
-- dashboard cannot leak what people told an agent. The role cannot log in until `mesh seed` gives it a password.

-- Roles belong to the cluster: see 0001 for the race.
DO $$
DECLARE
    tries integer := 0;
BEGIN
    LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'mesh_grafana') THEN
                CREATE ROLE mesh_grafana NOLOGIN NOINHERIT CONNECTION LIMIT 10;
                ALTER ROLE mesh_grafana SET default_transaction_read_only = on;
                ALTER ROLE mesh_grafana SET statement_timeout = '5s';
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
END $$;

CREATE SCHEMA grafana;
GRANT USAGE ON SCHEMA grafana, execution TO mesh_grafana;

GRANT SELECT (invocation, tenant, agent, version, entrypoint, root, parent, state, waits_for, attempt, created_at,
              started_at, ended_at, input_tokens, output_tokens, cost_usd, provider)
    ON execution.summary TO mesh_grafana;
GRANT SELECT (invocation, seq, tenant, epoch, at, kind, step, attempt, class, input_tokens, output_tokens, cost_usd,
              started_at, ended_at)
    ON execution.record TO mesh_grafana;
CREATE POLICY grafana ON execution.summary FOR SELECT TO mesh_grafana USING (true);
CREATE POLICY grafana ON execution.record FOR SELECT TO mesh_grafana USING (true);

-- `inv_01J9…` is a ULID in Crockford's base 32: 26 digits, of which the first holds three bits. NULL if it is none.
CREATE FUNCTION grafana.uuid_of(id text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN id ~ '^[a-z]{3}_[0-7][0-9A-HJKMNP-TV-Z]{25}$' THEN (
        SELECT string_agg(to_hex(substr(joined.bits, place, 4)::bit(4)::integer), '' ORDER BY place)::uuid
        FROM (
            SELECT right(string_agg((strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', digit) - 1)::bit(5)::text, '' ORDER BY place), 128)
            FROM regexp_split_to_table(right(id, 26), '') WITH ORDINALITY AS digits (digit, place)
        ) AS joined (bits), generate_series(1, 125, 4) AS place
    ) END
$$;

-- The way back.
CREATE FUNCTION grafana.id_of(prefix text, id uuid) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT prefix || string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', substr(joined.bits, place, 5)::bit(5)::integer + 1, 1), '' ORDER BY place)
    FROM (SELECT '00' || ('x' || replace(id::text, '-', ''))::bit(128)::text) AS joined (bits), generate_series(1, 126, 5) AS place
$$;

-- All three run as who asks, so that the grants above hold.
CREATE FUNCTION grafana.invocation(wanted text) RETURNS TABLE (
    id text, tenant text, agent text, version integer, entrypoint text, state text, waits_for text, attempt integer,
    created_at timestamptz, duration double precision, input_tokens bigint, output_tokens bigint,
    cost_usd double precision, provider text, parent text
) LANGUAGE sql STABLE AS $$
    SELECT grafana.id_of('inv_', found.invocation), found.tenant, found.agent, found.version, found.entrypoint, found.state,
           found.waits_for, found.attempt, found.created_at,
           extract(epoch FROM coalesce(found.ended_at, now()) - found.created_at)::double precision,
           found.input_tokens, found.output_tokens, found.cost_usd, found.provider, grafana.id_of('inv_', found.parent)
    FROM execution.summary AS found WHERE found.invocation = grafana.uuid_of(wanted)
$$;

CREATE FUNCTION grafana.steps(wanted text) RETURNS TABLE (
    seq integer, at timestamptz, kind text, step integer, attempt integer, class text, duration double precision,
    input_tokens bigint, output_tokens bigint, cost_usd double precision, epoch integer
) LANGUAGE sql STABLE AS $$
    SELECT found.seq, found.at, found.kind, found.step, found.attempt, found.class,
           extract(epoch FROM found.ended_at - found.started_at)::double precision,
           found.input_tokens, found.output_tokens, found.cost_usd, found.epoch
    FROM execution.record AS found WHERE found.invocation = grafana.uuid_of(wanted) ORDER BY found.seq LIMIT 5000
$$;

-- The newest in one of these states; in any where none is given. Looks back a bounded way, never through all of it.
CREATE FUNCTION grafana.latest(states text[]) RETURNS TABLE (
    created_at timestamptz, tenant text, agent text, state text, duration double precision, id text
) LANGUAGE sql STABLE AS $$
    SELECT recent.created_at, recent.tenant, recent.agent, recent.state,
           extract(epoch FROM coalesce(recent.ended_at, now()) - recent.created_at)::double precision,
           grafana.id_of('inv_', recent.invocation)
    FROM (
        SELECT newest.invocation, newest.created_at, newest.ended_at, newest.tenant, newest.agent, newest.state
        FROM execution.summary AS newest ORDER BY newest.invocation DESC LIMIT 10000
    ) AS recent
    WHERE states IS NULL OR recent.state = ANY (states)
    ORDER BY recent.invocation DESC LIMIT 20
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA grafana FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA grafana TO mesh_grafana;
