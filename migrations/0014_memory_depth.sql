-- Memories in depth: scopes, versions, expiry, duplicates, erasure; vectors of several models side by side; documents.

-- Who shares a memory, and what it became.
ALTER TABLE memory.memory
    ADD COLUMN session text,
    ADD COLUMN user_id text,
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN seen integer NOT NULL DEFAULT 1,
    ADD COLUMN superseded_by uuid,
    -- SHA-256 of the content in lower case with its spaces joined: the same said again is found by it.
    ADD COLUMN content_hash bytea,
    -- When a consolidation took it up; episodic ones without it wait for theirs.
    ADD COLUMN consolidated_at timestamptz,
    ADD CONSTRAINT memory_scope CHECK (scope IN ('tenant', 'agent', 'session', 'user')),
    ADD CONSTRAINT memory_session CHECK ((scope = 'session') <= (session IS NOT NULL)),
    ADD CONSTRAINT memory_user CHECK ((scope = 'user') <= (user_id IS NOT NULL));

-- The one key that a search goes by: a search names at most one owner of each scope.
ALTER TABLE memory.memory ADD COLUMN owner text NOT NULL GENERATED ALWAYS AS (
    CASE scope
        WHEN 'tenant' THEN 't'
        WHEN 'session' THEN 's:' || agent || ':' || session
        WHEN 'user' THEN 'u:' || user_id
        ELSE 'a:' || agent
    END
) STORED;
CREATE INDEX memory_of_owner ON memory.memory (tenant, owner, created_at);
CREATE INDEX memory_same ON memory.memory (tenant, owner, kind, content_hash);
CREATE INDEX memory_unconsolidated ON memory.memory (tenant, agent, created_at)
    WHERE kind = 'episodic' AND consolidated_at IS NULL AND superseded_by IS NULL;
CREATE INDEX memory_of_invocation ON memory.memory (tenant, source_invocation) WHERE source_invocation IS NOT NULL;

-- Vectors apart from the texts, one table and one graph for each number of dimensions; a model's name is beside each,
-- since vectors of two models cannot be compared. Stored plain: a row lies whole in its page, so an exact sort of one
-- owner reads few pages and no TOAST (halfvec(3072) is 6,152 bytes, a page holds one).
DO $$
DECLARE
    dims integer;
    item text;
BEGIN
    FOREACH dims IN ARRAY ARRAY[384, 768, 1024, 1536, 3072] LOOP
        FOREACH item IN ARRAY ARRAY['memory', 'chunk'] LOOP
            EXECUTE format('CREATE TABLE memory.%1$s_vector_%2$s (
                tenant text NOT NULL,
                item uuid NOT NULL,
                owner text NOT NULL,
                model text NOT NULL,
                embedding public.halfvec(%2$s) NOT NULL,
                CONSTRAINT %1$s_vector_%2$s_key PRIMARY KEY (tenant, item, model)
            )', item, dims);
            EXECUTE format('ALTER TABLE memory.%1$s_vector_%2$s ALTER COLUMN embedding SET STORAGE PLAIN', item, dims);
            EXECUTE format('CREATE INDEX %1$s_vector_%2$s_owner ON memory.%1$s_vector_%2$s (tenant, owner, model)',
                           item, dims);
            EXECUTE format('CREATE INDEX %1$s_vector_%2$s_near ON memory.%1$s_vector_%2$s
                            USING hnsw (embedding public.halfvec_cosine_ops)', item, dims);
        END LOOP;
        EXECUTE format('ALTER TABLE memory.memory_vector_%1$s ADD CONSTRAINT memory_vector_%1$s_memory
            FOREIGN KEY (tenant, item) REFERENCES memory.memory (tenant, id) ON DELETE CASCADE', dims);
    END LOOP;
END $$;

ALTER TABLE memory.memory NO FORCE ROW LEVEL SECURITY;
INSERT INTO memory.memory_vector_384 (tenant, item, owner, model, embedding)
    SELECT tenant, id, owner, embedding_model, embedding_384 FROM memory.memory WHERE embedding_384 IS NOT NULL;
ALTER TABLE memory.memory FORCE ROW LEVEL SECURITY;
DROP INDEX memory.memory_near;
DROP INDEX memory.memory_owner;
ALTER TABLE memory.memory DROP CONSTRAINT memory_embedding, DROP COLUMN embedding_384, DROP COLUMN embedding_model;

-- What a memory was before each change.
CREATE TABLE memory.revision (
    tenant text NOT NULL,
    memory uuid NOT NULL,
    version integer NOT NULL,
    content text NOT NULL,
    tags text[] NOT NULL,
    importance double precision NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    CONSTRAINT revision_key PRIMARY KEY (tenant, memory, version),
    CONSTRAINT revision_memory FOREIGN KEY (tenant, memory) REFERENCES memory.memory (tenant, id) ON DELETE CASCADE
);

-- An id that was acknowledged for content that was known already leads to the memory that holds it.
CREATE TABLE memory.alias (
    tenant text NOT NULL,
    id uuid NOT NULL,
    memory uuid NOT NULL,
    body_hash bytea NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT alias_key PRIMARY KEY (tenant, id),
    CONSTRAINT alias_memory FOREIGN KEY (tenant, memory) REFERENCES memory.memory (tenant, id) ON DELETE CASCADE
);
CREATE INDEX alias_of ON memory.alias (tenant, memory);

-- What was made of what: an erasure follows it.
CREATE TABLE memory.derived (
    tenant text NOT NULL,
    memory uuid NOT NULL,
    source uuid NOT NULL,
    CONSTRAINT derived_key PRIMARY KEY (tenant, memory, source),
    CONSTRAINT derived_memory FOREIGN KEY (tenant, memory) REFERENCES memory.memory (tenant, id) ON DELETE CASCADE
);
CREATE INDEX derived_of ON memory.derived (tenant, source);

-- Proofs of erasures; nothing of what was erased but a digest of ids.
CREATE TABLE memory.receipt (
    tenant text NOT NULL,
    id uuid NOT NULL,
    body_hash bytea NOT NULL,
    forgotten bigint NOT NULL,
    derived bigint NOT NULL,
    ids_sha256 text NOT NULL,
    at timestamptz NOT NULL,
    by text NOT NULL,
    CONSTRAINT receipt_key PRIMARY KEY (tenant, id)
);

-- Tenants that have memories or documents: what goes over all of them (another model's vectors, expiry,
-- consolidation) goes tenant by tenant.
CREATE TABLE memory.tenant (
    tenant text NOT NULL,
    -- Model that all of the tenant's texts have vectors of.
    embedded_with text,
    CONSTRAINT tenant_key PRIMARY KEY (tenant)
);

-- Those whose memories all wait for a vector, too.
ALTER TABLE memory.memory NO FORCE ROW LEVEL SECURITY;
INSERT INTO memory.tenant (tenant) SELECT DISTINCT tenant FROM memory.memory;
ALTER TABLE memory.memory FORCE ROW LEVEL SECURITY;

-- Documents. Their text is kept with the newest version; a version before leaves its number and hash.
CREATE TABLE memory.document (
    tenant text NOT NULL,
    id uuid NOT NULL,
    base text NOT NULL,
    name text NOT NULL,
    media_type text NOT NULL,
    url text,
    version integer NOT NULL,
    sha256 bytea NOT NULL,
    bytes bigint NOT NULL,
    body text NOT NULL,
    -- Chunks taken over from the version before.
    kept integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT document_key PRIMARY KEY (tenant, id),
    CONSTRAINT document_name UNIQUE (tenant, base, name)
);
CREATE TABLE memory.document_version (
    tenant text NOT NULL,
    document uuid NOT NULL,
    version integer NOT NULL,
    sha256 bytea NOT NULL,
    bytes bigint NOT NULL,
    at timestamptz NOT NULL,
    by text NOT NULL,
    CONSTRAINT document_version_key PRIMARY KEY (tenant, document, version),
    CONSTRAINT document_version_document FOREIGN KEY (tenant, document)
        REFERENCES memory.document (tenant, id) ON DELETE CASCADE
);
CREATE TABLE memory.chunk (
    tenant text NOT NULL,
    id uuid NOT NULL,
    document uuid NOT NULL,
    -- The base, as the owner of its vectors.
    owner text NOT NULL,
    number integer NOT NULL,
    headings text[] NOT NULL,
    -- Characters of the document's body.
    start_at integer NOT NULL,
    end_at integer NOT NULL,
    content text NOT NULL,
    -- SHA-256 of headings and content: a piece that stayed the same keeps its vectors.
    content_hash bytea NOT NULL,
    words tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('pg_catalog.simple'::regconfig, content)) STORED,
    CONSTRAINT chunk_key PRIMARY KEY (tenant, id),
    CONSTRAINT chunk_document FOREIGN KEY (tenant, document) REFERENCES memory.document (tenant, id) ON DELETE CASCADE
);
CREATE INDEX chunk_of ON memory.chunk (tenant, document, number);
CREATE INDEX chunk_owner ON memory.chunk (tenant, owner);
CREATE INDEX chunk_words ON memory.chunk USING gin (words);
DO $$
DECLARE dims integer;
BEGIN
    FOREACH dims IN ARRAY ARRAY[384, 768, 1024, 1536, 3072] LOOP
        EXECUTE format('ALTER TABLE memory.chunk_vector_%1$s ADD CONSTRAINT chunk_vector_%1$s_chunk
            FOREIGN KEY (tenant, item) REFERENCES memory.chunk (tenant, id) ON DELETE CASCADE', dims);
    END LOOP;
END $$;

-- The queue takes pieces of documents too.
ALTER TABLE memory.embed_queue DROP CONSTRAINT embed_queue_key;
ALTER TABLE memory.embed_queue ALTER COLUMN memory DROP NOT NULL, ADD COLUMN chunk uuid;
ALTER TABLE memory.embed_queue
    ADD CONSTRAINT embed_queue_memory_key UNIQUE (tenant, memory),
    ADD CONSTRAINT embed_queue_chunk_key UNIQUE (tenant, chunk),
    ADD CONSTRAINT embed_queue_one CHECK (num_nonnulls(memory, chunk) = 1),
    ADD CONSTRAINT embed_queue_chunk FOREIGN KEY (tenant, chunk) REFERENCES memory.chunk (tenant, id) ON DELETE CASCADE;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'revision', 'alias', 'derived', 'receipt', 'tenant', 'document', 'document_version', 'chunk',
        'memory_vector_384', 'memory_vector_768', 'memory_vector_1024', 'memory_vector_1536', 'memory_vector_3072',
        'chunk_vector_384', 'chunk_vector_768', 'chunk_vector_1024', 'chunk_vector_1536', 'chunk_vector_3072'
    ] LOOP
        EXECUTE format('ALTER TABLE memory.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE memory.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON memory.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON memory.%I TO mesh_memory', name);
    END LOOP;
END $$;
-- Names of tenants, for the loops that go over all of them; no content.
CREATE POLICY loops_read ON memory.tenant FOR SELECT TO mesh_memory USING (current_setting('mesh.tenant', true) = '*');
