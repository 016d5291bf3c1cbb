//! The journal of one invocation: two model calls between start and end.

use mesh_api::journal::*;
use mesh_types::Timestamp;
use serde_json::json;

fn record(seq: u32, fact: Fact) -> Record {
    Record {
        seq,
        epoch: 1,
        at: Timestamp::from_millis(i64::from(seq)),
        fact,
    }
}

fn begun(step: u32) -> Fact {
    let (kind, effect) = (StepKind::Model, Effect::Idempotent);
    Fact::Begun(Begun {
        step,
        kind,
        name: "mock".into(),
        effect,
        input: json!({"asked": step}),
    })
}

fn done(step: u32, text: &str) -> Fact {
    Fact::Done(Box::new(Done {
        step,
        kind: StepKind::Model,
        name: "mock".into(),
        effect: Effect::Idempotent,
        input: None,
        output: Some(json!({"text": text})),
        error: None,
        usage: Usage::default(),
        attempt: 1,
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
    }))
}

fn ended() -> Fact {
    Fact::Ended(Box::new(Ended {
        outcome: Outcome::Completed,
        reason: None,
        output: Some(json!({"text": "bye"})),
        error: None,
        usage: Usage::default(),
        provider: Some("mock".into()),
    }))
}

/// Two model calls between start and end.
pub(crate) fn journal() -> Vec<Record> {
    let accepted = Accepted {
        agent: "sofia".parse().unwrap(),
        version: 1,
        actor: "dev".into(),
    };
    let claimed = Claimed {
        holder: "hosted".into(),
        incarnation: 1,
    };
    let facts = [
        Fact::Accepted(accepted),
        Fact::Claimed(claimed),
        begun(1),
        done(1, "one two"),
        begun(2),
        done(2, "three"),
        ended(),
    ];
    (1..).zip(facts).map(|(seq, fact)| record(seq, fact)).collect()
}
