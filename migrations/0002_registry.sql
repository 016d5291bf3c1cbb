-- Desired state: tenants, agents, immutable versions and their artifacts.
-- Row level security: a transaction says its tenant in `mesh.tenant`. `*` is no tenant's name; it stands for the
-- service's own loops (relay, pointers), which read across tenants and write no tenant's rows.

CREATE TABLE registry.tenant (
    name text PRIMARY KEY,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);

-- The declared object as text, never jsonb: it comes back as it was taken, and \u0000 inside a string is no error.
CREATE TABLE registry.agent (
    tenant text NOT NULL REFERENCES registry.tenant (name),
    name text NOT NULL,
    declared text NOT NULL,
    spec_hash bytea NOT NULL CHECK (octet_length(spec_hash) = 32),
    generation bigint NOT NULL CHECK (generation >= 1),
    published_version integer,
    published_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT agent_key PRIMARY KEY (tenant, name),
    CHECK ((published_version IS NULL) = (published_at IS NULL))
);

-- Content-addressed within a tenant; never changed, never pruned: an old invocation may name it.
CREATE TABLE registry.artifact (
    tenant text NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    bytes bytea NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT artifact_key PRIMARY KEY (tenant, hash)
);

-- No reference to `agent`: versions outlive it, and their numbers go on when it is declared again.
CREATE TABLE registry.version (
    tenant text NOT NULL,
    agent text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT version_key PRIMARY KEY (tenant, agent, version),
    CONSTRAINT version_content UNIQUE (tenant, agent, hash),
    CONSTRAINT version_artifact FOREIGN KEY (tenant, hash) REFERENCES registry.artifact (tenant, hash)
);
ALTER TABLE registry.agent ADD CONSTRAINT agent_published
    FOREIGN KEY (tenant, name, published_version) REFERENCES registry.version (tenant, agent, version);

-- Facts, committed with the change they tell of, published to EVENTS afterwards.
CREATE TABLE registry.event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX event_unpublished ON registry.event (position) WHERE published_at IS NULL;
CREATE INDEX event_published ON registry.event (published_at) WHERE published_at IS NOT NULL;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['agent', 'artifact', 'version', 'event'] LOOP
        EXECUTE format('ALTER TABLE registry.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE registry.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON registry.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
    END LOOP;
END $$;
CREATE POLICY pointers ON registry.agent FOR SELECT TO mesh_registry USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY pointers ON registry.version FOR SELECT TO mesh_registry USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_reads ON registry.event FOR SELECT TO mesh_registry USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_marks ON registry.event FOR UPDATE TO mesh_registry USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_prunes ON registry.event FOR DELETE TO mesh_registry USING (current_setting('mesh.tenant', true) = '*');

GRANT SELECT, INSERT ON registry.tenant, registry.artifact, registry.version TO mesh_registry;
GRANT SELECT, INSERT, UPDATE, DELETE ON registry.agent TO mesh_registry;
GRANT SELECT, INSERT, UPDATE (published_at), DELETE ON registry.event TO mesh_registry;
