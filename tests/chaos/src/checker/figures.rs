//! What a run measured: how much was judged, how much was repeated and excused, how soon work went on after a death.

use std::collections::BTreeMap;

use mesh_api::journal::Fact;
use mesh_types::Timestamp;
use serde::Serialize;

use crate::evidence::{Evidence, Faults, Invocation};
use crate::ground::NODES;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    pub asked: usize,
    pub accepted: usize,
    /// Invocations that the rules were applied to.
    pub judged: usize,
    pub records: usize,
    pub readers: usize,
    pub reader_connections: u32,
    pub ledger_calls: usize,
    pub model_calls: usize,
    /// Full answers of the model beyond the recorded ones, and their tokens: paid, and in nobody's usage.
    pub model_repeats: usize,
    pub repeated_tokens: u64,
    /// Claims beyond the first of an invocation.
    pub taken_over: usize,
    /// From the death of an execution process to the next committed record of what it held.
    pub resume: Resume,
    /// Those of them in which nothing else was down, frozen or killed meanwhile.
    pub resume_undisturbed: Resume,
    /// The same after the death of a node, whose leases must end first.
    pub resume_of_node: Resume,
    pub resume_of_node_undisturbed: Resume,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Resume {
    pub count: usize,
    pub p50_ms: Option<u64>,
    pub p99_ms: Option<u64>,
    pub max_ms: Option<u64>,
}

pub fn figures(evidence: &Evidence) -> Figures {
    let invocations = &evidence.journal.invocations;
    let (of_node, resumes): (Vec<_>, Vec<_>) = resumes(evidence).into_iter().partition(|one| one.is_of_node);
    let (model_repeats, repeated_tokens) = repeats(evidence);
    let claims = invocations.values().map(|one| one.of_kind("claimed").count());
    Figures {
        asked: evidence.asked.len(),
        accepted: evidence.asked.iter().filter(|asked| asked.accepted).count(),
        judged: invocations.len(),
        records: invocations.values().map(|one| one.records.len()).sum(),
        readers: evidence.followed.len(),
        reader_connections: evidence.followed.iter().map(|one| one.connections).sum(),
        ledger_calls: evidence.ledger.len(),
        model_calls: evidence.model.len(),
        model_repeats,
        repeated_tokens,
        taken_over: claims.map(|count| count.saturating_sub(1)).sum(),
        resume: Resume::of(&resumes, false),
        resume_undisturbed: Resume::of(&resumes, true),
        resume_of_node: Resume::of(&of_node, false),
        resume_of_node_undisturbed: Resume::of(&of_node, true),
    }
}

fn repeats(evidence: &Evidence) -> (usize, u64) {
    let mut answers: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for call in &evidence.model {
        if let Some((input, output)) = call.answered {
            let (count, tokens) = answers.entry(&call.key).or_default();
            *count += 1;
            *tokens = input + output;
        }
    }
    let beyond = answers.values().filter(|(count, _)| *count > 1);
    beyond.fold((0, 0), |(repeats, tokens), (count, each)| {
        (repeats + count - 1, tokens + each * (*count as u64 - 1))
    })
}

impl Resume {
    fn of(samples: &[Sample], only_alone: bool) -> Self {
        let wanted = samples.iter().filter(|one| one.is_alone || !only_alone);
        let mut sorted: Vec<u64> = wanted.map(|one| one.ms).collect();
        sorted.sort_unstable();
        Self {
            count: sorted.len(),
            p50_ms: at_share(&sorted, 50),
            p99_ms: at_share(&sorted, 99),
            max_ms: sorted.last().copied(),
        }
    }
}

/// From a death to the next record of an invocation that the dead process held.
struct Sample {
    ms: u64,
    /// Whether it was the only fault meanwhile.
    is_alone: bool,
    is_of_node: bool,
}

fn resumes(evidence: &Evidence) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (instance, at) in &evidence.faults.kills {
        for invocation in evidence.journal.invocations.values() {
            if is_held(invocation, instance, *at)
                && let Some(next) = invocation.records.iter().find(|entry| entry.at > *at)
            {
                samples.push(Sample {
                    ms: whole_ms(next.at.since(*at)),
                    is_alone: is_alone(&evidence.faults, *at, next.at),
                    is_of_node: NODES.contains(&instance.as_str()),
                });
            }
        }
    }
    samples
}

/// Whether nothing but the one death falls into that time.
fn is_alone(faults: &Faults, from: Timestamp, to: Timestamp) -> bool {
    let spans = [&faults.freezes, &faults.nats_away, &faults.postgres_away];
    let overlaps = spans
        .into_iter()
        .flatten()
        .any(|(begin, end)| *begin <= to && from <= *end);
    let deaths = faults.kills.iter().filter(|(_, at)| from <= *at && *at <= to);
    !overlaps && deaths.count() == 1
}

fn is_held(invocation: &Invocation, instance: &str, at: Timestamp) -> bool {
    let before = invocation.records.iter().take_while(|entry| entry.at <= at);
    let mut held = false;
    for entry in before {
        match &entry.fact {
            Some(Fact::Claimed(claimed)) => held = claimed.holder == instance,
            Some(Fact::Ended(_) | Fact::Waiting(_) | Fact::Released(_)) => held = false,
            _ => {}
        }
    }
    held
}

fn at_share(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?))
        .copied()
}

fn whole_ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
