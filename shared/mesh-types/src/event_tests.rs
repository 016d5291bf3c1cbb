//! Every fact has its golden file, and its subject.

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
    .chain(memory_samples())
    .chain(fleet_samples())
    .collect()
}

fn memory_samples() -> Vec<(&'static str, Fact)> {
    let agent: AgentName = "sofia".parse().unwrap();
    let memory = MemoryId::from_u128(7);
    let document = DocumentId::from_u128(5);
    let base: Token = "handbook".parse().unwrap();
    let changed = Fact::MemoryChanged {
        memory,
        agent: agent.clone(),
        version: 2,
    };
    let superseded = Fact::MemorySuperseded {
        memory,
        agent: agent.clone(),
        by: MemoryId::from_u128(8),
    };
    let erased = Fact::MemoryErased {
        receipt: ReceiptId::from_u128(3),
        forgotten: 12,
    };
    let added = Fact::KnowledgeAdded {
        document,
        base: base.clone(),
        version: 2,
    };
    let used = ModelUse {
        invocation: Some(InvocationId::from_u128(1)),
        step: Some(3),
        attempt: 1,
        agent: Some(agent.clone()),
        provider: "openai".into(),
        model: "gpt-4".into(),
        purpose: "chat".into(),
        input_tokens: 100,
        cached_tokens: 40,
        output_tokens: 7,
        cost_usd: 0.25,
    };
    vec![
        ("memory.changed.v1", changed),
        ("memory.superseded.v1", superseded),
        ("memory.expired.v1", Fact::MemoryExpired { memory, agent }),
        ("memory.erased.v1", erased),
        ("knowledge.added.v1", added),
        ("knowledge.deleted.v1", Fact::KnowledgeDeleted { document, base }),
        ("model.used.v1", Fact::ModelUsed(Box::new(used))),
    ]
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
    let dead_letter = DeadLetterId::from_u128(6);
    let requeued = Fact::DeadLetterRequeued {
        dead_letter,
        invocation: InvocationId::from_u128(1),
    };
    let added = Fact::DeadLetterAdded {
        dead_letter,
        reason: "mesh/malformed-json".into(),
    };
    let (agent, reason) = (Some("sofia".parse().unwrap()), "too dear".to_owned());
    vec![
        (
            "pause.set.v1",
            Fact::PauseSet {
                agent,
                reason: reason.clone(),
            },
        ),
        ("pause.lifted.v1", Fact::PauseLifted { agent: None, reason }),
        ("dead_letter.added.v1", added),
        ("dead_letter.discarded.v1", Fact::DeadLetterDiscarded { dead_letter }),
        ("dead_letter.requeued.v1", requeued),
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
            request_id: None,
            change: None,
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
