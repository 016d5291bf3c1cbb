-- Nodes: who they are, whom they serve. What is seen of them is heartbeat's. And of each version what the reconciler
-- asks every few seconds, beside the artifact, so that no pass reads all artifacts.

-- An id is one node's in the whole mesh: subjects, credentials and presence name it without a tenant.
-- `sharing`, `labels` are JSON as text; the arrays repeat of `sharing` what decides who sees the node.
CREATE TABLE registry.node (
    id text NOT NULL,
    tenant text NOT NULL REFERENCES registry.tenant (name),
    owner text NOT NULL,
    name text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('private', 'shared', 'sleep')),
    billable_account_uid text,
    billable_account_type text,
    billable_account_handle text,
    sharing text NOT NULL,
    sharing_tenants text[] NOT NULL,
    sharing_users text[] NOT NULL,
    labels text NOT NULL,
    capabilities text[] NOT NULL,
    slots integer NOT NULL CHECK (slots >= 0),
    drained boolean NOT NULL,
    -- Of the last report whose mode was taken; an older one changes nothing.
    mode_incarnation bigint NOT NULL CHECK (mode_incarnation >= 0),
    mode_seq bigint NOT NULL CHECK (mode_seq >= 0),
    registered_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT node_key PRIMARY KEY (id)
);
CREATE INDEX node_owner ON registry.node (tenant, owner, id);
-- Of every node that is shared, and of no other.
CREATE INDEX node_shared ON registry.node (tenant, id) WHERE mode = 'shared';
CREATE INDEX node_shared_abroad ON registry.node USING gin (sharing_tenants) WHERE mode = 'shared';

ALTER TABLE registry.node ENABLE ROW LEVEL SECURITY;
ALTER TABLE registry.node FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON registry.node USING (tenant = current_setting('mesh.tenant', true))
    WITH CHECK (tenant = current_setting('mesh.tenant', true));
-- A node that is shared with other tenants is read there, never changed.
CREATE POLICY shared ON registry.node FOR SELECT TO mesh_registry
    USING (mode = 'shared' AND current_setting('mesh.tenant', true) = ANY (sharing_tenants));
-- Reads of the service itself across tenants: the whole fleet, and whose node an id is.
CREATE POLICY fleet ON registry.node FOR SELECT TO mesh_registry USING (current_setting('mesh.tenant', true) = '*');
GRANT SELECT, INSERT, UPDATE, DELETE ON registry.node TO mesh_registry;

-- JSON of a placement with what nodes must offer for it; empty: none is declared. NULL: of a version from before this
-- column, whose artifact tells.
ALTER TABLE registry.version ADD COLUMN placed text;
