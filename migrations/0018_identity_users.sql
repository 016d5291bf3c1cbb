-- People: who they are, where they belong, how they sign in. Secrets are hashes (argon2id for passwords, SHA-256 for
-- what has 256 random bits); the signing key is the installation's, as `execution.installation.grant_key` is.
-- Row level security as in 0010. What belongs to no tenant is the service's own (`*`).

-- Of a key: what it may do. Those of before keep what they could.
ALTER TABLE identity.api_key
    ADD COLUMN role text NOT NULL DEFAULT 'developer'
        CONSTRAINT api_key_role CHECK (role IN ('viewer', 'service', 'operator', 'developer', 'owner')),
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{}';
ALTER TABLE identity.api_key NO FORCE ROW LEVEL SECURITY;
UPDATE identity.api_key SET role = 'owner' WHERE owner = 'admin';
ALTER TABLE identity.api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.api_key ALTER COLUMN role DROP DEFAULT;

-- `tenant` is the person's own, whose owners may change it; `password` is NULL for who signs in elsewhere only.
CREATE TABLE identity.person (
    id uuid NOT NULL,
    tenant text NOT NULL,
    login text NOT NULL CHECK (login = lower(login)),
    name text NOT NULL,
    password text CHECK (password LIKE '$argon2id$%'),
    disabled_at timestamptz,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT person_key PRIMARY KEY (id),
    CONSTRAINT person_login UNIQUE (login)
);

CREATE TABLE identity.membership (
    tenant text NOT NULL,
    person uuid NOT NULL REFERENCES identity.person (id) ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('viewer', 'service', 'operator', 'developer', 'owner')),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    last_sign_in_at timestamptz,
    CONSTRAINT membership_key PRIMARY KEY (tenant, person)
);
CREATE INDEX membership_of_person ON identity.membership (person);

-- One sign-in, with the family of its refresh tokens. `acts_in`: the tenant of the next access token. `generation`: the
-- newest one of which a token was used, and which token that was.
CREATE TABLE identity.session (
    id uuid NOT NULL,
    person uuid NOT NULL REFERENCES identity.person (id) ON DELETE CASCADE,
    acts_in text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    generation integer NOT NULL DEFAULT 0,
    used_hash bytea,
    used_at timestamptz,
    CONSTRAINT session_key PRIMARY KEY (id)
);
CREATE INDEX session_of_person ON identity.session (person);
CREATE INDEX session_by_end ON identity.session (expires_at);

CREATE TABLE identity.refresh_token (
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    session uuid NOT NULL REFERENCES identity.session (id) ON DELETE CASCADE,
    generation integer NOT NULL CHECK (generation >= 1),
    CONSTRAINT refresh_token_key PRIMARY KEY (hash)
);
CREATE INDEX refresh_token_of_session ON identity.refresh_token (session, generation);

-- Failed sign-ins of an account or an address, named by a hash: what a stranger typed is not kept.
CREATE TABLE identity.attempt (
    subject bytea NOT NULL CHECK (octet_length(subject) = 32),
    failed integer NOT NULL CHECK (failed >= 0),
    pending integer NOT NULL CHECK (pending >= 0),
    touched_at timestamptz NOT NULL,
    locked_until timestamptz,
    CONSTRAINT attempt_key PRIMARY KEY (subject)
);
CREATE INDEX attempt_by_age ON identity.attempt (touched_at);

-- `standing`: the session or key that it was made with; NULL in development mode.
CREATE TABLE identity.ticket (
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    acts_in text NOT NULL,
    standing text,
    expires_at timestamptz NOT NULL,
    CONSTRAINT ticket_key PRIMARY KEY (hash)
);
CREATE INDEX ticket_by_end ON identity.ticket (expires_at);

-- Ed25519 seeds of access tokens. A key signs until `signs_until` and is believed until `good_until`.
CREATE TABLE identity.signing_key (
    id text NOT NULL,
    seed bytea NOT NULL CHECK (octet_length(seed) = 32),
    created_at timestamptz NOT NULL,
    signs_until timestamptz NOT NULL,
    good_until timestamptz NOT NULL CHECK (good_until > signs_until),
    CONSTRAINT signing_key_key PRIMARY KEY (id)
);

-- Who somebody is at another provider, by the id there that never changes.
CREATE TABLE identity.external_login (
    provider text NOT NULL,
    subject text NOT NULL,
    person uuid NOT NULL REFERENCES identity.person (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    CONSTRAINT external_login_key PRIMARY KEY (provider, subject)
);
CREATE INDEX external_login_of_person ON identity.external_login (person);

-- A sign-in on its way to another provider and back; taken once.
CREATE TABLE identity.sign_in_state (
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    binding bytea NOT NULL CHECK (octet_length(binding) = 32),
    provider text NOT NULL,
    verifier text NOT NULL,
    nonce text NOT NULL,
    redirect_uri text NOT NULL,
    return_to text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT sign_in_state_key PRIMARY KEY (hash)
);
CREATE INDEX sign_in_state_by_end ON identity.sign_in_state (expires_at);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['person', 'membership'] LOOP
        EXECUTE format('ALTER TABLE identity.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE identity.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON identity.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
        EXECUTE format('CREATE POLICY whose ON identity.%I FOR SELECT TO mesh_identity '
                       'USING (current_setting(''mesh.tenant'', true) = ''*'')', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['session', 'refresh_token', 'attempt', 'ticket', 'signing_key', 'external_login',
                                'sign_in_state'] LOOP
        EXECUTE format('ALTER TABLE identity.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE identity.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own ON identity.%I TO mesh_identity '
                       'USING (current_setting(''mesh.tenant'', true) = ''*'') '
                       'WITH CHECK (current_setting(''mesh.tenant'', true) = ''*'')', name);
    END LOOP;
END $$;
-- A tenant sees its members, also those whose own tenant is another.
CREATE POLICY member ON identity.person FOR SELECT TO mesh_identity USING (EXISTS (
    SELECT FROM identity.membership AS m
    WHERE m.person = person.id AND m.tenant = current_setting('mesh.tenant', true)));

GRANT SELECT, INSERT, DELETE, UPDATE (name, password, disabled_at) ON identity.person TO mesh_identity;
GRANT SELECT, INSERT, DELETE, UPDATE (role, last_sign_in_at) ON identity.membership TO mesh_identity;
GRANT SELECT, INSERT, DELETE, UPDATE (acts_in, ended_at, generation, used_hash, used_at) ON identity.session
    TO mesh_identity;
GRANT SELECT, INSERT, DELETE ON identity.refresh_token TO mesh_identity;
GRANT SELECT, INSERT, DELETE, UPDATE (failed, pending, touched_at, locked_until) ON identity.attempt TO mesh_identity;
GRANT SELECT, INSERT, DELETE ON identity.ticket TO mesh_identity;
GRANT SELECT, INSERT, DELETE ON identity.signing_key TO mesh_identity;
GRANT SELECT, INSERT, DELETE ON identity.external_login TO mesh_identity;
GRANT SELECT, INSERT, DELETE ON identity.sign_in_state TO mesh_identity;
