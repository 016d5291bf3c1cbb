//! The postman's rules over the model of Postgres: letters to invocations of our shards are handed to their lanes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use mesh_api::journal::{About, Outcome, Usage};
use mesh_types::{Clock, Code, InvocationId, Problem};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::process::Process;
use super::world::Sim;
use crate::core::mail::{ChildRequest, Letter, Mail};
use crate::core::pauses::Pauses;
use crate::directory::Owner;
use crate::lane::command::{Accept, Command, moved};
use crate::post::{Told, told};
use crate::request;
use crate::shards::{SHARDS, ShardId};

const TICK: Duration = Duration::from_secs(2);
const LETTERS: usize = 512;
const AT_ONCE: usize = 64;
const STEER_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn run(sim: Arc<Sim>, process: Arc<Process>) {
    loop {
        process.mail.wait(TICK).await;
        ring_others(&sim, &process).await;
        if sim.reach_database(&process).await.is_err() {
            continue;
        }
        let pauses = sim.database().pauses.clone();
        if process.pauses.set(Pauses::new(pauses)) {
            for lane in &process.lanes {
                let _ = lane.send(Command::Ring);
            }
        }
        while deliver(&sim, &process).await > 0 {}
    }
}

async fn ring_others(sim: &Arc<Sim>, process: &Process) {
    for shard in process.take_posted() {
        if let Owner::There(name) = process.directory.owner(shard)
            && sim.hop().await
            && let Some(other) = sim.process(&name)
        {
            other.mail.ring();
        }
    }
}

/// How many letters were settled.
async fn deliver(sim: &Arc<Sim>, process: &Arc<Process>) -> usize {
    let owned: Vec<ShardId> = (0..SHARDS)
        .filter(|shard| process.directory.owner(*shard) == Owner::Here)
        .collect();
    if owned.is_empty() || sim.reach_database(process).await.is_err() {
        return 0;
    }
    let letters = sim.database().letters(&owned, LETTERS);
    let mut by_recipient: BTreeMap<InvocationId, Vec<Mail>> = BTreeMap::new();
    for letter in letters {
        by_recipient.entry(letter.recipient).or_default().push(letter);
    }
    let served = futures::stream::iter(by_recipient.into_values()).map(|letters| serve(sim, process, letters));
    let settled: Vec<Vec<Uuid>> = served.buffer_unordered(AT_ONCE).collect().await;
    let settled: Vec<Uuid> = settled.concat();
    if settled.is_empty() || sim.reach_database(process).await.is_err() {
        return 0;
    }
    let mut database = sim.database();
    for letter in &settled {
        database.mail.remove(letter);
    }
    settled.len()
}

async fn serve(sim: &Arc<Sim>, process: &Arc<Process>, letters: Vec<Mail>) -> Vec<Uuid> {
    let mut settled = Vec::new();
    for letter in letters {
        let id = letter.id;
        if serve_one(sim, process, letter).await.is_err() {
            break;
        }
        settled.push(id);
    }
    settled
}

async fn serve_one(sim: &Arc<Sim>, process: &Arc<Process>, letter: Mail) -> Result<(), Problem> {
    let shard = letter.shard;
    let (answer, answered) = oneshot::channel();
    let steer = match told(letter, answer) {
        Told::Child(letter, request) => return accept_child(sim, process, letter, *request).await,
        Told::Open(steer) => steer,
    };
    process.lane(shard).send(Command::Steer(steer))?;
    let answered = tokio::time::timeout(STEER_DEADLINE, answered).await;
    answered.map_err(|_| moved())?.map_err(|_| moved())?.map(drop)
}

async fn accept_child(
    sim: &Arc<Sim>,
    process: &Arc<Process>,
    letter: Mail,
    request: ChildRequest,
) -> Result<(), Problem> {
    let problem = match try_child(sim, process, &letter, &request).await {
        Ok(()) => return Ok(()),
        Err(problem) if problem.is_transient() || problem.is(Code::Internal) => return Err(problem),
        Err(problem) => problem,
    };
    let about = About::Child {
        step: request.step,
        invocation: letter.recipient,
        outcome: Outcome::Failed,
        output: None,
        error: Some(problem),
        usage: Usage::default(),
    };
    let back = Mail::new(
        &letter.tenant,
        letter.recipient,
        letter.sender,
        request.parent_shard,
        process.clock.now().as_millis(),
        Letter::Result(Box::new(about)),
    );
    sim.reach_database(process).await.map_err(|_| moved())?;
    sim.database().mail.entry(back.id).or_insert(back);
    process.posted(request.parent_shard);
    Ok(())
}

async fn try_child(sim: &Sim, process: &Process, letter: &Mail, request: &ChildRequest) -> Result<(), Problem> {
    let pinned = sim.registry.published(&request.agent)?;
    let prepared = request::prepare_child(letter, request, pinned, process.clock.now())?;
    let (answer, answered) = oneshot::channel();
    process.lane(letter.shard).accept(Box::new(Accept {
        meta: prepared.meta,
        spec: prepared.spec,
        id_is_given: true,
        answer,
        waiter: None,
        place: None,
        letter: Some(letter.read()),
    }))?;
    match tokio::time::timeout(STEER_DEADLINE, answered).await {
        Ok(Ok(answer)) => answer.map(drop),
        Ok(Err(_)) | Err(_) => Err(moved()),
    }
}
