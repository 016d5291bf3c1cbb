-- The rows of the fenced statement, as it is given them: one array of rows for each part. An array for each column would
-- make Postgres keep a store of its own for each, dozens a batch.
-- A process that runs the statement names these types: a column more is a new type, and the old one stays for a release.
CREATE TYPE execution.fence_row AS (
    shard smallint, epoch bigint, batch bigint, relayed bigint, feed bytea
);
CREATE TYPE execution.invocation_row AS (
    shard smallint, id uuid, tenant text, agent text, version integer, artifact text, entrypoint text, session text,
    key text, priority smallint, parent uuid, parent_step integer, root uuid, fork_of uuid, fork_step integer,
    depth smallint, created_at timestamptz, deadline_at timestamptz, request_hash bytea, reply_to text, actor text,
    input bytea
);
CREATE TYPE execution.open_row AS (
    shard smallint, id uuid, tenant text, state text, epoch integer, node text, incarnation bigint, waits_for text,
    wake_at timestamptz, session_order bigint, priority smallint, paused boolean, cancel_requested boolean,
    losses integer, started_at timestamptz
);
-- An open row that goes, a letter that was read.
CREATE TYPE execution.gone_row AS (shard smallint, id uuid);
CREATE TYPE execution.record_row AS (
    shard smallint, id uuid, seq integer, tenant text, epoch integer, at timestamptz, kind text, step integer,
    attempt integer, class text, input_hash bytea, body bytea, body_hash bytea, input_tokens bigint,
    output_tokens bigint, cost_usd double precision, started_at timestamptz, ended_at timestamptz
);
CREATE TYPE execution.ended_row AS (
    shard smallint, id uuid, tenant text, outcome text, reason text, provider text, epoch integer, seq integer,
    started_at timestamptz, ended_at timestamptz, input_tokens bigint, output_tokens bigint,
    cost_usd double precision, output bytea, error bytea, key text
);
CREATE TYPE execution.key_row AS (shard smallint, tenant text, key text, request_hash bytea, id uuid);
CREATE TYPE execution.body_row AS (shard smallint, root uuid, hash bytea, part integer, tenant text, bytes bytea);
CREATE TYPE execution.dead_row AS (
    shard smallint, id uuid, tenant text, reason bytea, invocation uuid, created_at timestamptz
);
CREATE TYPE execution.mail_row AS (
    shard smallint, id uuid, tenant text, recipient_shard smallint, kind text, sender uuid, recipient uuid, body bytea
);
-- Of the read model, which is written by a statement of its own.
CREATE TYPE execution.summary_row AS (
    id uuid, tenant text, agent text, version integer, entrypoint text, session text, priority smallint, state text,
    attempt integer, created_at timestamptz, started_at timestamptz, ended_at timestamptz, input_tokens bigint,
    output_tokens bigint, cost_usd double precision, provider text, short_text text, error text, shard smallint,
    batch bigint, ordinal integer, root uuid, parent uuid, fork_of uuid, fork_step integer, waits_for text,
    paused boolean, seq integer
);
