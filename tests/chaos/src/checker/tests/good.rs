//! The evidence of a good run, made by hand.

use mesh_api::journal::{Accepted, Begun, Claimed, Done, Effect, Ended, Fact, Outcome, StepKind, Usage};
use mesh_types::{Id as _, InvocationId, Timestamp};
use serde_json::{Value, json};

use crate::evidence::{Asked, Call, EndedRow, Entry, Evidence, Followed, Invocation, ModelCall, Shard, Takeover, Told};

pub(super) const AT_MOST_ONCE: &str = "ledger_at_most_once";
pub(super) const USAGE: Usage = Usage {
    input_tokens: 10,
    output_tokens: 5,
    cost_usd: 0.0,
};

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + ms)
}

pub(super) fn id(number: u128) -> InvocationId {
    InvocationId::new(at(0), number)
}

pub(super) fn done(step: u32, kind: StepKind, name: &str, effect: Effect, output: Value) -> Fact {
    let usage = if kind == StepKind::Model {
        USAGE
    } else {
        Usage::default()
    };
    Fact::Done(Box::new(Done {
        step,
        kind,
        name: name.to_owned(),
        effect,
        input: (effect != Effect::AtMostOnce).then(|| json!({})),
        output: Some(output),
        error: None,
        usage,
        attempt: 1,
        started_at: at(0),
        ended_at: at(1),
    }))
}

pub(super) fn begun(step: u32) -> Fact {
    Fact::Begun(Begun {
        step,
        kind: StepKind::Tool,
        name: AT_MOST_ONCE.to_owned(),
        effect: Effect::AtMostOnce,
        input: json!({}),
    })
}

pub(super) fn claimed() -> Fact {
    Fact::Claimed(Claimed {
        holder: "execution-a".to_owned(),
        incarnation: 1,
    })
}

/// Model (step 1), a tool at most once (step 2), the end.
pub(super) fn facts() -> Vec<Fact> {
    let accepted = Fact::Accepted(Accepted {
        agent: "chaos-tools".parse().unwrap(),
        version: 1,
        actor: "nats".to_owned(),
    });
    let ended = Fact::Ended(Box::new(Ended {
        outcome: Outcome::Completed,
        reason: None,
        output: Some(json!({"text": "a b"})),
        error: None,
        usage: USAGE,
        provider: None,
    }));
    vec![
        accepted,
        claimed(),
        done(1, StepKind::Model, "gpt-4", Effect::Idempotent, json!({"text": "a b"})),
        begun(2),
        done(
            2,
            StepKind::Tool,
            AT_MOST_ONCE,
            Effect::AtMostOnce,
            json!({"result": 1}),
        ),
        ended,
    ]
}

pub(super) fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::Accepted(_) => "accepted",
        Fact::Claimed(_) => "claimed",
        Fact::Begun(_) => "begun",
        Fact::Done(_) => "done",
        _ => "ended",
    }
}

/// Record n is written at n × 100 ms, in batch `first` + n.
pub(super) fn invocation(key: &str, session: Option<&str>, first: i64) -> Invocation {
    let records = (1_i64..).zip(facts()).map(|(nth, fact)| Entry {
        seq: u32::try_from(nth).unwrap(),
        epoch: u32::from(nth > 1),
        at: at(nth * 100),
        kind: kind(&fact).to_owned(),
        fact: Some(fact),
        places: vec![(first + nth, 0)],
    });
    Invocation {
        agent: "chaos-tools".to_owned(),
        key: Some(key.to_owned()),
        session: session.map(str::to_owned),
        created_at: Some(at(50)),
        records: records.collect(),
        ended: Some(EndedRow {
            outcome: "completed".to_owned(),
            reason: None,
            seq: 6,
            usage: USAGE,
        }),
        summary: Some("completed".to_owned()),
        ..Invocation::default()
    }
}

pub(super) fn told(id: &str, event: &str, data: Value) -> Told {
    Told {
        id: id.to_owned(),
        event: event.to_owned(),
        raw: data.to_string(),
        data,
    }
}

/// What a reader of the first invocation is told.
pub(super) fn events() -> Vec<Told> {
    let view = |seq: u32, more: Value| {
        let mut data = json!({"seq": seq, "epoch": u32::from(seq > 1), "at": at(i64::from(seq) * 100).to_string()});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let none = Value::Null;
    let step = |number: u32, output: Value, usage: Usage| json!({"number": number, "output": output, "usage": usage, "attempt": 1, "error": none});
    let end = json!({"state": "completed", "output": {"text": "a b"}, "usage": USAGE});
    vec![
        told("1", "invocation.queued", view(1, json!({"state": "queued"}))),
        told("2", "invocation.running", view(2, json!({"state": "running"}))),
        told("2-1", "token", json!({"text": "lost", "step": 1, "attempt": 1})),
        told("2-1", "reset", json!({"step": 1, "attempt": 2})),
        told("2-1", "token", json!({"text": "a ", "step": 1, "attempt": 2})),
        told("2-1", "token", json!({"text": "b", "step": 1, "attempt": 2})),
        told("3", "step.recorded", view(3, step(1, json!({"text": "a b"}), USAGE))),
        told(
            "5",
            "step.recorded",
            view(5, step(2, json!({"result": 1}), Usage::default())),
        ),
        told("6", "invocation.completed", view(6, end)),
    ]
}

/// Two invocations of one session, one after the other, and all that belongs to them.
pub(super) fn good() -> Evidence {
    let mut evidence = Evidence::default();
    for (number, first) in [(1, 0), (2, 6)] {
        let (id, key) = (id(number), format!("k{number}"));
        let invocation = invocation(&key, Some("s"), first);
        evidence.asked.push(Asked {
            key: key.clone(),
            agent: invocation.agent.clone(),
            session: invocation.session.clone(),
            accepted: true,
            ids: vec![id, id],
            wants_reply: true,
            delay_ms: 150,
            channel: Some(format!("channel-{key}")),
            ..Asked::default()
        });
        evidence.model.push(ModelCall {
            key: format!("{id}/1"),
            at: at(250),
            answered: Some((10, 5)),
        });
        evidence.ledger.push(Call {
            class: "at_most_once".to_owned(),
            key: format!("{id}/2"),
            op: format!("{key}:{AT_MOST_ONCE}"),
            at: at(450),
        });
        evidence
            .replies
            .insert(key.clone(), vec![json!({"state": "completed"})]);
        evidence.journal.replies_by_channel.insert(format!("channel-{key}"), 1);
        evidence.journal.keys.insert(key, id);
        evidence.journal.invocations.insert(id, invocation);
    }
    evidence.followed.push(Followed {
        invocation: Some(id(1)),
        events: events(),
        connections: 3,
        finished: true,
    });
    evidence.poison.push("poison-1".to_owned());
    evidence.journal.dead_messages.push("{\"poison-1\": 1}".to_owned());
    evidence.journal.takeovers.push(Takeover {
        shard: 0,
        owner: "execution-a".to_owned(),
        epoch_before: 0,
        epoch: 1,
    });
    evidence.journal.shards.push(Shard {
        id: 0,
        epoch: 1,
        batch: 12,
        relayed_batch: 12,
        fed: (1..=12).collect(),
    });
    evidence
}

pub(super) fn first(evidence: &mut Evidence) -> &mut Invocation {
    evidence.journal.invocations.get_mut(&id(1)).unwrap()
}

pub(super) fn record(evidence: &mut Evidence, seq: usize) -> &mut Entry {
    &mut first(evidence).records[seq - 1]
}
