//! A model of INVOCATIONS and of intake: durable messages, each delivered until it is acked, in order as far as it goes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mesh_api::execution::InvokeRequest;
use mesh_types::{AgentName, Problem};
use tokio::time::Instant;

use super::bugs::Bug;
use super::process::Process;
use super::world::Sim;
use crate::directory::Owner;
use crate::intake::derive;
use crate::request::Prepared;

const BATCH: usize = 256;
/// Redelivered then.
const ACK_WAIT: Duration = Duration::from_secs(5);
const RETRY_IN: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) published_ns: i64,
    pub(super) agent: AgentName,
    pub(super) request: InvokeRequest,
    pub(super) is_acked: bool,
    /// Refused for good: a dead letter.
    pub(super) is_buried: bool,
    due: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) messages: Vec<Message>,
}

impl Sim {
    /// Stored, and acked to its publisher.
    pub(super) fn publish(&self, agent: AgentName, request: InvokeRequest) {
        let published_ns = self.now().as_micros() * 1_000;
        let mut inbox = self.inbox();
        let sequence = inbox.messages.len() as u64 + 1;
        inbox.messages.push(Message {
            sequence,
            published_ns,
            agent,
            request,
            is_acked: false,
            is_buried: false,
            due: Instant::now(),
        });
    }

    fn pull(&self) -> Vec<Message> {
        let now = Instant::now();
        let redelivered = self.odds().redelivered;
        let mut inbox = self.inbox();
        let due = inbox
            .messages
            .iter_mut()
            .filter(|message| !message.is_acked && message.due <= now);
        let mut batch = Vec::new();
        for message in due.take(BATCH) {
            batch.push(message.clone());
            let again = if self.chance(redelivered) {
                self.millis(0, 500)
            } else {
                ACK_WAIT
            };
            message.due = now + again;
        }
        batch
    }

    fn settle(&self, sequence: u64, change: impl FnOnce(&mut Message)) {
        let at = usize::try_from(sequence).unwrap_or(usize::MAX).saturating_sub(1);
        if let Some(message) = self.inbox().messages.get_mut(at) {
            change(message);
        }
    }
}

pub(super) async fn run(sim: Arc<Sim>, process: Arc<Process>) {
    loop {
        tokio::time::sleep(POLL).await;
        if process.directory.owner(0) != Owner::Here || process.draining.is_cancelled() {
            continue;
        }
        let batch = sim.pull();
        if batch.is_empty() || !sim.hop().await {
            continue;
        }
        if sim.has(Bug::AckBeforeCommit) {
            for message in &batch {
                sim.settle(message.sequence, |message| message.is_acked = true);
            }
        }
        let prepared: Vec<_> = batch.iter().map(|message| prepare(&sim, &process, message)).collect();
        let finished = batch
            .iter()
            .zip(prepared)
            .map(|(message, prepared)| finish(&sim, &process, message, prepared));
        join_all(finished).await;
    }
}

fn prepare(sim: &Sim, process: &Process, message: &Message) -> Result<Prepared, Problem> {
    let id = derive(message.published_ns, message.sequence);
    process.prepare(sim, &message.agent, message.request.clone(), Some(id))
}

async fn finish(sim: &Sim, process: &Process, message: &Message, prepared: Result<Prepared, Problem>) {
    let accepted = match prepared {
        Ok(prepared) => process.accept(sim, prepared, false).await.map(drop),
        Err(problem) => Err(problem),
    };
    let sequence = message.sequence;
    // The ack may be lost.
    if !sim.hop().await {
        return;
    }
    match accepted {
        Ok(()) => sim.settle(sequence, |message| message.is_acked = true),
        Err(problem) if problem.is_transient() || problem.status >= 500 => {
            let due = Instant::now() + RETRY_IN;
            sim.settle(sequence, |message| message.due = due);
        }
        Err(_) => sim.settle(sequence, |message| (message.is_acked, message.is_buried) = (true, true)),
    }
}
