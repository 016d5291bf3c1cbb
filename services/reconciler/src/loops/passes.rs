//! The pass: observe, plan, commit under the epoch, then show it in KV `ASSIGNMENTS` and ring the nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mesh_api::node::Bell;
use mesh_api::reconciler::{ActionKind, ActionResult, Pass, Seen};
use mesh_runtime::run_loop;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::ReplicaState;
use mesh_types::{NodeId, Subject, Timestamp};

use crate::core::{Kept, Observation, Plan, World};
use crate::figures::{Differences, Passed};
use crate::observe;
use crate::state::{Lead, Mind, Said, State};
use crate::store::{self, Commit, Committed};

/// Actions that a kept pass lists; the rest is counted.
const LISTED_MAX: usize = 500;
/// While nodes are on their way to what they are told, they are looked at so often; the pauses double.
const PENDING: Duration = Duration::from_millis(500);
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// Whom a bell comes from.
const OWNER: &str = "reconciler";

pub(super) async fn run(state: Arc<State>) {
    let tick = state.config.interval();
    let pass = || {
        let state = Arc::clone(&state);
        async move {
            tokio::select! {
                report = pass(&state) => report,
                // What is not committed never was; what is, the next one shows.
                () = state.context.shutdown.cancelled() => Ok(0),
            }
        }
    };
    run_loop(state.context.clone(), "passes", state.pass_bell.clone(), tick, pass).await;
}

/// Rings when something is due by time alone.
pub(super) async fn alarm(state: Arc<State>) {
    let mut due = state.alarm.subscribe();
    loop {
        let at = *due.borrow_and_update();
        let now = state.context.clock.now();
        let pause = at.map_or(Duration::MAX, |at| at.since(now).max(Duration::from_millis(10)));
        tokio::select! {
            () = state.context.shutdown.cancelled() => return,
            changed = due.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {
                state.alarm.send_replace(None);
                state.pass_bell.ring();
            }
        }
    }
}

async fn pass(state: &State) -> Result<usize, String> {
    let mut mind = state.mind.lock().await;
    let Some(lead) = state.leads() else {
        *mind = None;
        state.figures.forget();
        return Ok(0);
    };
    let mut because = if state.has_rung.swap(false, Ordering::AcqRel) {
        "bell"
    } else {
        "tick"
    };
    if mind.as_ref().is_none_or(|mind| mind.epoch != lead.epoch) {
        because = "start";
        state.shown.doubt();
        *mind = Some(recall(state, lead).await.map_err(|error| error.to_string())?);
    }
    let Some(remembered) = mind.as_mut() else {
        return Ok(0);
    };
    let began = state.context.clock.monotonic();
    let done = one(state, lead, remembered, because).await;
    let took = state.context.clock.monotonic().saturating_sub(began);
    state
        .figures
        .passed(done.as_ref().map_or_else(|failed| failed.0, |done| done.0), took);
    if done.is_err() {
        // Whether it was committed may be unknown: the tables know.
        *mind = None;
    }
    done.map(|done| done.1).map_err(|failed| failed.1)
}

/// What the tables say, for a new leader.
async fn recall(state: &State, lead: Lead) -> Result<Mind, sqlx::Error> {
    let kept = store::kept::load(&state.pool, Some(lead.epoch)).await?;
    let last = store::passes::list(&state.pool, None, 1, i64::MAX).await?;
    let last = last.into_iter().next();
    Ok(Mind {
        epoch: lead.epoch,
        kept: Arc::new(kept),
        last: last.and_then(|pass| Some((pass.id?, Said::of(&pass)?))),
        quiet: 0,
        pruned_at: None,
    })
}

/// How it ended, with what acted.
async fn one(state: &State, lead: Lead, mind: &mut Mind, because: &str) -> Result<(Passed, usize), Failed> {
    let started = state.context.clock.monotonic();
    let observed = observe::observe(state).await;
    let observed = observed.and_then(|seen| observe::is_plausible(&seen, &mind.kept).map(|()| seen));
    let now = state.context.clock.now();
    let mut pass = Pass {
        id: Some(state.next_id()),
        at: now,
        because: because.to_owned(),
        seen: Seen::default(),
        actions: Vec::new(),
        more: 0,
        took_ms: 0.0,
        error: None,
        next_try_at: None,
    };
    let took = |state: &State| state.context.clock.monotonic().saturating_sub(started).as_secs_f64() * 1e3;
    let seen = match observed {
        Ok(seen) => seen,
        Err(error) => {
            pass.next_try_at = Some(now.plus(state.config.interval()));
            (pass.error, pass.took_ms) = (Some(error.clone()), took(state));
            record(state, lead, mind, &pass, None, &[]).await?;
            return Err(Failed(Passed::Blind, error));
        }
    };
    let (plan, seen) = plan(state, lead, mind, now, seen).await?;
    note_waiting(state, &seen);
    let differences = Differences::of(&plan);
    let acting = plan.acting();
    let events = events(state, &pass, &plan);
    let next_due = next_due(state, mind, &plan, now);
    pass.next_try_at = next_due;
    (pass.seen, pass.took_ms) = (plan.seen.clone(), took(state));
    list(&mut pass, plan.actions);
    let changes = Some(&plan.changes).filter(|changes| !changes.is_empty());
    if record(state, lead, mind, &pass, changes, &events).await? == Committed::Stale {
        tracing::warn!(
            epoch = lead.epoch,
            "a pass was not committed: another process leads now"
        );
        let _ = state
            .lead
            .send_if_modified(|now| now.take_if(|now| *now == lead).is_some());
        return Ok((Passed::Unchanged, 0));
    }
    let is_changed = changes.is_some();
    if is_changed {
        Arc::make_mut(&mut mind.kept).apply(&plan.changes);
    }
    mind.quiet = if is_changed { 0 } else { mind.quiet.saturating_add(1) };
    state.figures.saw(now, &seen, &mind.kept, &differences);
    state.alarm.send_replace(next_due);
    let mut ring: BTreeSet<&NodeId> = plan.unheard.iter().collect();
    ring.extend(plan.changes.nodes.iter().map(|(node, _)| node));
    let shown = state.shown.repair(state, lead.epoch, &mind.kept, is_changed).await;
    ring_nodes(state, ring).await;
    // Committed it is: only the showing is tried again, and the nodes ask for themselves.
    let passed = if is_changed { Passed::Changed } else { Passed::Unchanged };
    shown.map(|_| (passed, acting)).map_err(|error| {
        tracing::warn!(%error, "assignments are not shown yet");
        Failed::from(error.to_string())
    })
}

/// Why a pass did not come to its end.
struct Failed(Passed, String);

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self(Passed::Failed, error)
    }
}

/// On the pool for work that takes its time.
async fn plan(
    state: &State,
    lead: Lead,
    mind: &Mind,
    now: Timestamp,
    seen: Observation,
) -> Result<(Plan, Observation), String> {
    let (kept, settings, ids) = (
        Arc::clone(&mind.kept),
        state.config.settings(),
        state.context.ids.clone(),
    );
    let planned = state.context.blocking.run(move || {
        let world = World {
            now,
            epoch: lead.epoch,
            since: lead.since,
            seen: &seen,
            kept: &kept,
            settings: &settings,
        };
        let plan = crate::core::plan(&world, &mut || ids.next());
        (plan, seen)
    });
    planned.await.map_err(|error| error.to_string())
}

fn note_waiting(state: &State, seen: &Observation) {
    let scaled = seen.agents.iter().filter(|agent| agent.placement.autoscaling.is_some());
    let mut waiting: HashMap<_, u64> = scaled
        .map(|agent| ((agent.tenant.clone(), agent.agent.clone()), 0))
        .collect();
    for demand in &seen.demand.agents {
        if let Some(count) = waiting.get_mut(&(demand.tenant.clone(), demand.agent.clone())) {
            *count = demand.waiting;
        }
    }
    state.set_waiting(Some(waiting).filter(|waiting| !waiting.is_empty()));
}

/// One event for each tenant that a pass did something for.
fn events(state: &State, pass: &Pass, plan: &Plan) -> Vec<Event> {
    let mut counts = BTreeMap::new();
    for action in plan.actions.iter().filter(|action| action.kind != ActionKind::Hold) {
        if let Some(tenant) = &action.tenant {
            *counts.entry(tenant).or_insert(0_u32) += 1;
        }
    }
    let Some(id) = pass.id else {
        return Vec::new();
    };
    let events = counts.into_iter();
    events
        .map(|(tenant, actions)| state.event(tenant.clone(), Fact::PassApplied { pass: id, actions }))
        .collect()
}

/// The kept form: actions are applied by the commit that keeps them.
fn list(pass: &mut Pass, mut actions: Vec<mesh_api::reconciler::Action>) {
    pass.more = u32::try_from(actions.len().saturating_sub(LISTED_MAX)).unwrap_or(u32::MAX);
    actions.truncate(LISTED_MAX);
    for action in &mut actions {
        if action.kind == ActionKind::Hold {
            action.next_try_at = action.next_try_at.or(pass.next_try_at);
        } else {
            action.result = ActionResult::Applied;
        }
    }
    pass.actions = actions;
}

/// When to look again: what is due, or, while nodes are on their way, soon.
fn next_due(state: &State, mind: &Mind, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    let interval = state.config.interval();
    let is_pending = !plan.unheard.is_empty() || is_pending(&mind.kept) || !plan.changes.is_empty();
    let quiet = if plan.changes.is_empty() { mind.quiet } else { 0 };
    let soon = PENDING.saturating_mul(1 << quiet.min(16)).min(interval);
    let pending = is_pending.then(|| now.plus(soon));
    let tick = now.plus(interval);
    [plan.next_due, pending, Some(tick)].into_iter().flatten().min()
}

fn is_pending(kept: &Kept) -> bool {
    let is_on_its_way = |state| matches!(state, ReplicaState::Starting | ReplicaState::Stopping);
    kept.replicas
        .values()
        .any(|replica| replica.stopping || is_on_its_way(replica.state))
}

async fn record(
    state: &State,
    lead: Lead,
    mind: &mut Mind,
    pass: &Pass,
    changes: Option<&crate::core::Changes>,
    events: &[Event],
) -> Result<Committed, String> {
    let said = Said::of(pass);
    let is_same = |last: &(mesh_types::PassId, Said)| Some(&last.1) == said.as_ref();
    let replaces = mind.last.as_ref().filter(|last| is_same(last)).map(|last| last.0);
    let kept_for = Duration::from_secs(u64::from(state.config.passes_kept_days) * 24 * 3_600);
    let kept_micros = i64::try_from(kept_for.as_micros()).unwrap_or(i64::MAX);
    let is_prune_due = mind.pruned_at.is_none_or(|at| pass.at.since(at) >= PRUNE_EVERY);
    let before = Timestamp::from_micros(pass.at.as_micros().saturating_sub(kept_micros));
    let commit = Commit {
        changes,
        pass: Some(pass),
        replaces,
        prune_before: is_prune_due.then_some(before),
        events,
        ..Commit::default()
    };
    let done = store::commit(&state.pool, lead.epoch, &commit).await;
    let done = done.map_err(|error| format!("the database did not take the pass: {error}"))?;
    if done == Committed::Done {
        mind.last = pass.id.zip(said);
        if is_prune_due {
            mind.pruned_at = Some(pass.at);
        }
        if !events.is_empty() {
            state.relay_bell.ring();
        }
    }
    Ok(done)
}

async fn ring_nodes(state: &State, nodes: BTreeSet<&NodeId>) {
    let bell = Bell {
        owner: OWNER.to_owned(),
        stops: false,
    };
    let Ok(body) = serde_json::to_vec(&bell).map(Bytes::from) else {
        return;
    };
    for node in nodes {
        let subject = Subject::Bell { node: node.clone() };
        // A node that does not hear asks by itself every 10 s.
        if let Err(error) = state.context.bus.publish(&subject, body.clone()).await {
            tracing::debug!(%error, %node, "a node was not rung");
        }
    }
}
