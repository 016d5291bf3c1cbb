-- What is seen of nodes. A node's name is unique in the whole mesh and whose it is stands in `registry`, so these rows
-- carry no tenant; only the events do. `mesh.tenant` as in 0002.

-- The newest of each node. Written every second for whoever was heard: room in each page keeps these updates in it, and
-- no index stands on what they change.
CREATE TABLE heartbeat.node (
    node text NOT NULL,
    -- Its presence has not run out; `since` when that is so.
    alive boolean NOT NULL,
    since timestamptz NOT NULL,
    -- What the last event said. Where it differs from `alive`, an event is due.
    told_alive boolean NOT NULL DEFAULT false,
    -- What `registry` was told of the mode, or knew anyway. Where it differs from `mode`, `registry` is to be told.
    told_mode text,
    mode text,
    -- Order of heartbeats: a newer one is of a higher incarnation, or of the same and a higher seq. -1: none yet.
    incarnation bigint NOT NULL DEFAULT -1,
    seq bigint NOT NULL DEFAULT -1,
    -- Three of its intervals: silent for so long it is lost.
    ttl_ms bigint NOT NULL DEFAULT 60000,
    -- When the newest heartbeat was received, and its JSON.
    beat_at timestamptz,
    beat text,
    -- The same of the newest health report; the node's own clock orders these.
    health_at timestamptz,
    health_reported_at timestamptz,
    health text,
    health_count bigint NOT NULL DEFAULT 0,
    CONSTRAINT node_key PRIMARY KEY (node)
) WITH (fillfactor = 50);
CREATE INDEX node_untold ON heartbeat.node (node) WHERE told_alive <> alive;

-- The last reports of each node, in a ring of slots.
CREATE TABLE heartbeat.health_history (
    node text NOT NULL,
    slot smallint NOT NULL,
    at timestamptz NOT NULL,
    reported_at timestamptz NOT NULL,
    health text NOT NULL,
    CONSTRAINT health_history_key PRIMARY KEY (node, slot),
    CONSTRAINT health_history_node FOREIGN KEY (node) REFERENCES heartbeat.node (node) ON DELETE CASCADE
) WITH (fillfactor = 50);

-- Facts, committed with the change they tell of, published to EVENTS afterwards.
CREATE TABLE heartbeat.event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX event_unpublished ON heartbeat.event (position) WHERE published_at IS NULL;
CREATE INDEX event_published ON heartbeat.event (published_at) WHERE published_at IS NOT NULL;

ALTER TABLE heartbeat.event ENABLE ROW LEVEL SECURITY;
ALTER TABLE heartbeat.event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON heartbeat.event USING (tenant = current_setting('mesh.tenant', true))
    WITH CHECK (tenant = current_setting('mesh.tenant', true));
CREATE POLICY relay_reads ON heartbeat.event FOR SELECT TO mesh_heartbeat USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_marks ON heartbeat.event FOR UPDATE TO mesh_heartbeat USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_prunes ON heartbeat.event FOR DELETE TO mesh_heartbeat USING (current_setting('mesh.tenant', true) = '*');
-- One batch tells of nodes of many tenants.
CREATE POLICY batch_tells ON heartbeat.event FOR INSERT TO mesh_heartbeat WITH CHECK (current_setting('mesh.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE, DELETE ON heartbeat.node TO mesh_heartbeat;
GRANT SELECT, INSERT, UPDATE, DELETE ON heartbeat.health_history TO mesh_heartbeat;
GRANT SELECT, INSERT, UPDATE (published_at), DELETE ON heartbeat.event TO mesh_heartbeat;
