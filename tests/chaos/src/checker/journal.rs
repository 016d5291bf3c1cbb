//! Rules over the journal alone: every accepted invocation ended exactly once, its records are whole and in order, the
//! feed and the lists tell all of it, nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_api::journal::{Fact, StepKind};

use super::{Violation, violation};
use crate::evidence::{Evidence, Invocation};

pub(super) fn ended_once(evidence: &Evidence, found: &mut Vec<Violation>) {
    for asked in evidence.asked.iter().filter(|asked| asked.accepted) {
        let invocation = evidence
            .journal
            .keys
            .get(&asked.key)
            .and_then(|id| evidence.journal.invocations.get(id));
        let Some(invocation) = invocation else {
            found.push(violation(&asked.key, "was accepted, and is lost"));
            continue;
        };
        let ends = invocation.of_kind("ended").count();
        match &invocation.ended {
            None => found.push(violation(&asked.key, "was accepted, and has not ended")),
            Some(row) if row.outcome != "completed" && !asked.cancelled => {
                let reason = row.reason.as_deref().unwrap_or("no reason");
                found.push(violation(&asked.key, format!("ended {}: {reason}", row.outcome)));
            }
            Some(_) => {}
        }
        if ends > 1 {
            found.push(violation(&asked.key, format!("has {ends} ends")));
        }
    }
    for (id, invocation) in &evidence.journal.invocations {
        let last = invocation.records.last();
        let ends_last = last.is_some_and(|entry| entry.kind == "ended");
        let is_same = invocation.ended.as_ref().map(|row| row.seq) == last.map(|entry| entry.seq);
        if invocation.ended.is_some() && !(ends_last && is_same) {
            found.push(violation(id, "its end is not its last record"));
        }
        if invocation.ended.is_none() && ends_last {
            found.push(violation(id, "its last record says ended, no row does"));
        }
    }
}

pub(super) fn nothing_open(evidence: &Evidence, found: &mut Vec<Violation>) {
    for (id, state) in &evidence.journal.open {
        let invocation = evidence.journal.invocations.get(id);
        let tail = invocation.map(where_it_stands).unwrap_or_default();
        found.push(violation(id, format!("is still open, {state}{tail}")));
    }
    if evidence.journal.mail > 0 {
        let detail = format!("{} rows that nobody took", evidence.journal.mail);
        found.push(violation("mail", detail));
    }
}

/// Its agent and its last records, for who looks for the reason.
fn where_it_stands(invocation: &Invocation) -> String {
    let last = &invocation.records[invocation.records.len().saturating_sub(4)..];
    let each = last.iter().map(|entry| {
        let step = match &entry.fact {
            Some(Fact::Begun(fact)) => format!(" step {} {}", fact.step, fact.name),
            Some(Fact::Done(fact)) => format!(" step {} {}", fact.step, fact.name),
            Some(Fact::Claimed(fact)) => format!(" by {}", fact.holder),
            _ => String::new(),
        };
        format!("{} {}{step} at {}", entry.seq, entry.kind, entry.at)
    });
    let each: Vec<String> = each.collect();
    format!("; of {}, last records: {}", invocation.agent, each.join(", "))
}

pub(super) fn journal_whole(evidence: &Evidence, found: &mut Vec<Violation>) {
    for (id, invocation) in &evidence.journal.invocations {
        for (place, entry) in invocation.records.iter().enumerate() {
            if usize::try_from(entry.seq).ok() != Some(place + 1) {
                found.push(violation(
                    id,
                    format!("record {} stands at place {}", entry.seq, place + 1),
                ));
                break;
            }
        }
        let accepted = invocation.of_kind("accepted").count();
        let is_first = invocation.records.first().is_some_and(|entry| entry.kind == "accepted");
        if accepted != 1 || !is_first {
            found.push(violation(id, format!("{accepted} times accepted, first: {is_first}")));
        }
        if let Some(entry) = invocation.records.iter().find(|entry| entry.fact.is_none()) {
            found.push(violation(id, format!("record {} cannot be read", entry.seq)));
        }
    }
}

pub(super) fn epochs_rise(evidence: &Evidence, found: &mut Vec<Violation>) {
    for (id, invocation) in &evidence.journal.invocations {
        let mut epoch = 0;
        for entry in &invocation.records {
            let late = is_late_result(invocation, entry.seq);
            if entry.epoch < epoch && !late {
                let detail = format!("record {} has epoch {} after {epoch}", entry.seq, entry.epoch);
                found.push(violation(id, detail));
            }
            if entry.kind == "claimed" && entry.epoch <= epoch {
                let detail = format!("record {}: a claim did not raise epoch {epoch}", entry.seq);
                found.push(violation(id, detail));
            }
            epoch = epoch.max(entry.epoch);
        }
    }
}

/// Whoever takes a shard shuts the one before out by a higher epoch; that batches are numbered is a second lock only.
pub(super) fn takeover_raises_epoch(evidence: &Evidence, found: &mut Vec<Violation>) {
    let mut last: BTreeMap<i16, i64> = BTreeMap::new();
    for one in &evidence.journal.takeovers {
        let before = last.insert(one.shard, one.epoch).unwrap_or(0).max(one.epoch_before);
        if one.epoch <= before {
            let detail = format!("{} took it with epoch {} after {before}", one.owner, one.epoch);
            found.push(violation(format!("shard {}", one.shard), detail));
        }
    }
    // What is not noted is not judged.
    for shard in &evidence.journal.shards {
        let noted = last.get(&shard.id).copied().unwrap_or(0);
        if noted != shard.epoch {
            let detail = format!("has epoch {}, the last takeover noted {noted}", shard.epoch);
            found.push(violation(format!("shard {}", shard.id), detail));
        }
    }
}

/// The late `done` of an at-most-once step settles it under the epoch of its `begun` (EXECUTION.md §6.3).
fn is_late_result(invocation: &Invocation, seq: u32) -> bool {
    let entry = invocation.records.iter().find(|entry| entry.seq == seq);
    let Some((epoch, Some(Fact::Done(done)))) = entry.map(|entry| (entry.epoch, entry.fact.as_ref())) else {
        return false;
    };
    invocation
        .records
        .iter()
        .any(|begun| begun.epoch == epoch && matches!(&begun.fact, Some(Fact::Begun(fact)) if fact.step == done.step))
}

pub(super) fn steps_done_once(evidence: &Evidence, found: &mut Vec<Violation>) {
    for (id, invocation) in &evidence.journal.invocations {
        let (mut done, mut begun) = (BTreeSet::new(), BTreeSet::new());
        for entry in &invocation.records {
            match &entry.fact {
                Some(Fact::Begun(fact)) => {
                    begun.insert(fact.step);
                    if done.contains(&fact.step) {
                        found.push(violation(id, format!("step {} began after it was done", fact.step)));
                    }
                }
                Some(Fact::Done(fact)) => {
                    if !done.insert(fact.step) {
                        found.push(violation(id, format!("step {} is done twice", fact.step)));
                    }
                    if fact.input.is_none() && !begun.contains(&fact.step) {
                        found.push(violation(id, format!("step {} has no input anywhere", fact.step)));
                    }
                }
                _ => {}
            }
        }
        let is_completed = invocation.ended.as_ref().is_some_and(|row| row.outcome == "completed");
        if let Some(step) = begun.difference(&done).next().filter(|_| is_completed) {
            found.push(violation(
                id,
                format!("completed, but step {step} was begun and never settled"),
            ));
        }
        let known = done.union(&begun).copied().collect();
        if let Some((step, highest)) = hole(invocation, &done, &known).filter(|_| invocation.ended.is_some()) {
            let outcome = invocation.ended.as_ref().map_or("", |row| row.outcome.as_str());
            let detail = format!("{outcome}, and step {step} is nowhere, step {highest} is done");
            found.push(violation(id, detail));
        }
    }
}

/// Steps are numbered from 1 without a hole. Only the calls of one model turn run side by side, and pure ones among them
/// leave no `begun`: where the end came while they ran, the last turn may lack some. No model step comes after those.
fn hole(invocation: &Invocation, done: &BTreeSet<u32>, known: &BTreeSet<u32>) -> Option<(u32, u32)> {
    let is_completed = invocation.ended.as_ref().is_some_and(|row| row.outcome == "completed");
    let models = invocation.records.iter().filter_map(|entry| match &entry.fact {
        Some(Fact::Done(fact)) if fact.kind == StepKind::Model => Some(fact.step),
        _ => None,
    });
    let highest = done.last().copied()?;
    let gapless_to = if is_completed { highest } else { models.max()? };
    (1..=gapless_to)
        .find(|step| !known.contains(step))
        .map(|step| (step, highest))
}

pub(super) fn delay_kept(evidence: &Evidence, found: &mut Vec<Violation>) {
    for asked in evidence.asked.iter().filter(|asked| asked.delay_ms > 0) {
        let id = evidence.journal.keys.get(&asked.key);
        let invocation = id.and_then(|id| evidence.journal.invocations.get(id));
        let Some(created_at) = invocation.and_then(|invocation| invocation.created_at) else {
            continue;
        };
        let first = invocation.and_then(|invocation| invocation.of_kind("claimed").next());
        let due = created_at.plus(Duration::from_millis(asked.delay_ms));
        if let Some(claim) = first.filter(|claim| claim.at < due) {
            let early = due.since(claim.at).as_millis();
            found.push(violation(
                &asked.key,
                format!("was claimed {early} ms before its delay was over"),
            ));
        }
    }
}

pub(super) fn feed_whole(evidence: &Evidence, found: &mut Vec<Violation>) {
    for shard in &evidence.journal.shards {
        let gap = shard
            .fed
            .iter()
            .zip(1_i64..)
            .find(|(batch, expected)| *batch != expected);
        let highest = shard.fed.last().copied().unwrap_or_default();
        if let Some((batch, expected)) = gap {
            let detail = format!("batch {batch} stands where {expected} should");
            found.push(violation(format!("shard {}", shard.id), detail));
        } else if highest != shard.batch {
            let detail = format!("{highest} batches in the feed, the shard counts {}", shard.batch);
            found.push(violation(format!("shard {}", shard.id), detail));
        }
        if shard.relayed_batch != shard.batch {
            let detail = format!("relayed up to {} of {}", shard.relayed_batch, shard.batch);
            found.push(violation(format!("shard {}", shard.id), detail));
        }
    }
    for (id, invocation) in &evidence.journal.invocations {
        let mut before = (0, 0);
        for entry in &invocation.records {
            let [place] = entry.places.as_slice() else {
                let detail = format!("record {} is {} times in the feed", entry.seq, entry.places.len());
                found.push(violation(id, detail));
                continue;
            };
            if *place <= before && before != (0, 0) {
                found.push(violation(
                    id,
                    format!("record {} was committed before its predecessor", entry.seq),
                ));
            }
            before = *place;
        }
    }
}

pub(super) fn summary_tells_the_end(evidence: &Evidence, found: &mut Vec<Violation>) {
    for (id, invocation) in &evidence.journal.invocations {
        let Some(row) = &invocation.ended else { continue };
        if invocation.summary.as_deref() != Some(row.outcome.as_str()) {
            let detail = format!("ended {}, its list entry says {:?}", row.outcome, invocation.summary);
            found.push(violation(id, detail));
        }
    }
}
