-- What ended since a time, of however many rows; a BRIN index leaves updates of the rows HOT (since PostgreSQL 16).
CREATE INDEX summary_ended ON execution.summary USING brin (ended_at) WITH (autosummarize = on, pages_per_range = 32);
