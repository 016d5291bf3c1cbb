-- Memories with their vectors, and what waits to be embedded. `mesh.tenant` as in 0002.

CREATE TABLE memory.memory (
    tenant text NOT NULL,
    id uuid NOT NULL,
    agent text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('episodic', 'semantic', 'procedural', 'working')),
    content text NOT NULL,
    tags text[] NOT NULL,
    importance double precision NOT NULL CHECK (importance BETWEEN 0 AND 1),
    source_invocation uuid,
    source_step bigint,
    -- JSON as text, never jsonb: it comes back as it came.
    metadata text NOT NULL,
    -- SHA-256 of the request that stored it: the same id with another body is refused.
    body_hash bytea NOT NULL,
    -- One column per number of dimensions, each of the model beside it: vectors of two models cannot be compared.
    embedding_384 public.halfvec(384),
    embedding_model text,
    words tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('pg_catalog.simple'::regconfig, content)) STORED,
    -- Who shares it; only the agent itself so far.
    scope text NOT NULL DEFAULT 'agent',
    -- Set for working memories once they expire.
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT memory_key PRIMARY KEY (tenant, id),
    CONSTRAINT memory_source CHECK ((source_invocation IS NULL) = (source_step IS NULL)),
    CONSTRAINT memory_embedding CHECK ((embedding_384 IS NULL) = (embedding_model IS NULL))
);
-- The owner's rows for an exact sort: recall 1 and quicker than a filtered graph for all but the largest owners.
CREATE INDEX memory_owner ON memory.memory (tenant, agent, created_at);
-- The graph for owners too large to sort.
CREATE INDEX memory_near ON memory.memory USING hnsw (embedding_384 public.halfvec_cosine_ops);
CREATE INDEX memory_words ON memory.memory USING gin (words);
CREATE INDEX memory_expiry ON memory.memory (expires_at) WHERE expires_at IS NOT NULL;

-- Memories acknowledged without a vector. The loop that embeds them sees this table of all tenants, and no content.
CREATE TABLE memory.embed_queue (
    tenant text NOT NULL,
    memory uuid NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL,
    error text,
    CONSTRAINT embed_queue_key PRIMARY KEY (tenant, memory),
    CONSTRAINT embed_queue_memory FOREIGN KEY (tenant, memory) REFERENCES memory.memory (tenant, id) ON DELETE CASCADE
);
CREATE INDEX embed_queue_next ON memory.embed_queue (next_at);

-- What was forgotten stays forgotten when its store is sent once more. Ids only.
CREATE TABLE memory.forgotten (
    tenant text NOT NULL,
    memory uuid NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT forgotten_key PRIMARY KEY (tenant, memory)
);

-- Facts, committed with the change they tell of, published to EVENTS afterwards.
CREATE TABLE memory.event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX event_unpublished ON memory.event (position) WHERE published_at IS NULL;
CREATE INDEX event_published ON memory.event (published_at) WHERE published_at IS NOT NULL;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['memory', 'embed_queue', 'forgotten', 'event'] LOOP
        EXECUTE format('ALTER TABLE memory.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE memory.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON memory.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
    END LOOP;
END $$;
CREATE POLICY relay_reads ON memory.event FOR SELECT TO mesh_memory USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_marks ON memory.event FOR UPDATE TO mesh_memory USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_prunes ON memory.event FOR DELETE TO mesh_memory USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY embedder_reads ON memory.embed_queue FOR SELECT TO mesh_memory USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY embedder_claims ON memory.embed_queue FOR UPDATE TO mesh_memory USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE, DELETE ON memory.memory, memory.embed_queue TO mesh_memory;
GRANT SELECT, INSERT ON memory.forgotten TO mesh_memory;
GRANT SELECT, INSERT, UPDATE (published_at), DELETE ON memory.event TO mesh_memory;
