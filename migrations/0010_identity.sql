-- Credentials, of which only SHA-256 hashes are kept, and the audit facts.
-- Row level security as in 0002. `*` stands for the service's own questions: whose credential is this, and its loops.

CREATE TABLE identity.api_key (
    id uuid NOT NULL,
    tenant text NOT NULL,
    owner text NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_key_key PRIMARY KEY (id)
);
CREATE INDEX api_key_of_tenant ON identity.api_key (tenant, id);

CREATE TABLE identity.join_token (
    id uuid NOT NULL,
    tenant text NOT NULL,
    owner text NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    uses integer NOT NULL DEFAULT 0 CHECK (uses >= 0),
    uses_max integer CHECK (uses_max >= 1),
    node_id text,
    CONSTRAINT join_token_key PRIMARY KEY (id),
    CONSTRAINT join_token_uses CHECK (uses_max IS NULL OR uses <= uses_max)
);
CREATE INDEX join_token_of_tenant ON identity.join_token (tenant, id);

-- Which nodes a token was used for: the same node again is no further use.
CREATE TABLE identity.join_use (
    tenant text NOT NULL,
    token uuid NOT NULL REFERENCES identity.join_token (id),
    node_id text NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT join_use_key PRIMARY KEY (token, node_id)
);

-- A node has one secret, in the one tenant that the registry knows it in.
CREATE TABLE identity.node_secret (
    node_id text NOT NULL,
    tenant text NOT NULL,
    owner text NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    issued_at timestamptz NOT NULL,
    issued_for text NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT node_secret_key PRIMARY KEY (node_id),
    CONSTRAINT node_secret_hash UNIQUE (hash)
);

-- Facts, committed with the change they tell of. `before` and `after` as text: never asked for by their content.
CREATE TABLE identity.audit (
    id uuid NOT NULL,
    tenant text NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'refused')),
    reason text NOT NULL,
    before text NOT NULL,
    after text NOT NULL,
    request_id text,
    CONSTRAINT audit_key PRIMARY KEY (id)
);
CREATE INDEX audit_of_tenant ON identity.audit (tenant, id);
CREATE INDEX audit_by_age ON identity.audit (at);

CREATE TABLE identity.event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX event_unpublished ON identity.event (position) WHERE published_at IS NULL;
CREATE INDEX event_published ON identity.event (published_at) WHERE published_at IS NOT NULL;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['api_key', 'join_token', 'join_use', 'node_secret', 'audit', 'event'] LOOP
        EXECUTE format('ALTER TABLE identity.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE identity.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON identity.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
    END LOOP;
END $$;
CREATE POLICY whose ON identity.api_key FOR SELECT TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY whose ON identity.join_token FOR SELECT TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY whose ON identity.node_secret FOR SELECT TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');
-- What the registry has forgotten, or knows in another tenant by now.
CREATE POLICY stale ON identity.node_secret FOR DELETE TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY prunes ON identity.audit FOR DELETE TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY pruned ON identity.audit FOR SELECT TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_reads ON identity.event FOR SELECT TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_marks ON identity.event FOR UPDATE TO mesh_identity USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_prunes ON identity.event FOR DELETE TO mesh_identity USING (current_setting('mesh.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE (revoked_at, last_used_at) ON identity.api_key TO mesh_identity;
GRANT SELECT, INSERT, UPDATE (revoked_at, uses) ON identity.join_token TO mesh_identity;
GRANT SELECT, INSERT, DELETE ON identity.join_use TO mesh_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.node_secret TO mesh_identity;
GRANT SELECT, INSERT, DELETE ON identity.audit TO mesh_identity;
GRANT SELECT, INSERT, UPDATE (published_at), DELETE ON identity.event TO mesh_identity;
