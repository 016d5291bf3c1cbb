-- The life of memories: what expires when, what is being erased, and the ways by which both and lists are found.

-- Content known already came from here too; an erasure of that invocation erases the memory that holds it.
ALTER TABLE memory.alias ADD COLUMN source_invocation uuid;
CREATE INDEX alias_of_invocation ON memory.alias (tenant, source_invocation) WHERE source_invocation IS NOT NULL;

-- Lists, newest first, of a tenant and of an agent; filters of lists and erasures.
CREATE INDEX memory_newest ON memory.memory (tenant, created_at, id);
CREATE INDEX memory_of_agent ON memory.memory (tenant, agent, created_at, id);
CREATE INDEX memory_of_session ON memory.memory (tenant, session) WHERE session IS NOT NULL;
CREATE INDEX memory_of_user ON memory.memory (tenant, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX memory_replaced ON memory.memory (tenant, superseded_by) WHERE superseded_by IS NOT NULL;

-- Memories that are deleted at a time. The loop that does it sees this table of all tenants, and no content.
CREATE TABLE memory.expiry (
    tenant text NOT NULL,
    memory uuid NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT expiry_key PRIMARY KEY (tenant, memory),
    CONSTRAINT expiry_memory FOREIGN KEY (tenant, memory) REFERENCES memory.memory (tenant, id) ON DELETE CASCADE
);
CREATE INDEX expiry_at ON memory.expiry (at);
ALTER TABLE memory.memory NO FORCE ROW LEVEL SECURITY;
INSERT INTO memory.expiry (tenant, memory, at)
    SELECT tenant, id, expires_at FROM memory.memory WHERE expires_at IS NOT NULL;
ALTER TABLE memory.memory FORCE ROW LEVEL SECURITY;
DROP INDEX memory.memory_expiry;

-- Erasures under way, batch by batch; each ends as a receipt and leaves nothing here. What was asked for is not kept:
-- it may name a person.
CREATE TABLE memory.erasure (
    tenant text NOT NULL,
    id uuid NOT NULL,
    body_hash bytea NOT NULL,
    keep_derived boolean NOT NULL,
    at timestamptz NOT NULL,
    by text NOT NULL,
    CONSTRAINT erasure_key PRIMARY KEY (tenant, id)
);
CREATE TABLE memory.erasure_item (
    tenant text NOT NULL,
    erasure uuid NOT NULL,
    memory uuid NOT NULL,
    agent text NOT NULL,
    is_derived boolean NOT NULL,
    is_done boolean NOT NULL DEFAULT false,
    CONSTRAINT erasure_item_key PRIMARY KEY (tenant, erasure, memory),
    CONSTRAINT erasure_item_of FOREIGN KEY (tenant, erasure) REFERENCES memory.erasure (tenant, id) ON DELETE CASCADE
);
CREATE INDEX erasure_item_open ON memory.erasure_item (tenant, erasure, memory) WHERE NOT is_done;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['expiry', 'erasure', 'erasure_item'] LOOP
        EXECUTE format('ALTER TABLE memory.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE memory.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON memory.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON memory.%I TO mesh_memory', name);
    END LOOP;
END $$;
CREATE POLICY loops_read ON memory.expiry FOR SELECT TO mesh_memory USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY loops_read ON memory.erasure FOR SELECT TO mesh_memory USING (current_setting('mesh.tenant', true) = '*');
