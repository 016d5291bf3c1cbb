//! The way of appends to their owners: what waits for one owner travels in one message, and one is in flight. What is
//! not answered for sure is sent again, the same bytes, until it is.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use mesh_api::node::{AppendRequest, MESSAGE_BYTES_MAX, NodeAppend, OneAnswer, OneAppend};
use tokio::sync::{mpsc, oneshot};

use crate::execution::Execution;
use crate::held::Held;

/// Of one message, for what is around the appends.
const ENVELOPE_BYTES: usize = 1_024;
pub(crate) const APPEND_BYTES_MAX: usize = MESSAGE_BYTES_MAX - ENVELOPE_BYTES;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// One append on its way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) append: OneAppend,
    /// Of its JSON.
    pub(crate) bytes: usize,
    /// Whose lease an answer renews; a result of an earlier start has none.
    pub(crate) held: Option<Arc<Held>>,
    pub(crate) answer: oneshot::Sender<OneAnswer>,
}

/// The workers' end.
#[derive(Debug, Clone)]
pub(crate) struct Appends(mpsc::UnboundedSender<Pending>);

impl Appends {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Pending>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// The answer, however long it takes; never `Unknown`. `None` when the process ends.
    pub(crate) async fn send(&self, append: OneAppend, bytes: usize, held: Option<Arc<Held>>) -> Option<OneAnswer> {
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            append,
            bytes,
            held,
            answer,
        };
        self.0.send(pending).ok()?;
        answered.await.ok()
    }
}

/// An owner's name, empty while it is not known.
type Owner = Arc<str>;

/// What came of one message.
struct Sent {
    owner: Owner,
    /// In the order that they were sent in.
    again: Vec<Pending>,
    owners: BTreeMap<u16, String>,
}

pub(crate) struct Sender {
    execution: Execution,
    incoming: mpsc::UnboundedReceiver<Pending>,
    waiting: HashMap<Owner, VecDeque<Pending>>,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    busy: HashSet<Owner>,
    /// As the last answers told.
    owners: HashMap<u16, Owner>,
    /// Messages in a row that left something unknown, by owner.
    failures: HashMap<Owner, u32>,
}

impl Sender {
    pub(crate) fn new(execution: Execution, incoming: mpsc::UnboundedReceiver<Pending>) -> Self {
        Self {
            execution,
            incoming,
            waiting: HashMap::new(),
            in_flight: FuturesUnordered::new(),
            busy: HashSet::new(),
            owners: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Ends when nobody can append any more.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                pending = self.incoming.recv() => match pending {
                    Some(pending) => self.enqueue(pending),
                    None => return,
                },
                Some(sent) = self.in_flight.next() => self.settle(sent),
            }
            // What came together goes together.
            while let Ok(pending) = self.incoming.try_recv() {
                self.enqueue(pending);
            }
            self.launch();
        }
    }

    fn enqueue(&mut self, pending: Pending) {
        let owner = self
            .owners
            .get(&pending.append.ticket.shard)
            .cloned()
            .unwrap_or_default();
        self.waiting.entry(owner).or_default().push_back(pending);
    }

    fn settle(&mut self, sent: Sent) {
        let Sent { owner, again, owners } = sent;
        self.busy.remove(&owner);
        for (shard, owner) in owners {
            self.owners.insert(shard, owner.into());
        }
        let failures = self.failures.entry(owner).or_default();
        *failures = if again.is_empty() { 0 } else { *failures + 1 };
        for pending in again.into_iter().rev() {
            let owner = self
                .owners
                .get(&pending.append.ticket.shard)
                .cloned()
                .unwrap_or_default();
            self.waiting.entry(owner).or_default().push_front(pending);
        }
    }

    fn launch(&mut self) {
        let ready: Vec<Owner> = self
            .waiting
            .keys()
            .filter(|owner| !self.busy.contains(*owner))
            .cloned()
            .collect();
        for owner in ready {
            let Some(queue) = self.waiting.get_mut(&owner) else {
                continue;
            };
            let batch = take(queue, APPEND_BYTES_MAX);
            if queue.is_empty() {
                self.waiting.remove(&owner);
            }
            if batch.is_empty() {
                continue;
            }
            let pause = match self.failures.get(&owner).copied().unwrap_or_default() {
                0 => Duration::ZERO,
                failures => (RETRY_PAUSE * 2_u32.pow(failures.min(6) - 1)).min(RETRY_PAUSE_MAX),
            };
            self.busy.insert(Arc::clone(&owner));
            let sent = send(self.execution.clone(), owner, batch, pause);
            self.in_flight.push(Box::pin(sent));
        }
    }
}

/// As many as fit, at least one; nobody waits for those that are left out.
fn take(queue: &mut VecDeque<Pending>, bytes_max: usize) -> Vec<Pending> {
    let mut batch: Vec<Pending> = Vec::new();
    let mut bytes = 0;
    while let Some(next) = queue.front() {
        if !batch.is_empty() && bytes + next.bytes > bytes_max {
            break;
        }
        let Some(next) = queue.pop_front() else { break };
        if !next.answer.is_closed() {
            bytes += next.bytes;
            batch.push(next);
        }
    }
    batch
}

async fn send(execution: Execution, owner: Owner, batch: Vec<Pending>, pause: Duration) -> Sent {
    tokio::time::sleep(pause).await;
    let request = AppendRequest {
        incarnation: execution.incarnation,
        appends: batch.iter().map(|pending| pending.append.clone()).collect(),
    };
    let sent = execution.now();
    let reply = match execution.ask::<NodeAppend>(&request).await {
        Ok(reply) if reply.answers.len() == batch.len() => reply,
        Ok(_) => {
            tracing::error!("an answer to appends has another length than they have");
            return unknown(owner, batch);
        }
        Err(problem) => {
            tracing::debug!(%problem, "appends are not answered; sending them again");
            return unknown(owner, batch);
        }
    };
    let lease = Duration::from_millis(reply.lease_ms);
    let mut again = Vec::new();
    for (pending, answer) in batch.into_iter().zip(reply.answers) {
        if answer == OneAnswer::Unknown {
            again.push(pending);
            continue;
        }
        if let (OneAnswer::Ok { .. }, Some(held)) = (&answer, &pending.held) {
            held.lease.renew(sent, lease);
        }
        // Its worker may be gone; then nobody minds.
        let _ = pending.answer.send(answer);
    }
    Sent {
        owner,
        again,
        owners: reply.owners,
    }
}

fn unknown(owner: Owner, again: Vec<Pending>) -> Sent {
    Sent {
        owner,
        again,
        owners: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::node::{Ticket, WireThen};
    use mesh_types::{Id, InvocationId, Tenant};

    use super::*;

    fn pending(bytes: usize) -> (Pending, oneshot::Receiver<OneAnswer>) {
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket {
            tenant: Tenant::default(),
            agent: "a".parse().unwrap(),
            invocation: InvocationId::from_u128(bytes as u128),
            shard: 0,
            epoch: 1,
            issued_at: mesh_types::Timestamp::EPOCH,
            signature: String::new(),
        };
        let append = OneAppend {
            ticket,
            after_seq: 1,
            facts: Vec::new(),
            then: WireThen::GoOn,
        };
        let held = None;
        (
            Pending {
                append,
                bytes,
                held,
                answer,
            },
            answered,
        )
    }

    #[test]
    fn a_message_is_filled_in_order_and_no_further() {
        let (mut queue, mut kept) = (VecDeque::new(), Vec::new());
        for bytes in [40, 50, 20, 1, 200] {
            let (pending, answered) = pending(bytes);
            queue.push_back(pending);
            kept.push(answered);
        }
        let sizes = |batch: Vec<Pending>| batch.iter().map(|pending| pending.bytes).collect::<Vec<_>>();
        assert_eq!(sizes(take(&mut queue, 100)), [40, 50]);
        kept.remove(3);
        assert_eq!(
            sizes(take(&mut queue, 100)),
            [20],
            "nobody waits for the other one any more"
        );
        assert_eq!(sizes(take(&mut queue, 100)), [200], "one always goes");
        assert!(queue.is_empty());
    }
}
