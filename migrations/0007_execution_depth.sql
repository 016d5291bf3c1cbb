-- Durable execution in depth: lost workers, children, fork trees, mail, pruning.

-- Hand-overs, pauses and waits are claims too, but no losses.
ALTER TABLE execution.open ADD COLUMN losses integer NOT NULL DEFAULT 0;

-- Children of a parent, members of a fork tree: few rows of many have either.
CREATE INDEX invocation_parent ON execution.invocation (parent) WHERE parent IS NOT NULL;
CREATE INDEX invocation_fork ON execution.invocation (root) WHERE fork_of IS NOT NULL;

CREATE INDEX mail_shard ON execution.mail (shard, id);

-- What waits for a person, and fork trees, in lists.
ALTER TABLE execution.summary ADD COLUMN paused boolean NOT NULL DEFAULT false;
ALTER TABLE execution.summary ADD COLUMN fork_of uuid;
ALTER TABLE execution.summary ADD COLUMN fork_step integer;
CREATE INDEX summary_waiting ON execution.summary (tenant, invocation) WHERE state = 'waiting';

-- A requeued dead letter names the fork that goes on with its work.
ALTER TABLE execution.dead_letter ADD COLUMN requeued_as uuid;

-- Pruning takes whole fork trees.
GRANT DELETE ON execution.invocation, execution.record, execution.body, execution.ended, execution.dead_letter TO mesh_execution;
CREATE INDEX ended_at ON execution.ended USING brin (ended_at) WITH (autosummarize = on);
