//! People: cancel, pause, signal, approve, settle what is ambiguous, fork. At random first, then until nothing waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_api::execution::InvokeRequest;
use mesh_api::journal::{About, Fact, WaitItem, WaitOn};
use mesh_api::steering::{Decision, Edit};
use mesh_types::{InvocationId, Problem};
use serde_json::json;

use super::database::POISON;
use super::world::Sim;
use crate::core::{Fork, Links};
use crate::lane::command::Action;
use crate::shards::ShardId;

/// One thing that somebody could do.
struct Target {
    id: InvocationId,
    shard: ShardId,
    waits: Vec<WaitItem>,
    is_paused: bool,
}

/// Does something now and then.
pub(super) async fn meddle(sim: Arc<Sim>) {
    let pause = 200 + sim.below(1_500);
    loop {
        sim.pause(pause / 2, pause * 2).await;
        if sim.is_calm() {
            return;
        }
        let targets = targets(&sim);
        let at = usize::try_from(sim.below(targets.len() as u64)).unwrap_or(0);
        let Some(target) = targets.get(at) else { continue };
        match sim.below(12) {
            0 => {
                act(
                    &sim,
                    target,
                    Action::Cancel {
                        reason: "operator_canceled".into(),
                    },
                )
                .await
            }
            1 | 2 => act(&sim, target, Action::Pause { reason: None }).await,
            3 => signal(&sim, target).await,
            4 => pause_many(&sim),
            5 => fork(&sim, target.id).await,
            _ => settle(&sim, target).await,
        }
    }
}

/// Whatever waits for a person gets what it waits for.
pub(super) async fn care(sim: Arc<Sim>) {
    loop {
        sim.pause(300, 600).await;
        if !sim.is_calm() && !sim.chance(150) {
            continue;
        }
        if sim.is_calm() {
            sim.database().pauses.clear();
        }
        for target in targets(&sim) {
            if sim.is_calm() || sim.chance(300) {
                settle(&sim, &target).await;
            }
        }
    }
}

fn targets(sim: &Sim) -> Vec<Target> {
    let database = sim.database();
    let target = |(id, open): (&InvocationId, &super::columns::OpenColumns)| {
        Some(Target {
            id: *id,
            shard: database.invocations.get(id)?.shard,
            waits: open
                .waits_for
                .as_ref()
                .map_or_else(Vec::new, |waits| waits.items.clone()),
            is_paused: open.paused,
        })
    };
    database.open.iter().filter_map(target).collect()
}

async fn act(sim: &Sim, target: &Target, action: Action) {
    let Some(process) = sim.some_process() else { return };
    sim.event("steer", u128::from(target.shard), || {
        format!("{} {action:?}", target.id)
    });
    let key = match &action {
        Action::Signal { key, .. } => key.clone(),
        _ => None,
    };
    let answered = process.steer(sim, target.id, target.shard, action).await;
    if let (Some(key), Ok(Some(_))) = (&key, &answered)
        && !is_signalled(sim, target.id, key)
    {
        sim.violation(format!("{}: the signal {key} is answered and not committed", target.id));
    }
    if let Ok(Some(view)) = &answered
        && view.state.is_ended()
        && !sim.database().ended.contains_key(&target.id)
    {
        sim.violation(format!("{}: an end is answered and not committed", target.id));
    }
}

fn is_signalled(sim: &Sim, id: InvocationId, key: &str) -> bool {
    let database = sim.database();
    let journal = database.records.get(&id).map_or(&[][..], Vec::as_slice);
    let is_it = |fact: &Fact| matches!(fact, Fact::Signalled(signalled) if signalled.key == key);
    journal.iter().any(|record| is_it(&record.fact))
}

async fn settle(sim: &Sim, target: &Target) {
    if target.is_paused {
        act(sim, target, Action::Resume { reason: None }).await;
    }
    for item in &target.waits {
        let step = item.step;
        match &item.on {
            WaitOn::Approval { .. } => {
                let decision = if sim.chance(700) {
                    Decision::Approve
                } else {
                    Decision::Deny
                };
                decide(sim, target, step, decision, false).await;
            }
            WaitOn::Ambiguous { .. } => match sim.below(3) {
                0 if is_worker_gone(sim, target.id, step) => {
                    let key = mesh_worker::step_key(target.id, step);
                    *sim.ledger().allowed.entry(key).or_default() += 1;
                    decide(sim, target, step, Decision::Approve, false).await;
                }
                1 => decide(sim, target, step, Decision::Deny, false).await,
                _ => decide(sim, target, step, Decision::Deny, true).await,
            },
            WaitOn::Signal { name, .. } if name == "go" => signal(sim, target).await,
            WaitOn::Signal { .. } | WaitOn::Timer { .. } | WaitOn::Child { .. } => {}
        }
    }
}

async fn decide(sim: &Sim, target: &Target, step: u32, decision: Decision, has_output: bool) {
    let action = Action::Decide {
        step,
        decision,
        note: None,
        output: has_output.then(|| json!({"said": "it happened"})),
    };
    act(sim, target, action).await;
}

async fn signal(sim: &Sim, target: &Target) {
    let key = sim.chance(500).then(|| format!("signal/{}", sim.below(3)));
    let about = About::Signal {
        name: "go".into(),
        value: if sim.chance(50) && !sim.is_calm() {
            json!({POISON: true})
        } else {
            json!(1)
        },
    };
    act(sim, target, Action::Signal { key, about }).await;
}

/// Whether whoever began the step can do nothing any more.
fn is_worker_gone(sim: &Sim, id: InvocationId, step: u32) -> bool {
    let holder = {
        let database = sim.database();
        let journal = database.records.get(&id).map_or(&[][..], Vec::as_slice);
        let begun = |fact: &Fact| matches!(fact, Fact::Begun(begun) if begun.step == step);
        let Some(epoch) = journal
            .iter()
            .rev()
            .find(|record| begun(&record.fact))
            .map(|record| record.epoch)
        else {
            return false;
        };
        journal.iter().find_map(|record| match &record.fact {
            Fact::Claimed(claimed) if record.epoch == epoch => Some((claimed.holder.clone(), claimed.incarnation)),
            _ => None,
        })
    };
    let Some((name, incarnation)) = holder else {
        return false;
    };
    let process = sim.process(&name).filter(|process| process.incarnation == incarnation);
    let node = sim.nodes().get(name.as_str()).cloned();
    let node = node.filter(|node| node.incarnation == incarnation && !node.group.is_dead());
    process.is_none() && node.is_none()
}

/// An agent, or everything; undone after a while.
fn pause_many(sim: &Arc<Sim>) {
    let place = if sim.chance(300) {
        ("*".to_owned(), "*".to_owned())
    } else {
        (mesh_types::Tenant::default().to_string(), "worker".to_owned())
    };
    sim.database().pauses.insert(place.clone());
    if let Some(process) = sim.some_process() {
        process.mail.ring();
    }
    let undo = Arc::clone(sim);
    sim.outside.spawn(async move {
        undo.pause(500, 5_000).await;
        undo.database().pauses.remove(&place);
    });
}

/// From a step in the middle of its recording.
async fn fork(sim: &Arc<Sim>, id: InvocationId) {
    if let Err(problem) = try_fork(sim, id).await {
        sim.event("no fork", 0, || format!("{id}: {problem}"));
    }
}

async fn try_fork(sim: &Sim, of: InvocationId) -> Result<(), Problem> {
    let source = {
        let database = sim.database();
        let journal = database.records.get(&of).map_or(&[][..], Vec::as_slice);
        let done = journal.iter().filter_map(|record| match &record.fact {
            Fact::Done(done) => Some(done.step),
            _ => None,
        });
        // Steps below the fork are all done.
        let done: BTreeSet<u32> = done.collect();
        let last = (1..).take_while(|step| done.contains(step)).last();
        let seq = u32::try_from(journal.len()).unwrap_or(u32::MAX);
        database
            .invocations
            .get(&of)
            .cloned()
            .zip(last)
            .map(|(source, last)| (source, last, seq))
    };
    let (Some((source, last, seq)), Some(process)) = (source, sim.some_process()) else {
        return Ok(());
    };
    if source.links.is_some() || source.agent.as_str() != "worker" {
        return Ok(());
    }
    let request = InvokeRequest {
        payload: source.input.payload.value(),
        ..InvokeRequest::default()
    };
    let mut prepared = process.prepare(sim, &source.agent, request, None)?;
    let meta = Arc::make_mut(&mut prepared.meta);
    meta.shard = source.shard;
    meta.links = Some(Box::new(Links {
        fork: Some(Fork {
            of,
            from_step: 1 + u32::try_from(sim.below(last.into())).unwrap_or(0),
            edit: Edit::default(),
        }),
        root: Some(of),
        ..Links::default()
    }));
    meta.input.edit = Some(Edit::default());
    meta.input.source_seq = Some(seq);
    let id = process.accept(sim, prepared, false).await?.id;
    sim.event("forked", 0, || format!("{id} of {of}"));
    sim.promise(None, id);
    Ok(())
}
