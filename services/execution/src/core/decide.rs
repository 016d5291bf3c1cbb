//! Decisions: what a command does to an open invocation. Pure; a decision is true only once it is committed.

use std::sync::Arc;

use mesh_api::journal::{Accepted, Claimed, Ended, Fact, Outcome, Record, Usage};
use mesh_types::{Code, InvocationId, Problem, Timestamp};

use super::open::{After, EndRow, Holder, Meta, OpenRow, RunState};

/// Claims after which an invocation that keeps losing its worker ends dead.
pub(crate) const CLAIMS_MAX: u32 = 10;

/// What one command writes and leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) meta: Arc<Meta>,
    pub(crate) records: Vec<Record>,
    pub(crate) after: After,
}

/// Why an append is refused; each rests on committed facts of this owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppendRefusal {
    /// Somebody claimed it since: stop at once.
    Stale,
    /// The writer's journal is not a prefix of ours.
    HistoryLost,
}

/// Accepted, and claimed in the same batch if a slot is free.
pub(crate) fn accept(meta: Arc<Meta>, claimed_by: Option<&Holder>, now: Timestamp) -> Decision {
    let accepted = Accepted {
        agent: meta.agent.clone(),
        version: meta.version,
        actor: meta.actor.clone(),
    };
    let mut records = vec![Record {
        seq: 1,
        epoch: 0,
        at: now,
        fact: Fact::Accepted(accepted),
    }];
    let mut row = OpenRow {
        state: RunState::Queued,
        epoch: 0,
        seq: 1,
        started_at: None,
    };
    if let Some(holder) = claimed_by {
        let (record, claimed) = claim_row(&row, holder, now);
        records.push(record);
        row = claimed;
    }
    Decision {
        meta,
        records,
        after: After::Opened(row),
    }
}

/// Given to a worker: the epoch rises, so that whoever held it before is fenced out.
pub(crate) fn claim(meta: &Arc<Meta>, row: &OpenRow, holder: &Holder, now: Timestamp) -> Decision {
    if row.epoch >= CLAIMS_MAX {
        return give_up(meta, row, now);
    }
    let (record, row) = claim_row(row, holder, now);
    Decision {
        meta: Arc::clone(meta),
        records: vec![record],
        after: After::Changed(row),
    }
}

fn claim_row(row: &OpenRow, holder: &Holder, now: Timestamp) -> (Record, OpenRow) {
    let epoch = row.epoch + 1;
    let claimed = Claimed {
        holder: holder.node.to_string(),
        incarnation: holder.incarnation,
    };
    let record = Record {
        seq: row.seq + 1,
        epoch,
        at: now,
        fact: Fact::Claimed(claimed),
    };
    let row = OpenRow {
        state: RunState::Running(holder.clone()),
        epoch,
        seq: row.seq + 1,
        started_at: Some(row.started_at.unwrap_or(now)),
    };
    (record, row)
}

/// A worker's records, and its end. `after_seq` is the highest record the worker knows.
pub(crate) fn append(
    meta: &Arc<Meta>,
    row: &OpenRow,
    epoch: u32,
    after_seq: u32,
    facts: Vec<Fact>,
    now: Timestamp,
) -> Result<Decision, AppendRefusal> {
    if epoch != row.epoch || !matches!(row.state, RunState::Running(_)) {
        return Err(AppendRefusal::Stale);
    }
    if after_seq != row.seq {
        return Err(AppendRefusal::HistoryLost);
    }
    let mut seq = row.seq;
    let mut end = None;
    let mut records = Vec::with_capacity(facts.len());
    for fact in facts {
        seq += 1;
        if let Fact::Ended(ended) = &fact {
            end = Some(end_row(row, ended, epoch, seq, now));
        }
        records.push(Record {
            seq,
            epoch,
            at: now,
            fact,
        });
        if end.is_some() {
            break;
        }
    }
    let after = end.map_or(After::Grew { seq }, |end| After::Ended(Box::new(end)));
    Ok(Decision {
        meta: Arc::clone(meta),
        records,
        after,
    })
}

/// Ends it from outside the worker, with an epoch that no worker holds: what it still does is fenced out.
pub(crate) fn end(meta: &Arc<Meta>, row: &OpenRow, ended: Ended, now: Timestamp) -> Decision {
    let epoch = match row.state {
        RunState::Queued => row.epoch,
        RunState::Running(_) => row.epoch + 1,
    };
    let seq = row.seq + 1;
    let after = After::Ended(Box::new(end_row(row, &ended, epoch, seq, now)));
    let record = Record {
        seq,
        epoch,
        at: now,
        fact: Fact::Ended(Box::new(ended)),
    };
    Decision {
        meta: Arc::clone(meta),
        records: vec![record],
        after,
    }
}

/// A person stopped it.
pub(crate) fn cancel(meta: &Arc<Meta>, row: &OpenRow, actor: &str, reason: &str, now: Timestamp) -> Decision {
    let problem = Problem::new(Code::Cancelled, format!("cancelled by {actor}: {reason}"));
    end(
        meta,
        row,
        ended_without_output(Outcome::Cancelled, reason, problem),
        now,
    )
}

/// Its deadline passed.
pub(crate) fn expire(meta: &Arc<Meta>, row: &OpenRow, now: Timestamp) -> Decision {
    let deadline = meta.deadline_at.unwrap_or(now);
    let problem = Problem::new(
        Code::DeadlineExceeded,
        format!("deadline_ms: the deadline {deadline} passed"),
    )
    .next("invoke it again with a later deadline_ms");
    end(
        meta,
        row,
        ended_without_output(Outcome::Failed, "deadline_exceeded", problem),
        now,
    )
}

/// It lost its worker too often: a dead letter, not an endless loop.
fn give_up(meta: &Arc<Meta>, row: &OpenRow, now: Timestamp) -> Decision {
    let problem = Problem::new(
        Code::AttemptsExhausted,
        format!(
            "its worker was lost {} times, at most {CLAIMS_MAX} claims are made",
            row.epoch
        ),
    )
    .next("look at its last step, then requeue the dead letter");
    end(
        meta,
        row,
        ended_without_output(Outcome::Dead, "attempts_exhausted", problem),
        now,
    )
}

fn ended_without_output(outcome: Outcome, reason: &str, error: Problem) -> Ended {
    Ended {
        outcome,
        reason: Some(reason.to_owned()),
        output: None,
        error: Some(error),
        usage: Usage::default(),
        provider: None,
    }
}

fn end_row(row: &OpenRow, ended: &Ended, epoch: u32, seq: u32, now: Timestamp) -> EndRow {
    EndRow {
        outcome: ended.outcome,
        reason: ended.reason.clone(),
        provider: ended.provider.clone(),
        epoch,
        seq,
        started_at: row.started_at,
        ended_at: now,
        usage: ended.usage,
        output: ended.output.clone(),
        error: ended.error.clone(),
    }
}

impl Decision {
    pub(crate) fn id(&self) -> InvocationId {
        self.meta.id
    }

    /// Highest seq after it.
    #[cfg(test)]
    pub(crate) fn seq(&self) -> u32 {
        match &self.after {
            After::Opened(row) | After::Changed(row) => row.seq,
            After::Grew { seq } => *seq,
            After::Ended(end) => end.seq,
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
