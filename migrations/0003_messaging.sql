-- Channels and their messages. Ids are their makers' and kept verbatim; `mesh.tenant` as in 0002.

CREATE TABLE messaging.channel (
    tenant text NOT NULL,
    id text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT channel_key PRIMARY KEY (tenant, id)
);

CREATE TABLE messaging.message (
    tenant text NOT NULL,
    channel text NOT NULL,
    id text NOT NULL,
    -- Order within the channel.
    position bigint GENERATED ALWAYS AS IDENTITY,
    author_kind text NOT NULL CHECK (author_kind IN ('user', 'agent', 'system')),
    author_id text NOT NULL,
    text text NOT NULL,
    -- JSON as text, never jsonb: it comes back as it came, and \u0000 inside a string is no error.
    content text,
    metadata text,
    -- Bytes of the message's JSON; a page of history is cut by it, before the rows are read.
    size integer NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT message_key PRIMARY KEY (tenant, channel, id),
    CONSTRAINT message_channel FOREIGN KEY (tenant, channel) REFERENCES messaging.channel (tenant, id)
);
CREATE INDEX message_order ON messaging.message (tenant, channel, position DESC) INCLUDE (size);

-- Facts, committed with the change they tell of, published to EVENTS afterwards.
CREATE TABLE messaging.event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX event_unpublished ON messaging.event (position) WHERE published_at IS NULL;
CREATE INDEX event_published ON messaging.event (published_at) WHERE published_at IS NOT NULL;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['channel', 'message', 'event'] LOOP
        EXECUTE format('ALTER TABLE messaging.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE messaging.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON messaging.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
    END LOOP;
END $$;
CREATE POLICY relay_reads ON messaging.event FOR SELECT TO mesh_messaging USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_marks ON messaging.event FOR UPDATE TO mesh_messaging USING (current_setting('mesh.tenant', true) = '*')
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
CREATE POLICY relay_prunes ON messaging.event FOR DELETE TO mesh_messaging USING (current_setting('mesh.tenant', true) = '*');

GRANT SELECT, INSERT ON messaging.channel, messaging.message TO mesh_messaging;
GRANT SELECT, INSERT, UPDATE (published_at), DELETE ON messaging.event TO mesh_messaging;
