-- What waits for a person, found among however many that wait for a timer. The query says the same words.
CREATE INDEX summary_asks ON execution.summary (tenant, invocation)
    WHERE state = 'waiting' AND (waits_for LIKE '%"on":"approval"%' OR waits_for LIKE '%"on":"ambiguous"%');
