//! The text of the fenced statement. Every part looks at `fence`: a shard whose epoch or batch moved on returns no row
//! there, and nothing of it is written. Each part takes one array of rows (`rows`, migration 0024): unnested side by
//! side, an array for each column made Postgres keep a store of its own for each.
//!
//! The shards that stand are gathered into one array for each part: a join would read the part's rows once for each of
//! them. What most batches have none of (keys, changes of open rows, bodies, dead ends, mail) is left out of [`USUAL`],
//! as even an empty part opens its table and all of its indexes.

macro_rules! usual {
    () => {
        r"
WITH given AS (
    SELECT * FROM unnest($1::execution.fence_row[])
), fence AS (
    UPDATE execution.shard s
    SET batch = s.batch + 1, relayed_batch = greatest(s.relayed_batch, g.relayed)
    FROM given g
    WHERE s.id = g.shard AND s.epoch = g.epoch AND s.batch = g.batch
    RETURNING s.id, s.batch, g.feed
), feed AS (
    INSERT INTO execution.feed (shard, batch, entries, at)
    SELECT id, batch, feed, $2::timestamptz FROM fence
), invocation AS (
    INSERT INTO execution.invocation (id, tenant, shard, agent, version, artifact, entrypoint, session, key, priority,
        parent, parent_step, root, fork_of, fork_step, depth, created_at, deadline_at, request_hash, reply_to, actor,
        input)
    SELECT r.id, r.tenant, r.shard, r.agent, r.version, r.artifact, r.entrypoint, r.session, r.key, r.priority,
        r.parent, r.parent_step, r.root, r.fork_of, r.fork_step, r.depth, r.created_at, r.deadline_at, r.request_hash,
        r.reply_to, r.actor, r.input
    FROM unnest($3::execution.invocation_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), opened AS (
    INSERT INTO execution.open (invocation, tenant, shard, state, epoch, node, incarnation, waits_for, wake_at,
        session_order, priority, paused, cancel_requested, losses, started_at)
    SELECT r.id, r.tenant, r.shard, r.state, r.epoch, r.node, r.incarnation, r.waits_for, r.wake_at, r.session_order,
        r.priority, r.paused, r.cancel_requested, r.losses, r.started_at
    FROM unnest($4::execution.open_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), closed AS (
    DELETE FROM execution.open o
    USING unnest($5::execution.gone_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND o.invocation = r.id
), record AS (
    INSERT INTO execution.record (invocation, seq, tenant, epoch, at, kind, step, attempt, class, input_hash, body,
        body_hash, input_tokens, output_tokens, cost_usd, started_at, ended_at)
    SELECT r.id, r.seq, r.tenant, r.epoch, r.at, r.kind, r.step, r.attempt, r.class, r.input_hash, r.body,
        r.body_hash, r.input_tokens, r.output_tokens, r.cost_usd, r.started_at, r.ended_at
    FROM unnest($6::execution.record_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), ended AS (
    INSERT INTO execution.ended (invocation, tenant, outcome, reason, provider, epoch, seq, started_at, ended_at,
        input_tokens, output_tokens, cost_usd, output, error)
    SELECT r.id, r.tenant, r.outcome, r.reason, r.provider, r.epoch, r.seq, r.started_at, r.ended_at,
        r.input_tokens, r.output_tokens, r.cost_usd, r.output, r.error
    FROM unnest($7::execution.ended_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
)"
    };
}

macro_rules! seldom {
    () => {
        r", key AS (
    INSERT INTO execution.key (tenant, key, request_hash, invocation)
    SELECT r.tenant, r.key, r.request_hash, r.id
    FROM unnest($8::execution.key_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
    ORDER BY r.tenant, r.key
), changed AS (
    UPDATE execution.open o
    SET state = r.state, epoch = r.epoch, node = r.node, incarnation = r.incarnation, waits_for = r.waits_for,
        wake_at = r.wake_at, session_order = r.session_order, paused = r.paused,
        cancel_requested = r.cancel_requested, losses = r.losses, started_at = r.started_at
    FROM unnest($9::execution.open_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND o.invocation = r.id
), body AS (
    INSERT INTO execution.body (root, hash, part, tenant, bytes)
    SELECT DISTINCT ON (r.root, r.hash, r.part) r.root, r.hash, r.part, r.tenant, r.bytes
    FROM unnest($10::execution.body_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
    ON CONFLICT DO NOTHING
), key_ended AS (
    UPDATE execution.key k SET ended_at = r.ended_at
    FROM unnest($7::execution.ended_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND r.key IS NOT NULL AND k.tenant = r.tenant AND k.key = r.key
), dead AS (
    INSERT INTO execution.dead_letter (id, tenant, origin, reason, invocation, created_at)
    SELECT r.id, r.tenant, 'invocation', r.reason, r.invocation, r.created_at
    FROM unnest($11::execution.dead_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), mail AS (
    INSERT INTO execution.mail (id, tenant, shard, kind, sender, recipient, body)
    SELECT r.id, r.tenant, r.recipient_shard, r.kind, r.sender, r.recipient, r.body
    FROM unnest($12::execution.mail_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
    ON CONFLICT DO NOTHING
), letter AS (
    DELETE FROM execution.mail m
    USING unnest($13::execution.gone_row[]) AS r
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND m.id = r.id
)"
    };
}

macro_rules! end {
    () => {
        "\nSELECT id FROM fence"
    };
}

/// For a batch of invocations that are accepted, go on and end.
pub(super) const USUAL: &str = concat!(usual!(), end!());
/// With all that a batch may have.
pub(super) const WHOLE: &str = concat!(usual!(), seldom!(), end!());

#[cfg(test)]
mod tests {
    use super::*;

    /// A parameter that is bound but not used, or the reverse, would only show at run time.
    #[test]
    fn every_parameter_is_used() {
        for (statement, count) in [(USUAL, 7), (WHOLE, 13)] {
            for n in 1..=count {
                assert!(statement.contains(&format!("${n}::")), "${n}");
            }
            assert!(!statement.contains(&format!("${}", count + 1)));
        }
    }

    #[test]
    fn every_part_looks_at_the_fence() {
        for statement in [USUAL, WHOLE] {
            let parts = statement.matches(" AS (\n").count();
            // `given` is what the fence is of, `fence` itself, and `feed`, which reads it.
            assert_eq!(
                statement
                    .matches("WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))")
                    .count(),
                parts - 3
            );
        }
    }

    /// What `write::planted` takes out: a text that is not there would plant nothing.
    #[test]
    fn what_planted_bugs_change_is_there() {
        assert_eq!(USUAL.matches(" AND s.epoch = g.epoch AND s.batch = g.batch").count(), 1);
        assert_eq!(USUAL.matches("AND o.invocation = r.id\n), record AS").count(), 1);
        assert_eq!(WHOLE.matches("ORDER BY r.tenant, r.key\n").count(), 1);
    }
}
