//! Clients: requests with and without keys, by calls and by durable messages, repeated where their outcome is unknown.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_api::execution::InvokeRequest;
use mesh_types::{AgentName, InvocationId, Problem};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::database::POISON;
use super::registry::{CALLED, Kind};
use super::world::Sim;

/// Groups of calls that scripts are made of.
const GROUPS: [&str; 18] = [
    "look",
    "put",
    "once",
    "put+look",
    "once+put",
    "once+once",
    "look+look+look",
    "ask",
    "child",
    "child+child",
    "shared",
    "deep",
    "sleep",
    "wait",
    "patience+put",
    "task",
    "spoil",
    "child+once",
];

/// Sends everything, spread over a while.
pub(super) fn send_all(sim: &Arc<Sim>) {
    for number in 0..sim.options.invocations {
        let client = Arc::clone(sim);
        let at = sim.millis(0, 15_000);
        sim.outside.spawn(async move {
            tokio::time::sleep(at).await;
            send(&client, number).await;
        });
    }
}

async fn send(sim: &Arc<Sim>, number: u64) {
    let (agent, request) = request(sim, number);
    match sim.below(10) {
        0..=3 => {
            sim.publish(agent.clone(), request.clone());
            if request.idempotency_key.is_some() && sim.chance(200) {
                sim.pause(0, 3_000).await;
                sim.publish(agent, request);
            }
        }
        4..=7 if request.idempotency_key.is_some() => {
            if sim.chance(200) {
                let (again, agent, request) = (Arc::clone(sim), agent.clone(), request.clone());
                sim.outside.spawn(async move { insist(&again, &agent, &request).await });
            }
            insist(sim, &agent, &request).await;
        }
        _ => {
            // Once: without a key nobody may repeat it.
            let _ = call(sim, &agent, &request).await;
        }
    }
}

fn request(sim: &Sim, number: u64) -> (AgentName, InvokeRequest) {
    let at = usize::try_from(sim.below(CALLED.len() as u64)).unwrap_or(0);
    let (name, kind) = CALLED[at];
    let mut payload = match kind {
        Kind::Noop => json!({"number": number}),
        Kind::Script => json!({"text": script(sim, number)}),
    };
    if sim.chance(15) {
        payload[POISON] = Value::from("input");
    }
    let has_session = !matches!(name, "noop" | "steps" | "worker" | "placed" | "placed-noop") || sim.chance(150);
    let request = InvokeRequest {
        payload,
        idempotency_key: sim.chance(500).then(|| format!("key-{number}")),
        session: has_session.then(|| format!("session-{}", sim.below(3))),
        priority: sim.chance(200).then(|| u8::try_from(sim.below(10)).unwrap_or(5)),
        delay_ms: sim.chance(100).then(|| sim.below(4_000)),
        deadline_ms: sim.chance(40).then(|| 1_000 + sim.below(20_000)),
        ..InvokeRequest::default()
    };
    (name.parse().expect("a name of ours"), request)
}

fn script(sim: &Sim, number: u64) -> String {
    let mut script = format!("#{number}");
    for _ in 0..sim.below(4) {
        let at = usize::try_from(sim.below(GROUPS.len() as u64)).unwrap_or(0);
        script.push(' ');
        script.push_str(GROUPS[at]);
    }
    script
}

/// Until it is answered for good.
async fn insist(sim: &Arc<Sim>, agent: &AgentName, request: &InvokeRequest) {
    for _ in 0..50 {
        match call(sim, agent, request).await {
            Ok(_) => return,
            Err(problem) if problem.is_transient() || problem.status >= 500 => sim.pause(200, 2_000).await,
            Err(_) => return,
        }
    }
}

/// By any process. What is answered is a promise.
async fn call(sim: &Arc<Sim>, agent: &AgentName, request: &InvokeRequest) -> Result<InvocationId, Problem> {
    let Some(process) = sim.some_process() else {
        return Err(crate::lane::command::moved());
    };
    let waits = sim.chance(300);
    let prepared = process.prepare(sim, agent, request.clone(), None)?;
    let submitted = process.accept(sim, prepared, waits).await?;
    let id = submitted.id;
    sim.ids.fetch_add(1, Ordering::Relaxed);
    sim.event("accepted", 0, || id.to_string());
    sim.promise(request.idempotency_key.as_deref(), id);
    if let Some(ended) = submitted.ended {
        let listener = Arc::clone(sim);
        sim.outside.spawn(async move { hear(&listener, id, ended).await });
    }
    Ok(id)
}

/// Who is told of an end is told the one that is committed.
async fn hear(sim: &Sim, id: InvocationId, ended: oneshot::Receiver<mesh_api::execution::Invocation>) {
    let Ok(told) = ended.await else { return };
    let stored = sim.database().ended.get(&id).cloned();
    let is_it = stored.is_some_and(|end| told.ended_at == Some(end.ended_at) && told.output == end.output);
    if told.id != id || !is_it {
        sim.violation(format!("{id}: somebody is told of an end that is not committed"));
    }
}
