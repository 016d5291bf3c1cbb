-- Which vectors of memories changed by which transaction: a service that keeps an owner's vectors in its memory asks
-- here whether they are still what they were (decision 7). Rows of the last minutes only.
CREATE TABLE memory.vector_change (
    tenant text NOT NULL,
    owner text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL,
    -- The memories; none: too many to name.
    items uuid[],
    -- Never a serial number: those of transactions that commit later may be smaller. Whether a snapshot saw a
    -- transaction is known of its xid.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX vector_change_of ON memory.vector_change (tenant, owner, xid);

-- Of which transactions changes may be missing: deleted ones are of `xid` or before. It holds for one run of one server
-- and one table (`store`): rows that were restored from elsewhere say nothing here.
CREATE TABLE memory.vector_horizon (
    tenant text NOT NULL,
    store text NOT NULL,
    xid xid8 NOT NULL DEFAULT '0',
    CONSTRAINT vector_horizon_key PRIMARY KEY (tenant)
);

-- What `vector_horizon.store` and kept vectors are of: xids and snapshots mean nothing to another run of the server, to
-- another database, or to tables that were made anew.
CREATE FUNCTION memory.vector_store() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN extract(epoch FROM pg_postmaster_start_time())::text || ' '
        || coalesce(pg_relation_filepath('memory.vector_change'::regclass), '');

-- After each statement, once for all rows of an owner. As whoever writes the vectors, under the same policy.
CREATE FUNCTION memory.vectors_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO memory.vector_change (tenant, owner, model, dimensions, items)
            SELECT c.tenant, c.owner, c.model, TG_ARGV[0]::integer,
                CASE WHEN count(*) <= 1000 THEN array_agg(c.item) END
            FROM after AS c GROUP BY c.tenant, c.owner, c.model;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO memory.vector_change (tenant, owner, model, dimensions, items)
            SELECT c.tenant, c.owner, c.model, TG_ARGV[0]::integer,
                CASE WHEN count(*) <= 1000 THEN array_agg(c.item) END
            FROM before AS c GROUP BY c.tenant, c.owner, c.model;
    ELSE
        INSERT INTO memory.vector_change (tenant, owner, model, dimensions, items)
            SELECT c.tenant, c.owner, c.model, TG_ARGV[0]::integer,
                CASE WHEN count(*) <= 1000 THEN array_agg(c.item) END
            FROM (
                SELECT b.tenant, b.owner, b.model, b.item FROM before AS b
                UNION SELECT a.tenant, a.owner, a.model, a.item FROM after AS a
            ) AS c GROUP BY c.tenant, c.owner, c.model;
    END IF;
    RETURN NULL;
END $$;

-- Always: also in sessions that replay what was written elsewhere.
DO $$
DECLARE dims integer;
BEGIN
    FOREACH dims IN ARRAY ARRAY[384, 768, 1024, 1536, 3072] LOOP
        EXECUTE format('CREATE TRIGGER vectors_inserted AFTER INSERT ON memory.memory_vector_%1$s
            REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION memory.vectors_changed(%1$s)', dims);
        EXECUTE format('CREATE TRIGGER vectors_updated AFTER UPDATE ON memory.memory_vector_%1$s
            REFERENCING OLD TABLE AS before NEW TABLE AS after
            FOR EACH STATEMENT EXECUTE FUNCTION memory.vectors_changed(%1$s)', dims);
        EXECUTE format('CREATE TRIGGER vectors_deleted AFTER DELETE ON memory.memory_vector_%1$s
            REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION memory.vectors_changed(%1$s)', dims);
        EXECUTE format('ALTER TABLE memory.memory_vector_%1$s ENABLE ALWAYS TRIGGER vectors_inserted,
            ENABLE ALWAYS TRIGGER vectors_updated, ENABLE ALWAYS TRIGGER vectors_deleted', dims);
    END LOOP;
END $$;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['vector_change', 'vector_horizon'] LOOP
        EXECUTE format('ALTER TABLE memory.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE memory.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON memory.%I USING (tenant = current_setting(''mesh.tenant'', true)) '
                       'WITH CHECK (tenant = current_setting(''mesh.tenant'', true))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON memory.%I TO mesh_memory', name);
        EXECUTE format('CREATE POLICY loops_read ON memory.%I FOR SELECT TO mesh_memory '
                       'USING (current_setting(''mesh.tenant'', true) = ''*'')', name);
    END LOOP;
END $$;
CREATE POLICY loops_prune ON memory.vector_change FOR DELETE TO mesh_memory
    USING (current_setting('mesh.tenant', true) = '*');
CREATE POLICY loops_begin ON memory.vector_horizon FOR INSERT TO mesh_memory
    WITH CHECK (current_setting('mesh.tenant', true) = '*');
CREATE POLICY loops_raise ON memory.vector_horizon FOR UPDATE TO mesh_memory
    USING (current_setting('mesh.tenant', true) = '*') WITH CHECK (current_setting('mesh.tenant', true) = '*');
REVOKE ALL ON FUNCTION memory.vector_store(), memory.vectors_changed() FROM public;
GRANT EXECUTE ON FUNCTION memory.vector_store(), memory.vectors_changed() TO mesh_memory;
