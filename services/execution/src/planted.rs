//! Bugs of the hosted worker that `cargo xtask chaos --planted` must find. Without the feature `planted-bugs` each of
//! these gives back what it was given.

use std::sync::atomic::{AtomicU32, Ordering};

use mesh_api::journal::{Fact, Record};
use mesh_runtime::planted::is_planted;
use mesh_worker::{Appended, Next, Then};

pub(crate) fn facts(mut facts: Vec<Fact>) -> Vec<Fact> {
    if is_planted("begun_omitted") {
        facts.retain(|fact| !matches!(fact, Fact::Begun(_)));
    }
    facts
}

pub(crate) fn then(then: Then, epoch: u32) -> Then {
    match then {
        Then::End(mut ended) if epoch > 1 && is_planted("usage_counts_repeats") => {
            ended.usage = ended.usage.plus(ended.usage);
            Then::End(ended)
        }
        then => then,
    }
}

/// An answer before the commit.
pub(crate) fn pipelined(seq: &AtomicU32, facts: usize, is_going_on: bool) -> Option<Appended> {
    if !is_planted("pipelined_effect") || !is_going_on {
        return None;
    }
    let facts = u32::try_from(facts).unwrap_or(u32::MAX);
    Some(Appended {
        seq: seq.fetch_add(facts, Ordering::Relaxed) + facts,
        news: Vec::new(),
        next: Next::GoOn,
    })
}

pub(crate) fn key(key: String, epoch: u32) -> String {
    if is_planted("new_key_on_retry") {
        return format!("{key}-{epoch}");
    }
    key
}

pub(crate) fn journal(mut journal: Vec<Record>) -> Vec<Record> {
    if is_planted("forgets_done")
        && let Some(last) = journal.iter().rposition(|record| matches!(record.fact, Fact::Done(_)))
    {
        journal.remove(last);
    }
    journal
}
