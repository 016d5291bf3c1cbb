-- Consolidations: which memories of an owner which invocation condenses. A row for each owner, of its newest one, since
-- at most one of them is under way; execution's journal holds all that have been. Ids only, no content.
CREATE TABLE memory.consolidation (
    tenant text NOT NULL,
    agent text NOT NULL,
    owner text NOT NULL,
    invocation uuid NOT NULL,
    memories uuid[] NOT NULL,
    started_by text NOT NULL,
    started_at timestamptz NOT NULL,
    -- Its end is not known yet.
    is_open boolean NOT NULL,
    -- Without a success between; the next one by itself starts no sooner than this.
    failures integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL,
    CONSTRAINT consolidation_key PRIMARY KEY (tenant, agent, owner)
);
CREATE UNIQUE INDEX consolidation_invocation ON memory.consolidation (tenant, invocation);
CREATE INDEX consolidation_open ON memory.consolidation (tenant, started_at) WHERE is_open;

ALTER TABLE memory.consolidation ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory.consolidation FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON memory.consolidation
    USING (tenant = current_setting('mesh.tenant', true)) WITH CHECK (tenant = current_setting('mesh.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON memory.consolidation TO mesh_memory;
