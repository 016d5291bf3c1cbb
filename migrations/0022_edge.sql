-- What the edge keeps outside of the database (receivers of A2A pushes, in a bucket) is sealed with a key of this table:
-- who holds the bucket's files or its backup holds no secret of anybody's.
CREATE TABLE identity.edge_secret (
    purpose text NOT NULL,
    secret bytea NOT NULL CHECK (octet_length(secret) = 32),
    created_at timestamptz NOT NULL,
    CONSTRAINT edge_secret_key PRIMARY KEY (purpose)
);
ALTER TABLE identity.edge_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.edge_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON identity.edge_secret TO mesh_identity USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
GRANT SELECT, INSERT ON identity.edge_secret TO mesh_identity;

-- The record that a row of the list stands at, so that a reader can tell whether a push is older than the row.
ALTER TABLE execution.summary ADD COLUMN seq integer NOT NULL DEFAULT 0;
