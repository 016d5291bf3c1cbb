//! Events: facts in the past tense, versioned; a golden JSON per version must decode for ever.

use serde::{Deserialize, Serialize};

use crate::fleet::NodeMode;
use crate::id::{EventId, MemoryId, PassId};
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
    #[serde(flatten)]
    pub fact: Fact,
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
            Fact::NodeRegistered { node, .. } => ("node", "registered", Some(node.token().clone())),
            Fact::NodeUpdated { node, .. } => ("node", "updated", Some(node.token().clone())),
            Fact::NodeForgotten { node, .. } => ("node", "forgotten", Some(node.token().clone())),
            Fact::NodeCame { node, .. } => ("node", "came", Some(node.token().clone())),
            Fact::NodeLost { node, .. } => ("node", "lost", Some(node.token().clone())),
            Fact::PassApplied { pass, .. } => ("pass", "applied", pass.to_string().parse().ok()),
            Fact::ServiceDegraded { service, .. } => ("service", "degraded", Some(service.clone())),
            Fact::ServiceRecovered { service, .. } => ("service", "recovered", Some(service.clone())),
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
mod tests {
    use super::*;
    use crate::id::Id;

    fn samples() -> Vec<(&'static str, Fact)> {
        let agent: AgentName = "sofia".parse().unwrap();
        let channel: ChannelId = "7c72d497-27aa-4e75-bb2f-4a4a21d4f91f".parse().unwrap();
        let memory = MemoryId::from_u128(7);
        vec![
            (
                "tenant.created.v1",
                Fact::TenantCreated {
                    name: "daarion".parse().unwrap(),
                },
            ),
            ("agent.created.v1", Fact::AgentCreated { agent: agent.clone() }),
            (
                "agent.updated.v1",
                Fact::AgentUpdated {
                    agent: agent.clone(),
                    generation: 2,
                },
            ),
            (
                "agent.published.v1",
                Fact::AgentPublished {
                    agent: agent.clone(),
                    version: 3,
                    hash: "ab".into(),
                },
            ),
            ("agent.deleted.v1", Fact::AgentDeleted { agent: agent.clone() }),
            (
                "channel.created.v1",
                Fact::ChannelCreated {
                    channel: channel.clone(),
                },
            ),
            (
                "message.posted.v1",
                Fact::MessagePosted {
                    channel,
                    message: "msg_1".parse().unwrap(),
                },
            ),
            (
                "memory.stored.v1",
                Fact::MemoryStored {
                    memory,
                    agent: agent.clone(),
                },
            ),
            ("memory.forgotten.v1", Fact::MemoryForgotten { memory, agent }),
        ]
        .into_iter()
        .chain(fleet_samples())
        .collect()
    }

    fn fleet_samples() -> Vec<(&'static str, Fact)> {
        let node: NodeId = "kitchen".parse().unwrap();
        let (owner, mode) = ("ann".to_owned(), NodeMode::Shared);
        let service: Token = "memory".parse().unwrap();
        let since = Timestamp::from_millis(1_795_258_800_000);
        let registered = Fact::NodeRegistered {
            node: node.clone(),
            owner: owner.clone(),
            mode,
        };
        let updated = Fact::NodeUpdated {
            node: node.clone(),
            owner: owner.clone(),
            mode,
        };
        let forgotten = Fact::NodeForgotten {
            node: node.clone(),
            owner,
            mode,
        };
        let came = Fact::NodeCame {
            node: node.clone(),
            incarnation: 7,
        };
        let noted = Fact::AuditNoted {
            action: "node.enroll".into(),
            subject: "kitchen".into(),
            outcome: "refused".into(),
            reason: "of another owner".into(),
        };
        let applied = Fact::PassApplied {
            pass: PassId::from_u128(9),
            actions: 2,
        };
        let degraded = Fact::ServiceDegraded {
            service: service.clone(),
            since,
        };
        vec![
            ("node.registered.v1", registered),
            ("node.updated.v1", updated),
            ("node.forgotten.v1", forgotten),
            ("node.came.v1", came),
            ("node.lost.v1", Fact::NodeLost { node, incarnation: 7 }),
            ("pass.applied.v1", applied),
            ("service.degraded.v1", degraded),
            ("service.recovered.v1", Fact::ServiceRecovered { service, since }),
            ("audit.noted.v1", noted),
        ]
    }

    /// A golden file is written once (when it is missing) and then never changes.
    #[test]
    fn every_version_ever_published_still_decodes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
        for (name, fact) in samples() {
            let event = Event {
                id: EventId::from_u128(42),
                tenant: Tenant::default(),
                at: Timestamp::from_millis(1_795_258_800_000),
                actor: "user:ann".into(),
                fact,
            };
            let path = format!("{folder}/{name}.json");
            let golden = std::fs::read_to_string(&path)
                .unwrap_or_else(|_| panic!("{path} is missing: {}", serde_json::to_string_pretty(&event).unwrap()));
            assert_eq!(serde_json::from_str::<Event>(&golden).unwrap(), event, "{name}");
            assert_eq!(event.subject().to_string().parse::<Subject>().unwrap(), event.subject());
        }
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files, samples().len(), "a golden file without a sample, or the reverse");
    }

    #[test]
    fn unknown_fields_of_an_event_are_ignored() {
        let json = r#"{"id":"evt_0000000000000000000000001A","tenant":"default","at":"2026-11-21T00:00:00Z",
            "actor":"x","later":1,"type":"agent.deleted.v1","data":{"agent":"a","more":2}}"#;
        assert!(serde_json::from_str::<Event>(json).is_ok());
    }
}
