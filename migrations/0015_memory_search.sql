-- Searches of memories and of pieces of documents: functions, so that a search is one round trip with plans that are
-- kept. Each says itself whose rows it reads (`mesh.tenant`); row level security holds it to it.

-- Words are searched by their English stems, without English stop words. A word that is not English is lowered and
-- kept as it is, so one column serves every language that puts blanks between words; the exact words of before found
-- less, and two columns would be written for each memory.
ALTER TABLE memory.memory DROP COLUMN words;
ALTER TABLE memory.memory ADD COLUMN words tsvector NOT NULL
    GENERATED ALWAYS AS (to_tsvector('pg_catalog.english'::regconfig, content)) STORED;
CREATE INDEX memory_words ON memory.memory USING gin (words);

-- A piece is found by its headings, too.
CREATE FUNCTION memory.joined(parts text[]) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN array_to_string(parts, ' ');
ALTER TABLE memory.chunk DROP COLUMN words;
ALTER TABLE memory.chunk ADD COLUMN words tsvector NOT NULL GENERATED ALWAYS AS (
    to_tsvector('pg_catalog.english'::regconfig, memory.joined(headings) || ' ' || content)) STORED;
CREATE INDEX chunk_words ON memory.chunk USING gin (words);

-- One stem as a query.
CREATE FUNCTION memory.stem_query(stem text) RETURNS tsquery LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ('''' || replace(replace(stem, '\', '\\'), '''', '''''') || '''')::tsquery;

-- Ids of the owners' memories that match, at most so many. As its definer, since the planner uses an index on words
-- only where no policy has to be asked first (`@@` is not leakproof); so this one names the tenant itself, and gives
-- nothing but ids, which are read under the policy. Planned for each call: how common a word is decides how.
CREATE FUNCTION memory.matching_memory(
    owners text[], query tsquery, wanted integer, kind text, tags text[], importance_min double precision,
    since timestamptz, until timestamptz, invocation uuid, superseded boolean, now timestamptz
) RETURNS uuid[] LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN ARRAY(
        SELECT m.id FROM memory.memory AS m
        WHERE m.tenant = current_setting('mesh.tenant') AND m.owner = ANY ($1) AND m.words @@ $2
            AND ($4 IS NULL OR m.kind = $4) AND m.tags @> $5 AND ($6 IS NULL OR m.importance >= $6)
            AND ($7 IS NULL OR m.created_at >= $7) AND ($8 IS NULL OR m.created_at < $8)
            AND ($9 IS NULL OR m.source_invocation = $9) AND ($10 OR m.superseded_by IS NULL)
            AND (m.expires_at IS NULL OR m.expires_at > $11)
        LIMIT $3
    );
END $$;

CREATE FUNCTION memory.matching_chunk(owners text[], query tsquery, wanted integer)
RETURNS uuid[] LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN ARRAY(
        SELECT c.id FROM memory.chunk AS c
        WHERE c.tenant = current_setting('mesh.tenant') AND c.owner = ANY ($1) AND c.words @@ $2
        LIMIT $3
    );
END $$;

-- The stems of a question, at most 32, each with its weight and with at most `wanted` items that hold it. `population`
-- is how many items the owners have. The weight is the inverse document frequency of BM25 (Robertson, Zaragoza, "The
-- Probabilistic Relevance Framework: BM25 and Beyond", 2009); it is absent where nothing holds the stem, and a stem of
-- `wanted` items counts as one that half of all have. Where there is one of these, a last row without a stem has the
-- items that hold all stems which anything holds: the cut must not lose them.
DO $$
DECLARE
    item text;
    declared text;
    passed text;
BEGIN
    FOREACH item IN ARRAY ARRAY['memory', 'chunk'] LOOP
        declared := CASE item WHEN 'memory' THEN
            ', kind text, tags text[], importance_min double precision, since timestamptz, until timestamptz,
            invocation uuid, superseded boolean, now timestamptz' ELSE '' END;
        passed := CASE item WHEN 'memory' THEN ', $6, $7, $8, $9, $10, $11, $12, $13' ELSE '' END;
        EXECUTE format($create$
            CREATE FUNCTION memory.asked_%1$s(
                tenant text, owners text[], question text, wanted integer, population bigint%2$s
            ) RETURNS TABLE (stem text, weight double precision, items uuid[]) LANGUAGE plpgsql ROWS 8 AS $body$
            DECLARE
                held double precision;
                is_cut boolean := false;
                known tsquery;
            BEGIN
                PERFORM set_config('mesh.tenant', $1, true);
                FOR stem IN
                    SELECT u.lexeme FROM unnest(to_tsvector('pg_catalog.english', $3)) AS u
                    ORDER BY u.positions[1] LIMIT 32
                LOOP
                    items := memory.matching_%1$s($2, memory.stem_query(stem), $4%3$s);
                    held := cardinality(items);
                    weight := NULL;
                    IF held > 0 THEN
                        known := coalesce(known && memory.stem_query(stem), memory.stem_query(stem));
                        IF held >= $4 THEN
                            is_cut := true;
                            held := greatest(held, $5 / 2.0);
                        END IF;
                        weight := ln(1 + (greatest($5, held) - held + 0.5) / (held + 0.5));
                    END IF;
                    RETURN NEXT;
                END LOOP;
                IF is_cut AND numnode(known) > 1 THEN
                    stem := NULL;
                    weight := NULL;
                    items := memory.matching_%1$s($2, known, $4%3$s);
                    RETURN NEXT;
                END IF;
            END $body$
        $create$, item, declared, passed);
    END LOOP;
END $$;

-- The items nearest to a vector by cosine distance, in no order. `by` says how: `view` takes what one look at the graph
-- has in view, `graph` scans the graph until enough are found (which keeps account of all that it passes, and so is
-- dearer from the start), `exact` sorts all vectors of the owners. The planner takes the wrong one of them; so it is told, the
-- first by forbidding sorts, the second by an expression that the graph does not know. With `filtered`, only what the
-- filters let through counts; without it whoever asks looks at the found ones.
DO $$
DECLARE
    dims integer;
    item text;
    declared text;
    filters text;
    statement text;
    by_graph text;
    by_sort text;
BEGIN
    FOREACH dims IN ARRAY ARRAY[384, 768, 1024, 1536, 3072] LOOP
        FOREACH item IN ARRAY ARRAY['memory', 'chunk'] LOOP
            declared := CASE item WHEN 'memory' THEN
                ', filtered boolean, kind text, tags text[], importance_min double precision, since timestamptz,
                until timestamptz, invocation uuid, superseded boolean, now timestamptz' ELSE '' END;
            filters := format(' JOIN memory.%1$s AS m ON m.tenant = v.tenant AND m.id = v.item
                AND ($9 IS NULL OR m.kind = $9) AND m.tags @> $10 AND ($11 IS NULL OR m.importance >= $11)
                AND ($12 IS NULL OR m.created_at >= $12) AND ($13 IS NULL OR m.created_at < $13)
                AND ($14 IS NULL OR m.source_invocation = $14) AND ($15 OR m.superseded_by IS NULL)
                AND (m.expires_at IS NULL OR m.expires_at > $16)', item);
            statement := format('RETURN QUERY SELECT v.item, v.embedding OPERATOR(public.<=>) $4
                FROM memory.%1$s_vector_%2$s AS v%%1$s
                WHERE v.tenant = $1 AND v.owner = ANY ($2) AND v.model = $3
                ORDER BY %%2$s LIMIT $7;', item, dims);
            by_graph := 'v.embedding OPERATOR(public.<=>) $4';
            by_sort := '(v.embedding OPERATOR(public.<=>) $4) + 0';
            EXECUTE format('CREATE FUNCTION memory.near_%1$s_%2$s(
                    tenant text, owners text[], model text, asked public.halfvec(%2$s), by text, ef_search integer,
                    wanted integer%3$s
                ) RETURNS TABLE (item uuid, distance double precision) LANGUAGE plpgsql ROWS 50 AS $body$
                BEGIN
                    PERFORM set_config(''mesh.tenant'', $1, true);
                    IF $5 <> ''exact'' THEN
                        PERFORM set_config(''enable_sort'', ''off'', true),
                            set_config(''hnsw.iterative_scan'',
                                CASE $5 WHEN ''graph'' THEN ''relaxed_order'' ELSE ''off'' END, true),
                            set_config(''hnsw.ef_search'', $6::text, true);
                        %4$s
                    ELSE
                        %5$s
                    END IF;
                END $body$',
                item, dims, declared,
                CASE item WHEN 'memory' THEN 'IF $8 THEN ' || format(statement, filters, by_graph) || ' ELSE '
                    || format(statement, '', by_graph) || ' END IF;' ELSE format(statement, '', by_graph) END,
                CASE item WHEN 'memory' THEN 'IF $8 THEN ' || format(statement, filters, by_sort) || ' ELSE '
                    || format(statement, '', by_sort) || ' END IF;' ELSE format(statement, '', by_sort) END);
        END LOOP;
    END LOOP;
END $$;

DO $$
DECLARE name regprocedure;
BEGIN
    FOR name IN SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace = 'memory'::regnamespace
            AND (p.proname LIKE 'matching\_%' OR p.proname LIKE 'asked\_%' OR p.proname LIKE 'near\_%')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM public', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO mesh_memory', name);
    END LOOP;
END $$;
