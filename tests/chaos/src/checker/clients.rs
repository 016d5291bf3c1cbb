//! Rules over what clients were told: one key is one invocation, results arrive, and who read along saw, through every
//! broken connection, exactly what Postgres holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_api::journal::{Done, Fact};
use serde_json::Value;

use super::results::is_task;
use super::{Violation, violation};
use crate::evidence::{Entry, Evidence, Followed, Told};

/// What a client needs to be connected again after NATS is back.
const RECONNECT: Duration = Duration::from_secs(8);

pub(super) fn one_invocation_a_key(evidence: &Evidence, found: &mut Vec<Violation>) {
    let journal = &evidence.journal;
    let mut by_key: BTreeMap<&str, u32> = BTreeMap::new();
    let asked: BTreeSet<&str> = evidence.asked.iter().map(|asked| asked.key.as_str()).collect();
    for (id, invocation) in &journal.invocations {
        match invocation.key.as_deref() {
            Some(key) => {
                *by_key.entry(key).or_default() += 1;
                if !asked.contains(key) && !is_task(evidence, key) {
                    found.push(violation(id, format!("nobody asked for key {key}")));
                }
            }
            None if invocation.parent.is_none() => found.push(violation(id, "nobody asked for it")),
            None => {}
        }
    }
    for (key, count) in by_key.into_iter().filter(|(_, count)| *count > 1) {
        found.push(violation(key, format!("is {count} invocations")));
    }
    for asked in &evidence.asked {
        let ids: BTreeSet<_> = asked.ids.iter().collect();
        let stored = journal.keys.get(&asked.key);
        if ids.len() > 1 {
            found.push(violation(&asked.key, format!("was answered with {} ids", ids.len())));
        } else if let Some(id) = ids.into_iter().next()
            && stored != Some(id)
        {
            found.push(violation(
                &asked.key,
                format!("was answered with {id}, and is {stored:?}"),
            ));
        }
    }
}

pub(super) fn nothing_refused(evidence: &Evidence, found: &mut Vec<Violation>) {
    for asked in &evidence.asked {
        if let Some(answer) = &asked.refused {
            found.push(violation(
                &asked.key,
                format!("a good request was answered with {answer}"),
            ));
        }
    }
}

pub(super) fn replied_once(evidence: &Evidence, found: &mut Vec<Violation>) {
    for asked in evidence.asked.iter().filter(|asked| asked.accepted && !asked.cancelled) {
        let Some(channel) = &asked.channel else { continue };
        let count = evidence.journal.replies_by_channel.get(channel).copied().unwrap_or(0);
        if count != 1 {
            found.push(violation(&asked.key, format!("{count} replies in its channel")));
        }
    }
}

pub(super) fn result_sent(evidence: &Evidence, found: &mut Vec<Violation>) {
    for asked in evidence
        .asked
        .iter()
        .filter(|asked| asked.accepted && asked.wants_reply)
    {
        let id = evidence.journal.keys.get(&asked.key);
        let Some(invocation) = id.and_then(|id| evidence.journal.invocations.get(id)) else {
            continue;
        };
        let Some(end) = invocation.of_kind("ended").next() else {
            continue;
        };
        let was_away = |(from, to): &(_, _)| end.at >= *from && end.at <= mesh_types::Timestamp::plus(*to, RECONNECT);
        let results = evidence.replies.get(&asked.key).map_or(&[][..], Vec::as_slice);
        if results.is_empty() && !evidence.faults.nats_away.iter().any(was_away) {
            found.push(violation(&asked.key, "its result was never sent"));
        }
        let outcome = invocation.ended.as_ref().map(|row| row.outcome.as_str());
        for result in results {
            if result.get("state").and_then(Value::as_str) != outcome {
                found.push(violation(
                    &asked.key,
                    format!("ended {outcome:?}, the result says {result}"),
                ));
            }
        }
    }
}

pub(super) fn poison_buried(evidence: &Evidence, found: &mut Vec<Violation>) {
    for marker in &evidence.poison {
        let count = evidence
            .journal
            .dead_messages
            .iter()
            .filter(|message| message.contains(marker))
            .count();
        if count != 1 {
            found.push(violation(marker, format!("{count} dead letters of one bad message")));
        }
    }
}

pub(super) fn saw_the_journal(evidence: &Evidence, found: &mut Vec<Violation>) {
    for followed in &evidence.followed {
        let records = followed.invocation.and_then(|id| evidence.journal.invocations.get(&id));
        let (Some(invocation), Some(id)) = (records, followed.invocation) else {
            continue;
        };
        let mut seen: BTreeMap<u64, &Told> = BTreeMap::new();
        let mut highest = 0;
        for told in &followed.events {
            let Some(seq) = told.data.get("seq").and_then(Value::as_u64) else {
                continue;
            };
            if seen.insert(seq, told).is_some() {
                found.push(violation(id, format!("a reader was told record {seq} twice")));
            } else if seq < highest {
                found.push(violation(id, format!("a reader was told record {seq} after {highest}")));
            }
            highest = highest.max(seq);
        }
        for entry in &invocation.records {
            match seen.get(&u64::from(entry.seq)) {
                None if followed.finished && must_be_told(entry) => {
                    found.push(violation(id, format!("a reader was never told record {}", entry.seq)));
                }
                Some(told) => compare(entry, told, |detail| found.push(violation(id, detail))),
                None => {}
            }
        }
    }
}

/// Steps and ends are told in any case; other facts as the API sees fit.
fn must_be_told(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), "accepted" | "done" | "ended")
}

fn compare(entry: &Entry, told: &Told, mut differs: impl FnMut(String)) {
    let mut field = |name: &str, held: &Value| {
        let shown = told.data.get(name).unwrap_or(&Value::Null);
        // The bytes, too: as they came over the wire.
        if shown != held || !told.raw.contains(&format!("\"{name}\":{held}")) {
            differs(format!(
                "record {}: a reader was told {name} = {shown}, it is {held}",
                entry.seq
            ));
        }
    };
    field("epoch", &Value::from(entry.epoch));
    field("at", &Value::from(entry.at.to_string()));
    match &entry.fact {
        Some(Fact::Done(done)) => {
            let Done {
                step,
                output,
                error,
                usage,
                attempt,
                ..
            } = done.as_ref();
            field("number", &Value::from(*step));
            field("output", output.as_ref().unwrap_or(&Value::Null));
            field("error", &serde_json::json!(error));
            field("usage", &serde_json::json!(usage));
            field("attempt", &Value::from(*attempt));
        }
        Some(Fact::Ended(ended)) => {
            field("state", &Value::from(ended.outcome.as_str()));
            field("output", ended.output.as_ref().unwrap_or(&Value::Null));
            field("usage", &serde_json::json!(ended.usage));
        }
        _ => {}
    }
}

/// Tokens of the last attempt, joined, are the recorded text.
pub(super) fn text_is_its_tokens(evidence: &Evidence, found: &mut Vec<Violation>) {
    for followed in &evidence.followed {
        let Some(id) = followed.invocation else { continue };
        for detail in texts(followed) {
            found.push(violation(id, detail));
        }
    }
}

fn texts(followed: &Followed) -> Vec<String> {
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for told in &followed.events {
        let step = |name: &str| told.data.get(name).and_then(Value::as_u64).unwrap_or_default();
        match told.event.as_str() {
            "token" => {
                let text = told.data.get("text").and_then(Value::as_str).unwrap_or_default();
                texts.entry(step("step")).or_default().push_str(text);
            }
            "reset" => {
                texts.remove(&step("step"));
            }
            "step.recorded" => {
                let recorded = told.data.pointer("/output/text").and_then(Value::as_str);
                if let (Some(joined), Some(recorded)) = (texts.get(&step("number")), recorded)
                    && joined != recorded
                {
                    wrong.push(format!(
                        "step {}: the tokens say {joined:?}, the record {recorded:?}",
                        step("number")
                    ));
                }
            }
            _ => {}
        }
    }
    wrong
}
