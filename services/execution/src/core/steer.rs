//! What people, children and the owner itself do to an open invocation: signal, pause, take back, cancel. Pure.

use std::sync::Arc;

use mesh_api::journal::{About, CancelRequested, Fact, Paused, Record, Released, Resolution, Signalled};
use mesh_types::Timestamp;

use super::decide::Decision;
use super::open::{After, Meta, OpenRow, RunState};

fn record(row: &OpenRow, fact: Fact, now: Timestamp) -> Record {
    Record {
        seq: row.seq + 1,
        epoch: row.epoch,
        at: now,
        fact,
    }
}

/// Kept in the journal until a wait consumes it; whether it wakes a wait is seen from the row.
pub(crate) fn signal(
    meta: &Arc<Meta>,
    row: &OpenRow,
    key: String,
    about: About,
    actor: &str,
    note: Option<String>,
    now: Timestamp,
) -> Decision {
    let signalled = Signalled {
        key,
        about,
        actor: actor.to_owned(),
        note,
    };
    let fact = Fact::Signalled(Box::new(signalled));
    let after = After::Grew { seq: row.seq + 1 };
    Decision::new(Arc::clone(meta), vec![record(row, fact, now)], after)
}

/// Whether it ends what the invocation waits for.
pub(crate) fn wakes(row: &OpenRow, about: &About) -> bool {
    row.state
        .waits()
        .is_some_and(|waits| waits.items.iter().any(|item| about.wakes(item)))
}

/// Not claimed any more; if it runs, its worker lets go with its next append.
pub(crate) fn pause(meta: &Arc<Meta>, row: &OpenRow, actor: &str, reason: Option<String>, now: Timestamp) -> Decision {
    let fact = Fact::Paused(paused(actor, reason));
    set_paused(meta, row, fact, true, now)
}

pub(crate) fn resume(meta: &Arc<Meta>, row: &OpenRow, actor: &str, reason: Option<String>, now: Timestamp) -> Decision {
    let fact = Fact::Resumed(paused(actor, reason));
    set_paused(meta, row, fact, false, now)
}

fn paused(actor: &str, reason: Option<String>) -> Paused {
    Paused {
        actor: actor.to_owned(),
        reason,
    }
}

fn set_paused(meta: &Arc<Meta>, row: &OpenRow, fact: Fact, paused: bool, now: Timestamp) -> Decision {
    let record = record(row, fact, now);
    let row = OpenRow {
        paused,
        seq: record.seq,
        ..row.clone()
    };
    Decision::new(Arc::clone(meta), vec![record], After::Changed { row })
}

/// Taken back from a worker of this process that lets go, without a loss.
pub(crate) fn release(meta: &Arc<Meta>, row: &OpenRow, reason: &str, now: Timestamp) -> Decision {
    let released = Released {
        reason: reason.to_owned(),
    };
    let record = record(row, Fact::Released(released), now);
    let row = OpenRow {
        state: RunState::Queued,
        seq: record.seq,
        ..row.clone()
    };
    Decision::new(Arc::clone(meta), vec![record], After::Changed { row })
}

/// A node runs it: it is told, and has its moment to stop before the owner ends it.
pub(crate) fn ask_to_cancel(meta: &Arc<Meta>, row: &OpenRow, actor: &str, reason: &str, now: Timestamp) -> Decision {
    let asked = CancelRequested {
        actor: actor.to_owned(),
        reason: reason.to_owned(),
    };
    let record = record(row, Fact::CancelRequested(asked), now);
    let row = OpenRow {
        cancelling: true,
        seq: record.seq,
        ..row.clone()
    };
    Decision::new(Arc::clone(meta), vec![record], After::Changed { row })
}

/// The late result of an at_most_once step settles it, also after another claim: the newest `begun` of the step is of
/// the epoch in which its worker held it, and nothing has settled it since.
pub(crate) fn late_result(journal: &[Record], epoch: u32, fact: &Fact) -> Option<About> {
    let Fact::Done(done) = fact else { return None };
    let mut begun_in = None;
    for record in journal {
        match &record.fact {
            Fact::Begun(begun) if begun.step == done.step => {
                begun_in = (begun.effect == mesh_api::journal::Effect::AtMostOnce).then_some(record.epoch);
            }
            Fact::Done(known) if known.step == done.step => return None,
            Fact::Signalled(signalled) if matches!(&signalled.about, About::Resolved { step, .. } if *step == done.step) =>
            {
                return None;
            }
            _ => {}
        }
    }
    if begun_in != Some(epoch) {
        return None;
    }
    let how = match &done.error {
        Some(error) => Resolution::Failed { error: error.clone() },
        None => Resolution::Done {
            output: done.output.clone().unwrap_or_default(),
            usage: done.usage,
        },
    };
    Some(About::Resolved { step: done.step, how })
}
