//! Writes what waits, a batch at a time, and tells what that changed.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{MetricName, PassReport};
use mesh_store::every_tenant_tx;
use mesh_types::NodeId;
use mesh_types::event::{Event, Fact};
use sqlx::PgConnection;

use crate::report::{Beat, Health};
use crate::state::State;
use crate::store::beats::{self, News};
use crate::store::{healths, life};

/// Rows of one statement: well below a millisecond of JSON.
const BATCH: usize = 500;
/// Batches of a pass; what is left waits for the next.
const BATCHES_MAX: usize = 400;
/// Who sees a node come and go.
const ACTOR: &str = "service:heartbeat";

/// Of its time at most a third is spent writing: what comes meanwhile is gathered, and under a flood each row written
/// stands for more reports.
const REST_PER_WRITING: u32 = 2;
const REST_MAX: Duration = Duration::from_secs(10);

/// One pass, unless the one before it was so long that this one rests.
pub(crate) async fn pass(state: Arc<State>) -> PassReport {
    let clock = &state.context.clock;
    let began = clock.monotonic();
    if began < state.flush_not_before() {
        return PassReport::default();
    }
    let report = write_all(&state).await;
    let ended = clock.monotonic();
    let rest = (ended.saturating_sub(began) * REST_PER_WRITING).min(REST_MAX);
    state.rest_until(ended + rest);
    report
}

/// Writes all that waits. Dropped in between it loses the batch in hand, whose nodes report again.
pub(crate) async fn write_all(state: &State) -> PassReport {
    let mut written = 0;
    for _ in 0..BATCHES_MAX {
        let (mut beats, healths) = {
            let mut nodes = state.nodes();
            (nodes.take_beats(BATCH), nodes.take_healths(BATCH))
        };
        beats.sort_unstable_by(|one, other| one.heartbeat.node_id.cmp(&other.heartbeat.node_id));
        if beats.is_empty() && healths.is_empty() {
            break;
        }
        written += beats.len() + healths.len();
        if let Err(error) = write(state, &beats, &healths).await {
            let mut nodes = state.nodes();
            nodes.beats_wait(beats.iter().map(|beat| &beat.heartbeat.node_id));
            nodes.healths_wait(healths.iter().map(|health| &health.node));
            return PassReport::failed(error);
        }
        tokio::task::yield_now().await;
    }
    let seen = state.nodes().len();
    let gauge = state.context.metrics.gauge(MetricName::NodesSeen);
    gauge.set(i64::try_from(seen).unwrap_or(i64::MAX), &[]);
    PassReport::planned(written)
}

async fn write(state: &State, beats: &[Arc<Beat>], healths: &[Arc<Health>]) -> Result<(), sqlx::Error> {
    let mut tx = every_tenant_tx(&state.pool).await?;
    let mut told = 0;
    let mut changed = Vec::new();
    if !beats.is_empty() {
        let news = beats::upsert(&mut tx, beats).await?;
        (told, changed) = take_in(state, &mut tx, beats, news).await?;
    }
    if !healths.is_empty() {
        healths::upsert(&mut tx, healths).await?;
    }
    tx.commit().await?;
    // Whoever tells them looks at the rows again.
    changed.iter().for_each(|beat| state.modes.report(&beat.heartbeat));
    if told > 0 {
        state.relay_bell.ring();
    }
    let rows = state.context.metrics.counter(MetricName::NodeRowsWritten);
    rows.add(beats.len() as u64, &[("kind", "heartbeat")]);
    rows.add(healths.len() as u64, &[("kind", "health")]);
    Ok(())
}

/// Events of who came, and the heartbeats whose modes `registry` does not know. `beats` are sorted by their nodes.
async fn take_in<'a>(
    state: &State,
    tx: &mut PgConnection,
    beats: &'a [Arc<Beat>],
    news: Vec<News>,
) -> Result<(usize, Vec<&'a Beat>), sqlx::Error> {
    let mut known = Vec::new();
    let mut changed = Vec::new();
    let mut came = Vec::new();
    for News {
        node,
        came: has_come,
        is_new_mode,
    } in news
    {
        let at = beats.binary_search_by(|beat| beat.heartbeat.node_id.as_str().cmp(&node));
        if is_new_mode
            && let Some(beat) = at.ok().and_then(|at| beats.get(at))
            && let Some(registered) = state.directory.get(&beat.heartbeat.node_id)
        {
            let reported = &beat.heartbeat;
            if registered.mode == reported.mode {
                known.push((node.clone(), reported.mode));
            } else {
                changed.push(beat.as_ref());
            }
        }
        if has_come {
            came.push(node);
        }
    }
    if !known.is_empty() {
        beats::modes_told(tx, &known).await?;
    }
    let told = if came.is_empty() {
        0
    } else {
        announce(state, tx, &came).await?
    };
    Ok((told, changed))
}

/// Appends the events that are due of these nodes, as far as `registry` knows whose they are; the others' are due
/// until it does.
pub(crate) async fn announce(state: &State, tx: &mut PgConnection, nodes: &[String]) -> Result<usize, sqlx::Error> {
    let mut events = Vec::new();
    let known = |node: &String| {
        let id: NodeId = node.parse().ok()?;
        Some((state.directory.get(&id)?, id))
    };
    let named: Vec<String> = nodes.iter().filter(|node| known(node).is_some()).cloned().collect();
    if named.is_empty() {
        return Ok(0);
    }
    for untold in life::untold(tx, &named).await? {
        let Some((registered, node)) = known(&untold.node) else {
            continue;
        };
        let incarnation = untold.incarnation();
        let fact = if untold.alive {
            Fact::NodeCame { node, incarnation }
        } else {
            Fact::NodeLost { node, incarnation }
        };
        let event = Event {
            request_id: None,
            change: None,
            id: state.context.ids.next(),
            tenant: registered.tenant,
            at: state.now(),
            actor: ACTOR.to_owned(),
            fact,
        };
        events.push((untold.node, event));
    }
    if !events.is_empty() {
        life::tell(tx, &events).await?;
    }
    Ok(events.len())
}
