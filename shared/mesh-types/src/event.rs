//! Events: facts in the past tense, versioned; a golden JSON per version must decode for ever.

use serde::{Deserialize, Serialize};

use crate::fleet::NodeMode;
use crate::id::{DeadLetterId, DocumentId, EventId, InvocationId, MemoryId, PassId, ReceiptId, RequestId};
use crate::name::{AgentName, ChannelId, MessageId, NodeId, Tenant, Token};
use crate::subject::Subject;
use crate::time::Timestamp;

/// What is published on `mesh.event.…`; `id` is also the `Nats-Msg-Id`. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub tenant: Tenant,
    pub at: Timestamp,
    /// Who did it: a user, a key, a service.
    pub actor: String,
    /// The request at the edge that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// For the audit, where the fact itself does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Box<Change>>,
    #[serde(flatten)]
    pub fact: Fact,
}

/// What something was and became: declared objects whole, contents of people (messages, memories) never, so that what
/// is erased is gone from the audit, too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    #[serde(default)]
    pub before: serde_json::Value,
    #[serde(default)]
    pub after: serde_json::Value,
}

/// What one call of a model took. Tokens as its provider counted them; money by the price table, US dollars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelUse {
    /// `None`: a call of no invocation, such as a node's chat or an embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    pub attempt: u32,
    pub agent: Option<AgentName>,
    pub provider: String,
    pub model: String,
    /// `chat` or `embedding`.
    pub purpose: String,
    pub input_tokens: u64,
    /// Of the input, those that the provider took from its cache.
    pub cached_tokens: u64,
    pub output_tokens: u64,
    pub cost_usd: f64,
}

/// The facts, each with its version in the tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[non_exhaustive]
pub enum Fact {
    #[serde(rename = "tenant.created.v1")]
    TenantCreated { name: Tenant },
    #[serde(rename = "agent.created.v1")]
    AgentCreated { agent: AgentName },
    #[serde(rename = "agent.updated.v1")]
    AgentUpdated { agent: AgentName, generation: u64 },
    #[serde(rename = "agent.published.v1")]
    AgentPublished {
        agent: AgentName,
        version: u32,
        hash: String,
    },
    #[serde(rename = "agent.deleted.v1")]
    AgentDeleted { agent: AgentName },
    #[serde(rename = "channel.created.v1")]
    ChannelCreated { channel: ChannelId },
    #[serde(rename = "message.posted.v1")]
    MessagePosted { channel: ChannelId, message: MessageId },
    #[serde(rename = "memory.stored.v1")]
    MemoryStored { memory: MemoryId, agent: AgentName },
    #[serde(rename = "memory.forgotten.v1")]
    MemoryForgotten { memory: MemoryId, agent: AgentName },
    #[serde(rename = "memory.changed.v1")]
    MemoryChanged {
        memory: MemoryId,
        agent: AgentName,
        version: u32,
    },
    /// Found no more: `by` replaced it.
    #[serde(rename = "memory.superseded.v1")]
    MemorySuperseded {
        memory: MemoryId,
        agent: AgentName,
        by: MemoryId,
    },
    #[serde(rename = "memory.expired.v1")]
    MemoryExpired { memory: MemoryId, agent: AgentName },
    /// Many at once, as their receipt says.
    #[serde(rename = "memory.erased.v1")]
    MemoryErased { receipt: ReceiptId, forgotten: u64 },
    #[serde(rename = "knowledge.added.v1")]
    KnowledgeAdded {
        document: DocumentId,
        base: Token,
        version: u32,
    },
    #[serde(rename = "knowledge.deleted.v1")]
    KnowledgeDeleted { document: DocumentId, base: Token },
    /// One model call that was paid for. `invocation` and `step` are those of its journal, `attempt` counts the tries
    /// of the call within the step; the three together are counted once.
    #[serde(rename = "model.used.v1")]
    ModelUsed(Box<ModelUse>),
    /// Of a node's events, `owner` and `mode` say who may see them.
    #[serde(rename = "node.registered.v1")]
    NodeRegistered {
        node: NodeId,
        owner: String,
        mode: NodeMode,
    },
    #[serde(rename = "node.updated.v1")]
    NodeUpdated {
        node: NodeId,
        owner: String,
        mode: NodeMode,
    },
    #[serde(rename = "node.forgotten.v1")]
    NodeForgotten {
        node: NodeId,
        owner: String,
        mode: NodeMode,
    },
    /// It is alive again, or for the first time.
    #[serde(rename = "node.came.v1")]
    NodeCame { node: NodeId, incarnation: u64 },
    /// Its presence has run out.
    #[serde(rename = "node.lost.v1")]
    NodeLost { node: NodeId, incarnation: u64 },
    /// A pass of the reconciler changed something; `actions` counts what it did.
    #[serde(rename = "pass.applied.v1")]
    PassApplied { pass: PassId, actions: u32 },
    #[serde(rename = "service.degraded.v1")]
    ServiceDegraded { service: Token, since: Timestamp },
    #[serde(rename = "service.recovered.v1")]
    ServiceRecovered { service: Token, since: Timestamp },
    /// Work is not claimed any more: of an agent, or of the tenant where none is named.
    #[serde(rename = "pause.set.v1")]
    PauseSet { agent: Option<AgentName>, reason: String },
    #[serde(rename = "pause.lifted.v1")]
    PauseLifted { agent: Option<AgentName>, reason: String },
    /// A message that was no invocation, kept for a person; those of invocations are told by their ends.
    #[serde(rename = "dead_letter.added.v1")]
    DeadLetterAdded {
        dead_letter: DeadLetterId,
        /// Type of the problem, as `mesh/malformed-json`.
        reason: String,
    },
    #[serde(rename = "dead_letter.discarded.v1")]
    DeadLetterDiscarded { dead_letter: DeadLetterId },
    /// `invocation` goes on with its work.
    #[serde(rename = "dead_letter.requeued.v1")]
    DeadLetterRequeued {
        dead_letter: DeadLetterId,
        invocation: InvocationId,
    },
    /// Who did, or tried, what; `outcome` is `done` or `refused`.
    #[serde(rename = "audit.noted.v1")]
    AuditNoted {
        action: String,
        subject: String,
        outcome: String,
        reason: String,
    },
}

impl Event {
    /// Where this event is published: `mesh.event.<tenant>.<kind>.<id>.<verb>`.
    pub fn subject(&self) -> Subject {
        let memory_token = |id: &MemoryId| id.to_string().parse().ok();
        let of_agent = |agent: &AgentName| agent.token().clone();
        let everything = "all".parse().ok();
        let (kind, verb, id): (&str, &str, Option<Token>) = match &self.fact {
            Fact::TenantCreated { name } => ("tenant", "created", Some(name.token().clone())),
            Fact::AgentCreated { agent } => ("agent", "created", Some(agent.token().clone())),
            Fact::AgentUpdated { agent, .. } => ("agent", "updated", Some(agent.token().clone())),
            Fact::AgentPublished { agent, .. } => ("agent", "published", Some(agent.token().clone())),
            Fact::AgentDeleted { agent } => ("agent", "deleted", Some(agent.token().clone())),
            Fact::ChannelCreated { channel } => ("channel", "created", Some(channel.token().clone())),
            Fact::MessagePosted { channel, .. } => ("channel", "posted", Some(channel.token().clone())),
            Fact::MemoryStored { memory, .. } => ("memory", "stored", memory_token(memory)),
            Fact::MemoryForgotten { memory, .. } => ("memory", "forgotten", memory_token(memory)),
            Fact::MemoryChanged { memory, .. } => ("memory", "changed", memory_token(memory)),
            Fact::MemorySuperseded { memory, .. } => ("memory", "superseded", memory_token(memory)),
            Fact::MemoryExpired { memory, .. } => ("memory", "expired", memory_token(memory)),
            Fact::MemoryErased { receipt, .. } => ("memory", "erased", receipt.to_string().parse().ok()),
            Fact::KnowledgeAdded { document, .. } => ("knowledge", "added", document.to_string().parse().ok()),
            Fact::KnowledgeDeleted { document, .. } => ("knowledge", "deleted", document.to_string().parse().ok()),
            Fact::ModelUsed(used) => ("model", "used", used.provider.parse().ok()),
            Fact::NodeRegistered { node, .. } => ("node", "registered", Some(node.token().clone())),
            Fact::NodeUpdated { node, .. } => ("node", "updated", Some(node.token().clone())),
            Fact::NodeForgotten { node, .. } => ("node", "forgotten", Some(node.token().clone())),
            Fact::NodeCame { node, .. } => ("node", "came", Some(node.token().clone())),
            Fact::NodeLost { node, .. } => ("node", "lost", Some(node.token().clone())),
            Fact::PassApplied { pass, .. } => ("pass", "applied", pass.to_string().parse().ok()),
            Fact::ServiceDegraded { service, .. } => ("service", "degraded", Some(service.clone())),
            Fact::ServiceRecovered { service, .. } => ("service", "recovered", Some(service.clone())),
            Fact::PauseSet { agent, .. } => ("pause", "set", agent.as_ref().map(of_agent).or(everything)),
            Fact::PauseLifted { agent, .. } => ("pause", "lifted", agent.as_ref().map(of_agent).or(everything)),
            Fact::DeadLetterAdded { dead_letter, .. } => ("dead-letter", "added", dead_letter.to_string().parse().ok()),
            Fact::DeadLetterDiscarded { dead_letter } => {
                ("dead-letter", "discarded", dead_letter.to_string().parse().ok())
            }
            Fact::DeadLetterRequeued { dead_letter, .. } => {
                ("dead-letter", "requeued", dead_letter.to_string().parse().ok())
            }
            Fact::AuditNoted { .. } => ("audit", "noted", self.id.to_string().parse().ok()),
        };
        let fixed = |text: &str| text.parse::<Token>().expect("a literal of this table is a token");
        Subject::Event {
            tenant: self.tenant.clone(),
            kind: fixed(kind),
            id: id.unwrap_or_else(|| fixed("unknown")),
            verb: fixed(verb),
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
