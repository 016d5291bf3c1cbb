-- Remote workers: the key that signs what they are granted. One for all processes and all starts.

ALTER TABLE execution.installation
    ADD COLUMN grant_key bytea NOT NULL
        DEFAULT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));

-- Whoever only reads invocations does not sign.
REVOKE SELECT ON execution.installation FROM mesh_execution_reader;
GRANT SELECT (id, feed_id, shards) ON execution.installation TO mesh_execution_reader;
