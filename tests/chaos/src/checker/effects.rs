//! Rules over effects: what the ledger and the model saw, against what the journal recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_api::journal::{Done, Effect, Fact, StepKind, Usage};
use mesh_types::{InvocationId, Timestamp};

use super::{Violation, violation};
use crate::evidence::{Evidence, Invocation, parse_key};

/// Tools that go to the ledger are named so.
pub(crate) const LEDGER_TOOL: &str = "ledger_";
const AT_MOST_ONCE: &str = "at_most_once";
/// What a thawed process, or an orphaned request, may take to arrive.
const THAW: Duration = Duration::from_secs(5);
/// Clocks of one machine, read before and after a write.
const CLOCK_SLACK: Duration = Duration::from_millis(2);

pub(super) fn at_most_once(evidence: &Evidence, found: &mut Vec<Violation>) {
    let (mut by_key, mut by_op) = (BTreeMap::<&str, u32>::new(), BTreeMap::<&str, u32>::new());
    for call in evidence.ledger.iter().filter(|call| call.class == AT_MOST_ONCE) {
        *by_key.entry(&call.key).or_default() += 1;
        *by_op.entry(&call.op).or_default() += 1;
    }
    for (what, counts) in [("key", by_key), ("operation", by_op)] {
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
            found.push(violation(name, format!("{count} effects of one {what}")));
        }
    }
}

pub(super) fn begun_before_effect(evidence: &Evidence, found: &mut Vec<Violation>) {
    for call in evidence.ledger.iter().filter(|call| call.class == AT_MOST_ONCE) {
        let begun = parse_key(&call.key).and_then(|(id, step)| begun_at(evidence, id, step));
        match begun {
            None => found.push(violation(
                &call.key,
                "an effect of a step that no record says was begun",
            )),
            Some(at) if at > call.at.plus(CLOCK_SLACK) => {
                found.push(violation(&call.key, "the effect came before its `begun` was written"));
            }
            Some(_) => {}
        }
    }
    for (id, invocation) in &evidence.journal.invocations {
        let mut begun = BTreeMap::new();
        for entry in &invocation.records {
            match &entry.fact {
                Some(Fact::Begun(fact)) => {
                    begun
                        .entry(fact.step)
                        .or_insert(entry.places.first().map(|place| place.0));
                }
                Some(Fact::Done(fact)) if fact.effect == Effect::AtMostOnce && fact.kind == StepKind::Tool => {
                    let batch = entry.places.first().map(|place| place.0);
                    match begun.get(&fact.step) {
                        None => found.push(violation(id, format!("step {}: done, and never begun", fact.step))),
                        Some(same) if same.is_some() && *same == batch && fact.error.is_none() => {
                            let detail = format!("step {}: begun in the batch of its result", fact.step);
                            found.push(violation(id, detail));
                        }
                        Some(_) => {}
                    }
                }
                _ => {}
            }
        }
    }
}

fn begun_at(evidence: &Evidence, id: InvocationId, step: u32) -> Option<Timestamp> {
    let invocation = evidence.journal.invocations.get(&id)?;
    invocation.records.iter().find_map(|entry| match &entry.fact {
        Some(Fact::Begun(begun)) if begun.step == step => Some(entry.at),
        _ => None,
    })
}

pub(super) fn one_key_an_effect(evidence: &Evidence, found: &mut Vec<Violation>) {
    let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for call in &evidence.ledger {
        keys.entry(&call.op).or_default().insert(&call.key);
    }
    for (op, keys) in keys.into_iter().filter(|(_, keys)| keys.len() > 1) {
        found.push(violation(op, format!("was done under {} keys: {keys:?}", keys.len())));
    }
    let calls = evidence.ledger.iter().map(|call| &call.key);
    for key in calls.chain(evidence.model.iter().map(|call| &call.key)) {
        let names = parse_key(key).filter(|(id, _)| evidence.journal.invocations.contains_key(id));
        if names.is_none() {
            found.push(violation(key, "is no key of a step of any invocation"));
        }
    }
}

pub(super) fn effect_happened(evidence: &Evidence, found: &mut Vec<Violation>) {
    let done: BTreeSet<&str> = evidence.ledger.iter().map(|call| call.key.as_str()).collect();
    for (id, _, fact) in dones(evidence) {
        let is_ledger = fact.kind == StepKind::Tool && fact.name.starts_with(LEDGER_TOOL);
        let key = format!("{id}/{}", fact.step);
        if is_ledger && fact.error.is_none() && !done.contains(key.as_str()) {
            found.push(violation(
                &key,
                "is recorded as done, and the ledger knows nothing of it",
            ));
        }
    }
}

/// A call that arrives after its step's result was committed is a repeat of a recorded step. Excused is what was on its
/// way when something was frozen, cut off or killed, if the result was recorded after that: the frozen worker, the
/// frozen message and the orphan of a dead worker do not know of it. What was recorded *before* never runs again.
pub(super) fn recorded_not_repeated(evidence: &Evidence, found: &mut Vec<Violation>) {
    let done: BTreeMap<(InvocationId, u32), Timestamp> =
        dones(evidence).map(|(id, at, fact)| ((id, fact.step), at)).collect();
    let calls = evidence.ledger.iter().map(|call| (&call.key, call.at));
    for (key, at) in calls.chain(evidence.model.iter().map(|call| (&call.key, call.at))) {
        let recorded = parse_key(key).and_then(|step| done.get(&step));
        let Some(recorded) = recorded.filter(|recorded| at > recorded.plus(CLOCK_SLACK)) else {
            continue;
        };
        let spans =
            |(from, to): &(Timestamp, Timestamp)| from <= recorded && *recorded <= to.plus(THAW) && at <= to.plus(THAW);
        let faults = &evidence.faults;
        let kills: Vec<_> = faults.kills.iter().map(|(_, at)| (*at, *at)).collect();
        let is_late = [&faults.freezes, &faults.nats_away, &kills]
            .into_iter()
            .flatten()
            .any(spans);
        if !is_late {
            let after = at.since(*recorded).as_millis();
            found.push(violation(
                key,
                format!("ran again {after} ms after its result was recorded"),
            ));
        }
    }
}

pub(super) fn usage_as_answered(evidence: &Evidence, found: &mut Vec<Violation>) {
    let mut answers: BTreeMap<&str, BTreeSet<(u64, u64)>> = BTreeMap::new();
    for call in &evidence.model {
        answers.entry(&call.key).or_default().extend(call.answered);
    }
    for (id, _, fact) in dones(evidence) {
        if fact.kind != StepKind::Model || fact.error.is_some() {
            continue;
        }
        let key = format!("{id}/{}", fact.step);
        let recorded = (fact.usage.input_tokens, fact.usage.output_tokens);
        if !answers
            .get(key.as_str())
            .is_some_and(|answers| answers.contains(&recorded))
        {
            let detail = format!(
                "recorded {recorded:?}, the model answered {:?}",
                answers.get(key.as_str())
            );
            found.push(violation(&key, detail));
        }
    }
    for (id, invocation) in &evidence.journal.invocations {
        let Some(row) = &invocation.ended else { continue };
        let sum = used(invocation);
        if (sum.input_tokens, sum.output_tokens) != (row.usage.input_tokens, row.usage.output_tokens) {
            let detail = format!(
                "ended {}; its steps used {sum:?}, its end says {:?}",
                row.outcome, row.usage
            );
            found.push(violation(id, detail));
        }
    }
}

fn used(invocation: &Invocation) -> Usage {
    let each = invocation.records.iter().filter_map(|entry| match &entry.fact {
        Some(Fact::Done(done)) => Some(done.usage),
        _ => None,
    });
    each.fold(Usage::default(), Usage::plus)
}

pub(super) fn dones(evidence: &Evidence) -> impl Iterator<Item = (InvocationId, Timestamp, &Done)> {
    evidence.journal.invocations.iter().flat_map(|(id, invocation)| {
        invocation.records.iter().filter_map(|entry| match &entry.fact {
            Some(Fact::Done(done)) => Some((*id, entry.at, done.as_ref())),
            _ => None,
        })
    })
}
