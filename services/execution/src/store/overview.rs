//! Counts of a tenant for the front page: from the read model what ended, from the open invocations what runs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mesh_api::overview::{AgentOverview, AttentionCounts, EndedCounts, OpenCounts, OverviewPart};
use mesh_types::{AgentName, Timestamp};
use sqlx::{FromRow, PgConnection};

/// Agents that are told.
const AGENTS_MAX: usize = 200;

/// `open` is small, whatever ended; the summary's row names the agent.
const OPEN: &str = "
SELECT s.agent, o.state, count(*) AS count
FROM execution.open o JOIN execution.summary s ON s.invocation = o.invocation
WHERE o.tenant = current_setting('mesh.tenant', true)
GROUP BY s.agent, o.state";

/// Parts are counted from `$1`, `$2` seconds each.
const ENDED: &str = "
SELECT floor(extract(epoch FROM ended_at - $1) / $2)::int8 AS part, agent, state, count(*) AS count,
    sum(cost_usd) AS cost_usd
FROM execution.summary
WHERE tenant = current_setting('mesh.tenant', true) AND ended_at >= $1
GROUP BY 1, 2, 3";

const LATENCIES: &str = "
SELECT agent,
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - created_at)::float8 * 1000)
        AS ms
FROM execution.summary
WHERE tenant = current_setting('mesh.tenant', true) AND ended_at >= $1 AND state = 'completed'
GROUP BY agent";

/// The conditions of the first two are those of the index `summary_asks`.
const ATTENTION: &str = r#"
SELECT
    (SELECT count(*) FROM execution.summary WHERE tenant = current_setting('mesh.tenant', true) AND state = 'waiting'
        AND (waits_for LIKE '%"on":"approval"%' OR waits_for LIKE '%"on":"ambiguous"%')
        AND waits_for LIKE '%"on":"approval"%') AS approvals,
    (SELECT count(*) FROM execution.summary WHERE tenant = current_setting('mesh.tenant', true) AND state = 'waiting'
        AND (waits_for LIKE '%"on":"approval"%' OR waits_for LIKE '%"on":"ambiguous"%')
        AND waits_for LIKE '%"on":"ambiguous"%') AS ambiguous,
    (SELECT count(*) FROM execution.dead_letter
        WHERE tenant = current_setting('mesh.tenant', true) AND settled IS NULL) AS dead_letters"#;

#[derive(Debug, FromRow)]
struct OpenRow {
    agent: String,
    state: String,
    count: i64,
}

#[derive(Debug, FromRow)]
struct EndedRow {
    part: i64,
    agent: String,
    state: String,
    count: i64,
    cost_usd: f64,
}

#[derive(Debug, FromRow)]
struct LatencyRow {
    agent: String,
    ms: Vec<f64>,
}

#[derive(Debug, FromRow)]
struct AttentionRow {
    approvals: i64,
    ambiguous: i64,
    dead_letters: i64,
}

/// What was counted, as the parts of the answer.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) open: OpenCounts,
    pub(crate) ended: EndedCounts,
    pub(crate) cost_usd: f64,
    pub(crate) attention: AttentionCounts,
    pub(crate) parts: Vec<OverviewPart>,
    pub(crate) agents: Vec<AgentOverview>,
}

/// Counts `count` parts of `seconds` each from `since` on.
pub(crate) async fn count(
    db: &mut PgConnection,
    since: Timestamp,
    seconds: u32,
    count: u32,
) -> Result<Counted, sqlx::Error> {
    let from: DateTime<Utc> = since.to_chrono();
    let open: Vec<OpenRow> = sqlx::query_as(OPEN).fetch_all(&mut *db).await?;
    let ended: Vec<EndedRow> = sqlx::query_as(ENDED)
        .bind(from)
        .bind(f64::from(seconds))
        .fetch_all(&mut *db)
        .await?;
    let latencies: Vec<LatencyRow> = sqlx::query_as(LATENCIES).bind(from).fetch_all(&mut *db).await?;
    let attention: AttentionRow = sqlx::query_as(ATTENTION).fetch_one(&mut *db).await?;
    let mut counted = Counted {
        parts: (0..count)
            .map(|part| OverviewPart {
                at: Timestamp::from(from + chrono::TimeDelta::seconds(i64::from(part) * i64::from(seconds))),
                ended: EndedCounts::default(),
                cost_usd: 0.0,
            })
            .collect(),
        attention: AttentionCounts {
            approvals: attention.approvals.cast_unsigned(),
            ambiguous: attention.ambiguous.cast_unsigned(),
            dead_letters: attention.dead_letters.cast_unsigned(),
        },
        ..Counted::default()
    };
    counted.fold(&open, &ended, &latencies);
    Ok(counted)
}

impl Counted {
    fn fold(&mut self, open: &[OpenRow], ended: &[EndedRow], latencies: &[LatencyRow]) {
        let mut agents: BTreeMap<&str, AgentOverview> = BTreeMap::new();
        for row in open {
            add_open(&mut self.open, row);
            if let Some(agent) = entry(&mut agents, &row.agent) {
                add_open(&mut agent.open, row);
            }
        }
        for row in ended {
            add_ended(&mut self.ended, row);
            self.cost_usd += row.cost_usd;
            // A clock that was set back may have ended something "after" the last part.
            let last = self.parts.len().saturating_sub(1);
            let part = usize::try_from(row.part).unwrap_or(0).min(last);
            if let Some(part) = self.parts.get_mut(part) {
                add_ended(&mut part.ended, row);
                part.cost_usd += row.cost_usd;
            }
            if let Some(agent) = entry(&mut agents, &row.agent) {
                add_ended(&mut agent.ended, row);
                agent.cost_usd += row.cost_usd;
            }
        }
        for row in latencies {
            if let Some(agent) = entry(&mut agents, &row.agent) {
                (agent.p50_ms, agent.p99_ms) = (row.ms.first().copied(), row.ms.get(1).copied());
            }
        }
        let work =
            |agent: &AgentOverview| agent.open.queued + agent.open.running + agent.open.waiting + agent.ended.all();
        self.agents = agents.into_values().collect();
        self.agents.sort_by_key(|agent| std::cmp::Reverse(work(agent)));
        self.agents.truncate(AGENTS_MAX);
    }
}

fn entry<'a, 'b>(agents: &'a mut BTreeMap<&'b str, AgentOverview>, name: &'b str) -> Option<&'a mut AgentOverview> {
    let agent: AgentName = name.parse().ok()?;
    Some(agents.entry(name).or_insert_with(|| AgentOverview {
        agent,
        open: OpenCounts::default(),
        ended: EndedCounts::default(),
        cost_usd: 0.0,
        p50_ms: None,
        p99_ms: None,
    }))
}

fn add_open(to: &mut OpenCounts, row: &OpenRow) {
    let count = row.count.cast_unsigned();
    match row.state.as_str() {
        "queued" => to.queued += count,
        "running" => to.running += count,
        _ => to.waiting += count,
    }
}

fn add_ended(to: &mut EndedCounts, row: &EndedRow) {
    let count = row.count.cast_unsigned();
    match row.state.as_str() {
        "completed" => to.completed += count,
        "failed" => to.failed += count,
        "cancelled" => to.cancelled += count,
        _ => to.dead += count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_folded_by_part_and_by_agent() {
        let at = Timestamp::from_millis(0);
        let empty = OverviewPart {
            at,
            ended: EndedCounts::default(),
            cost_usd: 0.0,
        };
        let mut counted = Counted {
            parts: vec![empty; 2],
            ..Counted::default()
        };
        let open = |agent: &str, state: &str, count| OpenRow {
            agent: agent.into(),
            state: state.into(),
            count,
        };
        let ended = |part, agent: &str, state: &str, count| EndedRow {
            part,
            agent: agent.into(),
            state: state.into(),
            count,
            cost_usd: 0.5,
        };
        let latency = LatencyRow {
            agent: "ann".into(),
            ms: vec![10.0, 99.0],
        };
        counted.fold(
            &[open("bob", "running", 1), open("ann", "waiting", 3)],
            &[
                ended(0, "ann", "completed", 2),
                ended(1, "ann", "failed", 1),
                ended(9, "bob", "dead", 1),
            ],
            &[latency],
        );
        assert_eq!((counted.open.running, counted.open.waiting), (1, 3));
        assert_eq!((counted.ended.all(), counted.parts[0].ended.completed), (4, 2));
        // What lies after the last part is counted in it.
        assert_eq!((counted.parts[1].ended.failed, counted.parts[1].ended.dead), (1, 1));
        let names: Vec<_> = counted.agents.iter().map(|agent| agent.agent.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        assert_eq!(counted.agents[0].p99_ms, Some(99.0));
        assert!((counted.cost_usd - 1.5).abs() < 1e-9);
    }
}
