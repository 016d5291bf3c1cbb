//! How a service answers nodes: whose request it is, by the ticket that comes with it, and a note for the audit of what
//! was refused. Nothing that a node says of itself counts; its name stands in the subject.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::fleet::{NodeEntry, NodeGet, NodeGetRequest, Viewer};
use mesh_api::identity::{AuditEntry, AuditNote, AuditOutcome};
use mesh_api::node::{Ticket, TicketHeld, TicketHeldReply, TicketHeldRequest, TicketKeyGet, TicketKeyRequest};
use mesh_types::{Code, InvocationId, NodeId, Problem, Tenant};
use serde_json::Value;

use crate::context::Context;
use crate::tickets::TicketVerifier;

/// Since the work was granted. Who holds an invocation for longer gets no answers but from `execution`, which knows.
const TICKET_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The key changes with the installation only; a bad ticket makes us look no sooner.
const KEY_AGAIN: Duration = Duration::from_secs(10);
/// For so long a claim may be over without our knowing.
const HELD_KEPT: Duration = Duration::from_secs(5);
const HELD_MAX: usize = 16_384;
const ENTRY_KEPT: Duration = Duration::from_secs(30);
const ENTRIES_MAX: usize = 4_096;
/// One note per node and second says that it tries; more would only fill the audit.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const NOTED_MAX: usize = 4_096;

/// Who holds what, under which epoch.
type Claim = (NodeId, InvocationId, u32);

/// The roads of nodes to one service.
pub struct Roads {
    context: Context,
    key: Mutex<Option<(Arc<TicketVerifier>, Duration)>>,
    /// The key never changes: this process made it.
    is_own: bool,
    entries: Mutex<HashMap<NodeId, (Arc<NodeEntry>, Duration)>>,
    /// Claims that were held when we last asked. Those that are over are never kept: an epoch may be on its way.
    held: Mutex<HashMap<Claim, (Arc<TicketHeldReply>, Duration)>>,
    noted: Mutex<HashMap<NodeId, Duration>>,
}

impl std::fmt::Debug for Roads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roads").field("service", &self.context.service).finish()
    }
}

impl Roads {
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            key: Mutex::default(),
            is_own: false,
            entries: Mutex::default(),
            held: Mutex::default(),
            noted: Mutex::default(),
        })
    }

    /// Of `execution` itself, which gives its key with [`Roads::know`].
    pub fn of_execution(context: &Context) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            key: Mutex::default(),
            is_own: true,
            entries: Mutex::default(),
            held: Mutex::default(),
            noted: Mutex::default(),
        })
    }

    pub fn know(&self, key: TicketVerifier) {
        *lock(&self.key) = Some((Arc::new(key), self.now()));
    }

    /// Who asks: the ticket's tenant, with the node as the actor. `endpoint` is for the audit. Whether the claim is
    /// still held is asked of `execution`, which looks for itself.
    ///
    /// # Errors
    /// `Forbidden`: the ticket was not given to this node, or long ago, or its claim is over. Transient ones while
    /// `execution` does not answer.
    pub async fn admit(&self, node: &NodeId, endpoint: &str, ticket: &Ticket) -> Result<Caller, Problem> {
        self.check(node, endpoint, ticket).await?;
        let age = self.context.clock.now().since(ticket.issued_at);
        if age > TICKET_AGE_MAX {
            let problem = Problem::new(Code::Forbidden, "the ticket is older than a day");
            return Err(self.refuse(node, endpoint, problem));
        }
        if !self.is_own {
            self.still_held(node, ticket).await?;
        }
        Ok(Caller {
            role: None,
            tenant: ticket.tenant.clone(),
            actor: format!("node:{node}"),
            request_id: None,
        })
    }

    /// As [`Roads::admit`], however old the ticket is.
    ///
    /// # Errors
    /// As [`Roads::admit`].
    pub async fn check(&self, node: &NodeId, endpoint: &str, ticket: &Ticket) -> Result<(), Problem> {
        let (key, read_at) = self.key().await?;
        if key.verify(node, ticket) {
            return Ok(());
        }
        // Perhaps the installation is another one.
        if !self.is_own
            && self.now().saturating_sub(read_at) >= KEY_AGAIN
            && self.read_key().await?.verify(node, ticket)
        {
            return Ok(());
        }
        let detail = format!("the ticket for {} was not given to node {node}", ticket.invocation);
        Err(self.refuse(node, endpoint, Problem::new(Code::Forbidden, detail)))
    }

    /// What `execution` says of the invocation, beside that the claim is held: its session, its user, its artifact.
    ///
    /// # Errors
    /// As [`Roads::admit`], which has to be asked before.
    pub async fn about(&self, node: &NodeId, ticket: &Ticket) -> Result<Arc<TicketHeldReply>, Problem> {
        self.still_held(node, ticket).await
    }

    /// Who comes late is no attacker: it is not noted.
    async fn still_held(&self, node: &NodeId, ticket: &Ticket) -> Result<Arc<TicketHeldReply>, Problem> {
        let claim = (node.clone(), ticket.invocation, ticket.epoch);
        let now = self.now();
        if let Some((about, at)) = lock(&self.held).get(&claim)
            && now.saturating_sub(*at) < HELD_KEPT
        {
            return Ok(Arc::clone(about));
        }
        let request = TicketHeldRequest {
            node: node.clone(),
            invocation: ticket.invocation,
            epoch: ticket.epoch,
        };
        let caller = self.context.caller(Tenant::default());
        let answered = self.context.bus.call::<TicketHeld>(&caller, &request).await;
        let about = answered.map_err(|problem| match problem.is_transient() {
            true => problem,
            // The node's request is none the worse for it.
            false => Problem::new(
                Code::Unavailable,
                format!("who holds the work is not known now: {problem}"),
            ),
        })?;
        let about = Arc::new(about);
        if !about.held {
            return Err(claim_over(ticket));
        }
        let mut held = lock(&self.held);
        if held.len() >= HELD_MAX {
            held.retain(|_, (_, at)| now.saturating_sub(*at) < HELD_KEPT);
        }
        if held.len() >= HELD_MAX {
            held.clear();
        }
        held.insert(claim, (Arc::clone(&about), now));
        Ok(about)
    }

    /// That what is asked for is the ticket's own: its agent's memories, its invocation's model calls.
    ///
    /// # Errors
    /// `Forbidden`, which is noted; `what` says what it was.
    pub fn own(&self, node: &NodeId, endpoint: &str, is_own: bool, what: &str) -> Result<(), Problem> {
        if is_own {
            return Ok(());
        }
        let detail = format!("{what}, which the ticket of node {node} is not for");
        Err(self.refuse(node, endpoint, Problem::new(Code::Forbidden, detail)))
    }

    /// Whether the ticket is good, without waiting; `None`: it cannot be known yet. Notes nothing.
    pub fn verdict(&self, node: &NodeId, ticket: &Ticket) -> Option<bool> {
        let key = lock(&self.key).as_ref().map(|(key, _)| Arc::clone(key));
        key.map(|key| key.verify(node, ticket))
    }

    /// Whose node it is; known for half a minute.
    ///
    /// # Errors
    /// `NodeNotFound`; transient ones while the registry does not answer.
    pub async fn entry(&self, node: &NodeId) -> Result<Arc<NodeEntry>, Problem> {
        let now = self.now();
        if let Some((entry, read_at)) = lock(&self.entries).get(node)
            && now.saturating_sub(*read_at) < ENTRY_KEPT
        {
            return Ok(Arc::clone(entry));
        }
        let entry = Arc::new(find(&self.context, node).await?);
        let mut entries = lock(&self.entries);
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(node.clone(), (Arc::clone(&entry), now));
        Ok(entry)
    }

    /// Notes that the node was refused, in its own tenant's audit, and answers the problem.
    pub fn refuse(&self, node: &NodeId, endpoint: &str, problem: Problem) -> Problem {
        let now = self.now();
        {
            let mut noted = lock(&self.noted);
            if noted.get(node).is_some_and(|at| now.saturating_sub(*at) < NOTE_EVERY) {
                return problem;
            }
            if noted.len() >= NOTED_MAX {
                noted.retain(|_, at| now.saturating_sub(*at) < NOTE_EVERY);
            }
            noted.insert(node.clone(), now);
        }
        tracing::warn!(%node, endpoint, %problem, "a node is refused");
        let entry = AuditEntry {
            actor: format!("node:{node}"),
            action: format!("node.{endpoint}"),
            subject: node.to_string(),
            outcome: AuditOutcome::Refused,
            reason: problem.detail.clone(),
            before: Value::Null,
            after: Value::Null,
            request_id: None,
        };
        let context = self.context.clone();
        self.context
            .tasks
            .spawn("audit-note", note(context, node.clone(), entry));
        problem
    }

    async fn key(&self) -> Result<(Arc<TicketVerifier>, Duration), Problem> {
        if let Some((key, read_at)) = &*lock(&self.key) {
            return Ok((Arc::clone(key), *read_at));
        }
        if self.is_own {
            return Err(Problem::new(Code::Unavailable, "the key of tickets is not read yet"));
        }
        Ok((self.read_key().await?, self.now()))
    }

    async fn read_key(&self) -> Result<Arc<TicketVerifier>, Problem> {
        let caller = self.context.caller(Tenant::default());
        let answer = self
            .context
            .bus
            .call::<TicketKeyGet>(&caller, &TicketKeyRequest {})
            .await?;
        let key = TicketVerifier::from_public(&answer.public);
        let key = Arc::new(key.ok_or_else(|| Problem::new(Code::Internal, "the key of tickets is none"))?);
        *lock(&self.key) = Some((Arc::clone(&key), self.now()));
        Ok(key)
    }

    fn now(&self) -> Duration {
        self.context.clock.monotonic()
    }
}

/// What a node is told that acts for an invocation which has ended or which somebody else holds now.
pub fn claim_over(ticket: &Ticket) -> Problem {
    let detail = format!("the claim is over: epoch {} of {}", ticket.epoch, ticket.invocation);
    Problem::new(Code::Forbidden, detail).next("stop working on it")
}

/// In whatever tenant: a service that asks for itself sees all.
async fn find(context: &Context, node: &NodeId) -> Result<NodeEntry, Problem> {
    let request = NodeGetRequest {
        viewer: Viewer::default(),
        node_id: node.clone(),
    };
    let caller = context.caller(Tenant::default());
    context.bus.call::<NodeGet>(&caller, &request).await
}

async fn note(context: Context, node: NodeId, entry: AuditEntry) {
    // A node that nobody knows is noted where the operator looks first.
    let tenant = find(&context, &node)
        .await
        .map(|entry| entry.tenant)
        .unwrap_or_default();
    let caller = context.caller(tenant);
    if let Err(problem) = context.bus.call::<AuditNote>(&caller, &entry).await {
        tracing::warn!(%problem, action = entry.action, "a refusal is not in the audit");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
