-- Housekeeping of execution: keys go a week after their end, the feed after some days; and an older database that an
-- operator accepts starts a new feed.

-- Summarising, so that it keeps no update of a key from being HOT.
CREATE INDEX key_ended_at ON execution.key USING brin (ended_at) WITH (autosummarize = on);
GRANT DELETE ON execution.feed TO mesh_execution;
GRANT UPDATE (feed_id) ON execution.installation TO mesh_execution;
