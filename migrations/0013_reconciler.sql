-- What the reconciler holds: who leads, what is assigned where, what it remembers of nodes and agents, and its passes.
-- `mesh.tenant` as in 0002; its loop works on all tenants at once, as '*'.

-- One row. Whoever raised the epoch last leads; every commit of the loop checks it.
CREATE TABLE reconciler.leader (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    epoch bigint NOT NULL DEFAULT 0,
    -- The process; empty: nobody.
    holder text NOT NULL DEFAULT '',
    -- Grows while it lives.
    beat bigint NOT NULL DEFAULT 0,
    since timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);
INSERT INTO reconciler.leader DEFAULT VALUES;

-- JSON as text in all of these: read whole, by the one program that wrote it.
CREATE TABLE reconciler.replica (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    node text NOT NULL,
    body text NOT NULL
);
CREATE INDEX replica_node ON reconciler.replica (node);
CREATE INDEX replica_tenant ON reconciler.replica (tenant);

CREATE TABLE reconciler.node (
    id text PRIMARY KEY,
    -- Of its assignment, and of the reconciler that wrote it.
    generation bigint NOT NULL,
    epoch bigint NOT NULL,
    body text NOT NULL
);

CREATE TABLE reconciler.agent (
    tenant text NOT NULL,
    agent text NOT NULL,
    body text NOT NULL,
    CONSTRAINT agent_key PRIMARY KEY (tenant, agent)
);

-- Passes of all tenants together; whoever asks is shown the actions of his own.
CREATE TABLE reconciler.pass (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    body text NOT NULL
);
CREATE INDEX pass_at ON reconciler.pass (at);

CREATE TABLE reconciler.service (
    name text PRIMARY KEY,
    instances integer NOT NULL,
    -- Probes in a row without an answer.
    silent integer NOT NULL,
    degraded boolean NOT NULL,
    since timestamptz NOT NULL
);

-- Facts, committed with the change they tell of, published to EVENTS afterwards.
CREATE TABLE reconciler.event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX event_unpublished ON reconciler.event (position) WHERE published_at IS NULL;
CREATE INDEX event_published ON reconciler.event (published_at) WHERE published_at IS NOT NULL;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['replica', 'agent', 'event'] LOOP
        EXECUTE format('ALTER TABLE reconciler.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE reconciler.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON reconciler.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
        EXECUTE format('CREATE POLICY loop ON reconciler.%I TO mesh_reconciler '
                       'USING (current_setting(''mesh.tenant'', true) = ''*'') '
                       'WITH CHECK (current_setting(''mesh.tenant'', true) = ''*'')', name);
    END LOOP;
END $$;

GRANT SELECT, UPDATE ON reconciler.leader TO mesh_reconciler;
GRANT SELECT, INSERT, UPDATE, DELETE ON reconciler.replica, reconciler.node, reconciler.agent, reconciler.pass,
    reconciler.service TO mesh_reconciler;
GRANT SELECT, INSERT, UPDATE (published_at), DELETE ON reconciler.event TO mesh_reconciler;
