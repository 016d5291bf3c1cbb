//! Decisions: what a command does to an open invocation. Pure; a decision is true only once it is committed.

use std::sync::Arc;

use mesh_api::journal::{About, Accepted, Claimed, Ended, Fact, Outcome, Record, Usage};
use mesh_types::{Code, InvocationId, Problem, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::mail::{Letter, Mail};
use super::open::{After, EndRow, Holder, Meta, OpenRow, RunState};

/// Lost workers after which an invocation ends dead. Hand-overs, pauses and waits are no losses.
pub(crate) const LOSSES_MAX: u32 = 10;

/// What one command writes and leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) meta: Arc<Meta>,
    pub(crate) records: Vec<Record>,
    pub(crate) after: After,
    /// Letters that go out with it.
    pub(crate) mail: Vec<Mail>,
    /// The letter that it answers: deleted with it.
    pub(crate) letter: Option<Uuid>,
    /// Another invocation of the same shard that changes with it, or neither does.
    pub(crate) also: Option<Box<Decision>>,
}

/// Accepted, and claimed in the same batch if a slot is free.
pub(crate) fn accept(meta: Arc<Meta>, claimed_by: Option<&Holder>, session_order: i64, now: Timestamp) -> Decision {
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
        session_order,
        ..OpenRow::queued()
    };
    if let Some(holder) = claimed_by {
        let (record, claimed) = claim_row(&row, holder, now);
        records.push(record);
        row = claimed;
    }
    Decision::new(meta, records, After::Opened(row))
}

/// Joins `target`, an invocation of the same session that has not started: accepted, ended and told in one.
pub(crate) fn merge(meta: Arc<Meta>, target: &Arc<Meta>, row: &OpenRow, now: Timestamp) -> Decision {
    let about = About::Merged {
        invocation: meta.id,
        payload: meta.input.payload.value(),
    };
    let told = super::steer::signal(
        target,
        row,
        format!("merged/{}", meta.id),
        about,
        &meta.actor,
        None,
        now,
    );
    let accepted = Accepted {
        agent: meta.agent.clone(),
        version: meta.version,
        actor: meta.actor.clone(),
    };
    let ended = Ended {
        outcome: Outcome::Completed,
        reason: Some("merged".into()),
        output: Some(json!({"merged_into": target.id})),
        error: None,
        usage: Usage::default(),
        provider: None,
    };
    let end = end_row(&OpenRow::queued(), &ended, 0, 2, now);
    let facts = [Fact::Accepted(accepted), Fact::Ended(Box::new(ended))];
    let records = facts.into_iter().zip(1..).map(|(fact, seq)| Record {
        seq,
        epoch: 0,
        at: now,
        fact,
    });
    Decision {
        also: Some(Box::new(told)),
        ..Decision::new(meta, records.collect(), After::Merged(Box::new(end)))
    }
}

/// Given to a worker: the epoch rises, so that whoever held it before is fenced out.
pub(crate) fn claim(meta: &Arc<Meta>, row: &OpenRow, holder: &Holder, now: Timestamp) -> Decision {
    let is_loss = matches!(row.state, RunState::Running(_));
    if is_loss && row.losses + 1 >= LOSSES_MAX {
        return give_up(meta, row, now);
    }
    let (record, mut claimed) = claim_row(row, holder, now);
    claimed.losses += u32::from(is_loss);
    Decision::new(Arc::clone(meta), vec![record], After::Changed { row: claimed })
}

fn claim_row(row: &OpenRow, holder: &Holder, now: Timestamp) -> (Record, OpenRow) {
    let epoch = row.epoch + 1;
    #[cfg(test)]
    let epoch = if crate::sim::bugs::is_planted(crate::sim::bugs::Bug::NoEpochRaise) {
        row.epoch.max(1)
    } else {
        epoch
    };
    let epoch = if mesh_runtime::planted::is_planted("no_claim_epoch") {
        row.epoch.max(1)
    } else {
        epoch
    };
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
        ..row.clone()
    };
    (record, row)
}

/// Ends it from outside the worker, with an epoch that no worker holds: what it still does is fenced out.
pub(crate) fn end(meta: &Arc<Meta>, row: &OpenRow, ended: Ended, now: Timestamp) -> Decision {
    let epoch = match row.state {
        RunState::Queued | RunState::Waiting(_) => row.epoch,
        RunState::Running(_) => row.epoch + 1,
    };
    let seq = row.seq + 1;
    let mail = result_mail(meta, &ended, now);
    let after = After::Ended(Box::new(end_row(row, &ended, epoch, seq, now)));
    let record = Record {
        seq,
        epoch,
        at: now,
        fact: Fact::Ended(Box::new(ended)),
    };
    Decision {
        mail: mail.into_iter().collect(),
        ..Decision::new(Arc::clone(meta), vec![record], after)
    }
}

/// The letter by which a parent hears of the end.
pub(super) fn result_mail(meta: &Meta, ended: &Ended, now: Timestamp) -> Option<Mail> {
    let parent = meta.parent()?;
    let about = About::Child {
        step: parent.step,
        invocation: meta.id,
        outcome: ended.outcome,
        output: ended.output.clone(),
        error: ended.error.clone(),
        usage: ended.usage,
    };
    let order = now.as_millis();
    let body = Letter::Result(Box::new(about));
    Some(Mail::new(
        &meta.tenant,
        meta.id,
        parent.invocation,
        parent.shard,
        order,
        body,
    ))
}

/// A person stopped it.
pub(crate) fn cancel(meta: &Arc<Meta>, row: &OpenRow, actor: &str, reason: &str, now: Timestamp) -> Decision {
    let problem = Problem::new(Code::Cancelled, format!("cancelled by {actor}: {reason}"));
    end(
        meta,
        row,
        ended_without_output(row, Outcome::Cancelled, reason, problem),
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
        ended_without_output(row, Outcome::Failed, "deadline_exceeded", problem),
        now,
    )
}

/// It lost its worker too often: a dead letter, not an endless loop.
fn give_up(meta: &Arc<Meta>, row: &OpenRow, now: Timestamp) -> Decision {
    let problem = Problem::new(
        Code::AttemptsExhausted,
        format!(
            "its worker was lost {} times, at most {LOSSES_MAX} are taken",
            row.losses + 1
        ),
    )
    .next("look at its last step, then requeue the dead letter");
    end(
        meta,
        row,
        ended_without_output(row, Outcome::Dead, "attempts_exhausted", problem),
        now,
    )
}

pub(super) fn ended_without_output(row: &OpenRow, outcome: Outcome, reason: &str, error: Problem) -> Ended {
    Ended {
        outcome,
        reason: Some(reason.to_owned()),
        output: None,
        error: Some(error),
        usage: row.usage,
        provider: None,
    }
}

pub(super) fn end_row(row: &OpenRow, ended: &Ended, epoch: u32, seq: u32, now: Timestamp) -> EndRow {
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
    pub(crate) fn new(meta: Arc<Meta>, records: Vec<Record>, after: After) -> Self {
        Self {
            meta,
            records,
            after,
            mail: Vec::new(),
            letter: None,
            also: None,
        }
    }

    pub(crate) fn id(&self) -> InvocationId {
        self.meta.id
    }

    /// Highest seq after it.
    #[cfg(test)]
    pub(crate) fn seq(&self) -> u32 {
        match &self.after {
            After::Opened(row) | After::Changed { row, .. } => row.seq,
            After::Grew { seq } => *seq,
            After::Ended(end) | After::Merged(end) => end.seq,
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
