-- The audit is one chain of hashes a tenant: each fact's hash covers the one before, so that a fact that was changed,
-- taken out or put in between shows. Facts come with their change and are chained right after it, in the order in which
-- they are found; what is pruned by age moves the chain's begin.

ALTER TABLE identity.audit ADD COLUMN seq bigint;
ALTER TABLE identity.audit ADD COLUMN hash bytea CHECK (octet_length(hash) = 32);
CREATE INDEX audit_unchained ON identity.audit (tenant, id) WHERE seq IS NULL;
CREATE UNIQUE INDEX audit_seq ON identity.audit (tenant, seq) WHERE seq IS NOT NULL;

CREATE TABLE identity.audit_chain (
    tenant text NOT NULL,
    -- The last chained fact.
    seq bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    -- The fact before the first one that is kept; 0 and zeros at first.
    base_seq bigint NOT NULL DEFAULT 0,
    base_hash bytea NOT NULL CHECK (octet_length(base_hash) = 32),
    CONSTRAINT audit_chain_key PRIMARY KEY (tenant)
);
ALTER TABLE identity.audit_chain ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.audit_chain FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.audit_chain USING (tenant = current_setting('mesh.tenant', true))
    WITH CHECK (tenant = current_setting('mesh.tenant', true));
GRANT SELECT, INSERT, UPDATE ON identity.audit_chain TO mesh_identity;
-- Nothing of a fact but its place in the chain is ever written again.
GRANT UPDATE (seq, hash) ON identity.audit TO mesh_identity;

-- What of execution stands in no journal: pauses, settled dead letters.
CREATE TABLE execution.event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX event_unpublished ON execution.event (position) WHERE published_at IS NULL;
CREATE INDEX event_published ON execution.event (published_at) WHERE published_at IS NOT NULL;
ALTER TABLE execution.event ENABLE ROW LEVEL SECURITY;
ALTER TABLE execution.event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON execution.event USING (tenant = current_setting('mesh.tenant', true))
    WITH CHECK (tenant = current_setting('mesh.tenant', true));
CREATE POLICY lanes ON execution.event TO mesh_execution USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (published_at), DELETE ON execution.event TO mesh_execution;

-- The chain reads and writes of all tenants, as the prune does (0010).
CREATE POLICY chains ON identity.audit FOR UPDATE TO mesh_identity USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
CREATE POLICY chain_all ON identity.audit_chain TO mesh_identity USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
-- Facts of other services come from EVENTS, many tenants in one statement.
CREATE POLICY of_others ON identity.audit FOR INSERT TO mesh_identity WITH CHECK (current_setting('mesh.tenant', true) = '*');
