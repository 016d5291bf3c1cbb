//! The text of the fenced statement. Every part looks at `fence`: a shard whose epoch or batch moved on returns no row
//! there, and nothing of it is written. Parameters stand in the order of the `bind_…` functions of `write`.
//!
//! The shards that stand are gathered into one array for each part: a join would read the part's rows once for each of
//! them. What most batches have none of (keys, claims of their own, bodies, dead ends) is left out of [`USUAL`], as even
//! an empty part opens its table and all of its indexes.

macro_rules! usual {
    () => {
        r"
WITH given AS (
    SELECT * FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::int8[], $5::bytea[])
        AS g(id, epoch, batch, relayed, feed)
), fence AS (
    UPDATE execution.shard s
    SET batch = s.batch + 1, relayed_batch = greatest(s.relayed_batch, g.relayed)
    FROM given g
    WHERE s.id = g.id AND s.epoch = g.epoch AND s.batch = g.batch
    RETURNING s.id, s.batch, g.feed
), feed AS (
    INSERT INTO execution.feed (shard, batch, entries, at)
    SELECT id, batch, feed, $6::timestamptz FROM fence
), invocation AS (
    INSERT INTO execution.invocation (id, tenant, shard, agent, version, artifact, entrypoint, session, key, priority,
        root, created_at, deadline_at, request_hash, reply_to, actor, input)
    SELECT r.id, r.tenant, r.shard, r.agent, r.version, r.artifact, r.entrypoint, r.session, r.key, r.priority,
        r.id, r.created_at, r.deadline_at, r.request_hash, r.reply_to, r.actor, r.input
    FROM unnest($7::int2[], $8::uuid[], $9::text[], $10::text[], $11::int4[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::int2[], $17::timestamptz[], $18::timestamptz[], $19::bytea[], $20::text[], $21::text[],
        $22::bytea[])
        AS r(shard, id, tenant, agent, version, artifact, entrypoint, session, key, priority, created_at, deadline_at,
            request_hash, reply_to, actor, input)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), opened AS (
    INSERT INTO execution.open (invocation, tenant, shard, state, epoch, node, incarnation, wake_at, priority,
        started_at)
    SELECT r.id, r.tenant, r.shard, r.state, r.epoch, r.node, r.incarnation, r.wake_at, r.priority, r.started_at
    FROM unnest($23::int2[], $24::uuid[], $25::text[], $26::text[], $27::int4[], $28::text[], $29::int8[],
        $30::timestamptz[], $31::int2[], $32::timestamptz[])
        AS r(shard, id, tenant, state, epoch, node, incarnation, wake_at, priority, started_at)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), closed AS (
    DELETE FROM execution.open o
    USING unnest($33::int2[], $34::uuid[]) AS r(shard, id)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND o.invocation = r.id
), record AS (
    INSERT INTO execution.record (invocation, seq, tenant, epoch, at, kind, step, attempt, class, input_hash, body,
        body_hash, input_tokens, output_tokens, cost_usd, started_at, ended_at)
    SELECT r.id, r.seq, r.tenant, r.epoch, r.at, r.kind, r.step, r.attempt, r.class, r.input_hash, r.body,
        r.body_hash, r.input_tokens, r.output_tokens, r.cost_usd, r.started_at, r.ended_at
    FROM unnest($35::int2[], $36::uuid[], $37::int4[], $38::text[], $39::int4[], $40::timestamptz[], $41::text[],
        $42::int4[], $43::int4[], $44::text[], $45::bytea[], $46::bytea[], $47::bytea[], $48::int8[], $49::int8[],
        $50::float8[], $51::timestamptz[], $52::timestamptz[])
        AS r(shard, id, seq, tenant, epoch, at, kind, step, attempt, class, input_hash, body, body_hash, input_tokens,
            output_tokens, cost_usd, started_at, ended_at)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
), ended AS (
    INSERT INTO execution.ended (invocation, tenant, outcome, reason, provider, epoch, seq, started_at, ended_at,
        input_tokens, output_tokens, cost_usd, output, error)
    SELECT r.id, r.tenant, r.outcome, r.reason, r.provider, r.epoch, r.seq, r.started_at, r.ended_at,
        r.input_tokens, r.output_tokens, r.cost_usd, r.output, r.error
    FROM unnest($53::int2[], $54::uuid[], $55::text[], $56::text[], $57::text[], $58::text[], $59::int4[],
        $60::int4[], $61::timestamptz[], $62::timestamptz[], $63::int8[], $64::int8[], $65::float8[], $66::bytea[],
        $67::bytea[], $68::text[])
        AS r(shard, id, tenant, outcome, reason, provider, epoch, seq, started_at, ended_at, input_tokens,
            output_tokens, cost_usd, output, error, key)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
)"
    };
}

macro_rules! seldom {
    () => {
        r", key AS (
    INSERT INTO execution.key (tenant, key, request_hash, invocation)
    SELECT r.tenant, r.key, r.request_hash, r.id
    FROM unnest($69::int2[], $70::text[], $71::text[], $72::bytea[], $73::uuid[])
        AS r(shard, tenant, key, request_hash, id)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
    ORDER BY r.tenant, r.key
), changed AS (
    UPDATE execution.open o
    SET state = r.state, epoch = r.epoch, node = r.node, incarnation = r.incarnation, wake_at = r.wake_at,
        started_at = r.started_at
    FROM unnest($74::int2[], $75::uuid[], $76::text[], $77::text[], $78::int4[], $79::text[], $80::int8[],
        $81::timestamptz[], $82::int2[], $83::timestamptz[])
        AS r(shard, id, tenant, state, epoch, node, incarnation, wake_at, priority, started_at)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND o.invocation = r.id
), body AS (
    INSERT INTO execution.body (root, hash, part, tenant, bytes)
    SELECT DISTINCT ON (r.root, r.hash, r.part) r.root, r.hash, r.part, r.tenant, r.bytes
    FROM unnest($84::int2[], $85::uuid[], $86::bytea[], $87::int4[], $88::text[], $89::bytea[])
        AS r(shard, root, hash, part, tenant, bytes)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
    ON CONFLICT DO NOTHING
), key_ended AS (
    UPDATE execution.key k SET ended_at = r.ended_at
    FROM unnest($53::int2[], $55::text[], $68::text[], $62::timestamptz[]) AS r(shard, tenant, key, ended_at)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence)) AND r.key IS NOT NULL AND k.tenant = r.tenant AND k.key = r.key
), dead AS (
    INSERT INTO execution.dead_letter (id, tenant, origin, reason, invocation, created_at)
    SELECT r.id, r.tenant, 'invocation', r.reason, r.invocation, r.created_at
    FROM unnest($90::int2[], $91::uuid[], $92::text[], $93::bytea[], $94::uuid[], $95::timestamptz[])
        AS r(shard, id, tenant, reason, invocation, created_at)
    WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))
)"
    };
}

macro_rules! end {
    () => {
        "\nSELECT id FROM fence"
    };
}

/// What ends each of them: the shards whose fence stood.
pub(super) const END: &str = end!();

/// For a batch of invocations that are accepted, go on and end.
pub(super) const USUAL: &str = concat!(usual!(), end!());
/// With what is seldom; `wide` adds what is seldom still.
pub(super) const NARROW: &str = concat!(usual!(), seldom!(), end!());

#[cfg(test)]
mod tests {
    use super::*;

    /// A parameter that is bound but not used, or the reverse, would only show at run time.
    #[test]
    fn every_parameter_is_used() {
        for (statement, count) in [(USUAL, 68), (NARROW, 95)] {
            for n in 1..=count {
                assert!(statement.contains(&format!("${n}::")), "${n}");
            }
            assert!(!statement.contains(&format!("${}", count + 1)));
            assert_eq!(statement.matches(END).count(), 1);
        }
    }

    #[test]
    fn every_part_looks_at_the_fence() {
        let parts = NARROW.matches(" AS (\n").count();
        // `given` is what the fence is of, `fence` itself, and `feed`, which reads it.
        assert_eq!(
            NARROW
                .matches("WHERE r.shard = ANY (ARRAY(SELECT id FROM fence))")
                .count(),
            parts - 3
        );
    }

    /// What `write::planted` takes out: a text that is not there would plant nothing.
    #[test]
    fn what_planted_bugs_change_is_there() {
        assert_eq!(USUAL.matches(" AND s.epoch = g.epoch AND s.batch = g.batch").count(), 1);
        assert_eq!(USUAL.matches("AND o.invocation = r.id\n), record AS").count(), 1);
        assert_eq!(NARROW.matches("ORDER BY r.tenant, r.key\n").count(), 1);
    }
}
