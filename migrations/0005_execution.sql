-- Durable execution (EXECUTION.md §2): the journal and what is read from it. No foreign keys, no triggers:
-- one fenced statement writes all of it, and a second lookup per row would be paid at every step.

CREATE TABLE execution.installation (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    -- A new one after a restore: cursors of the old feed answer with a reset.
    feed_id text NOT NULL DEFAULT gen_random_uuid()::text,
    shards smallint NOT NULL DEFAULT 16
);
INSERT INTO execution.installation DEFAULT VALUES;

-- Written once per batch; the low fill factor keeps every update on its page (HOT).
CREATE TABLE execution.shard (
    id smallint PRIMARY KEY,
    owner text NOT NULL DEFAULT '',
    epoch bigint NOT NULL DEFAULT 0,
    batch bigint NOT NULL DEFAULT 0,
    beat bigint NOT NULL DEFAULT 0,
    relayed_batch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
INSERT INTO execution.shard (id) SELECT generate_series(0, 15);

CREATE TABLE execution.invocation (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    shard smallint NOT NULL,
    agent text NOT NULL,
    version integer NOT NULL,
    artifact text NOT NULL,
    entrypoint text NOT NULL,
    session text,
    key text,
    priority smallint NOT NULL,
    parent uuid,
    parent_step integer,
    root uuid NOT NULL,
    fork_of uuid,
    fork_step integer,
    depth smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    deadline_at timestamptz,
    request_hash bytea NOT NULL,
    reply_to text,
    actor text NOT NULL,
    input bytea NOT NULL
);
CREATE INDEX invocation_tenant ON execution.invocation (tenant, id);

-- The only hot table. No second index, so that every update is HOT; found by shard with a scan, as it is small.
CREATE TABLE execution.open (
    invocation uuid PRIMARY KEY,
    tenant text NOT NULL,
    shard smallint NOT NULL,
    state text NOT NULL,
    epoch integer NOT NULL,
    node text,
    incarnation bigint,
    waits_for text,
    wake_at timestamptz,
    session_order bigint NOT NULL DEFAULT 0,
    priority smallint NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    cancel_requested boolean NOT NULL DEFAULT false,
    started_at timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE execution.record (
    invocation uuid NOT NULL,
    seq integer NOT NULL,
    tenant text NOT NULL,
    epoch integer NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    step integer,
    attempt integer,
    class text,
    input_hash bytea,
    -- JSON of the fact as bytes, never jsonb: one \u0000 would fail a whole batch.
    body bytea,
    -- Instead of `body` where it lies in `body` parts.
    body_hash bytea,
    input_tokens bigint,
    output_tokens bigint,
    cost_usd double precision,
    started_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (invocation, seq)
) PARTITION BY RANGE (invocation);
CREATE TABLE execution.record_default PARTITION OF execution.record DEFAULT;

CREATE TABLE execution.body (
    root uuid NOT NULL,
    hash bytea NOT NULL,
    part integer NOT NULL,
    tenant text NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (root, hash, part)
) PARTITION BY RANGE (root);
CREATE TABLE execution.body_default PARTITION OF execution.body DEFAULT;

-- Its key is "exactly one end".
CREATE TABLE execution.ended (
    invocation uuid PRIMARY KEY,
    tenant text NOT NULL,
    outcome text NOT NULL,
    reason text,
    provider text,
    epoch integer NOT NULL,
    seq integer NOT NULL,
    started_at timestamptz,
    ended_at timestamptz NOT NULL,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost_usd double precision NOT NULL DEFAULT 0,
    output bytea,
    error bytea
);

CREATE TABLE execution.key (
    tenant text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    invocation uuid NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (tenant, key)
);

CREATE TABLE execution.pause (
    tenant text NOT NULL,
    agent text NOT NULL,
    by text NOT NULL,
    reason text NOT NULL DEFAULT '',
    since timestamptz NOT NULL,
    PRIMARY KEY (tenant, agent)
);

CREATE TABLE execution.dead_letter (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    origin text NOT NULL,
    reason bytea NOT NULL,
    invocation uuid,
    subject text,
    message bytea,
    created_at timestamptz NOT NULL,
    settled text
);
CREATE INDEX dead_letter_tenant ON execution.dead_letter (tenant, id);

-- What each batch committed: 20 bytes an entry, the invocation's id and a seq, big-endian.
CREATE TABLE execution.feed (
    shard smallint NOT NULL,
    batch bigint NOT NULL,
    entries bytea NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (shard, batch)
);

-- The read model of lists; written by the relay after the commit, may lag, can be rebuilt from the rest.
CREATE TABLE execution.summary (
    invocation uuid PRIMARY KEY,
    tenant text NOT NULL,
    agent text NOT NULL,
    version integer NOT NULL,
    entrypoint text NOT NULL,
    session text,
    priority smallint NOT NULL,
    root uuid NOT NULL,
    parent uuid,
    state text NOT NULL,
    waits_for text,
    attempt integer NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost_usd double precision NOT NULL DEFAULT 0,
    provider text,
    short_text text NOT NULL DEFAULT '',
    error text,
    shard smallint NOT NULL,
    batch bigint NOT NULL,
    ordinal integer NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX summary_tenant ON execution.summary (tenant, invocation);

CREATE TABLE execution.mail (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    shard smallint NOT NULL,
    kind text NOT NULL,
    sender uuid NOT NULL,
    recipient uuid NOT NULL,
    body bytea NOT NULL
);

-- Weekly partitions of `record` and `body`, made ahead. Ids begin with 48 bits of milliseconds, so a week is a range.
CREATE FUNCTION execution.ensure_partitions(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    week timestamptz;
    low uuid;
    high uuid;
    parent text;
    child text;
    bound CONSTANT text := '%s-%s-0000-0000-000000000000';
    ms text;
BEGIN
    FOR i IN 0..1 LOOP
        week := date_trunc('week', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + make_interval(weeks => i);
        ms := lpad(to_hex((extract(epoch FROM week) * 1000)::bigint), 12, '0');
        low := format(bound, left(ms, 8), right(ms, 4))::uuid;
        ms := lpad(to_hex((extract(epoch FROM week + interval '1 week') * 1000)::bigint), 12, '0');
        high := format(bound, left(ms, 8), right(ms, 4))::uuid;
        FOREACH parent IN ARRAY ARRAY['record', 'body'] LOOP
            child := format('%s_%s', parent, to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW'));
            BEGIN
                EXECUTE format('CREATE TABLE IF NOT EXISTS execution.%I PARTITION OF execution.%I FOR VALUES FROM (%L) TO (%L)',
                    child, parent, low, high);
                -- Nobody reads a partition but through its parent, and its policies: deny the direct way.
                EXECUTE format('ALTER TABLE execution.%I ENABLE ROW LEVEL SECURITY', child);
                EXECUTE format('ALTER TABLE execution.%I FORCE ROW LEVEL SECURITY', child);
                IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'execution' AND tablename = child) THEN
                    EXECUTE format('CREATE POLICY tenant ON execution.%I USING (tenant = current_setting(''mesh.tenant'', true))', child);
                END IF;
            EXCEPTION WHEN check_violation THEN
                -- The default partition holds ids of that week already: they stay there, all remains readable.
                RAISE NOTICE 'partition % not made: its week has rows in the default partition', child;
            END;
        END LOOP;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION execution.ensure_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION execution.ensure_partitions TO mesh_execution;

-- Row level security: readers see their tenant; the lanes' role mixes tenants in a batch and may do what is listed here.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['invocation', 'open', 'record', 'record_default', 'body', 'body_default', 'ended', 'key',
                                'pause', 'dead_letter', 'summary', 'mail'] LOOP
        EXECUTE format('ALTER TABLE execution.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE execution.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON execution.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
        EXECUTE format('CREATE POLICY lanes ON execution.%I TO mesh_execution USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

GRANT SELECT ON execution.installation TO mesh_execution, mesh_execution_reader;
GRANT SELECT, UPDATE ON execution.shard TO mesh_execution;
GRANT SELECT ON execution.shard TO mesh_execution_reader;
GRANT SELECT, INSERT ON execution.invocation, execution.record, execution.body, execution.ended, execution.feed TO mesh_execution;
GRANT SELECT, INSERT, UPDATE, DELETE ON execution.open, execution.summary, execution.mail, execution.pause, execution.key TO mesh_execution;
GRANT SELECT, INSERT, UPDATE ON execution.dead_letter TO mesh_execution;
GRANT SELECT ON execution.invocation, execution.open, execution.record, execution.body, execution.ended, execution.key,
    execution.pause, execution.dead_letter, execution.summary TO mesh_execution_reader;

SELECT execution.ensure_partitions(now());
