//! What a worker's append does: its records, and that it goes on, waits, ends, or is to let go. Pure.

use std::sync::Arc;

use mesh_api::journal::{Ended, Fact, Record, Released, StepKind, WaitItem, Waiting};
use mesh_trace::{TraceContext, calling_span};
use mesh_types::{AgentName, Id, InvocationId, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::decide::{Decision, end_row, result_mail};
use super::mail::{ChildRequest, Letter, Mail};
use super::open::{After, Meta, OpenRow, RunState, Waits, usage_after};
use crate::shards::{ShardId, shard_of};

/// What a worker asks for besides its records.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AppendThen {
    GoOn,
    Wait(Vec<WaitItem>),
    End(Box<Ended>),
    /// Its worker lets go, and it is runnable at once: no loss.
    Release,
}

/// Why an append is refused; it rests on committed facts of this owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppendRefusal {
    /// Somebody claimed it since, or it is not running: stop at once.
    Stale,
}

/// What is true of the invocation besides its row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Around<'a> {
    /// The owner wrote records that the worker has not seen: it may not wait.
    pub(crate) has_news: bool,
    /// Why the worker is to let go after this append: `paused`, `draining`.
    pub(crate) stop: Option<&'static str>,
    /// Children that are open: they are cancelled with the end.
    pub(crate) children: &'a [Child],
}

/// An open child, as its parent's owner knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) step: u32,
    pub(crate) id: InvocationId,
    pub(crate) shard: ShardId,
}

/// The worker holds `epoch`, and its journal has all that its answers told.
pub(crate) fn append(
    meta: &Arc<Meta>,
    row: &OpenRow,
    epoch: u32,
    facts: Vec<Fact>,
    then: AppendThen,
    around: Around<'_>,
    now: Timestamp,
) -> Result<Decision, AppendRefusal> {
    if epoch != row.epoch || !matches!(row.state, RunState::Running(_)) {
        return Err(AppendRefusal::Stale);
    }
    let mut writer = Writer {
        seq: row.seq,
        epoch,
        now,
        records: Vec::with_capacity(facts.len() + 1),
    };
    let mut mail = Vec::new();
    let lets_go = around.stop.is_some() && matches!(then, AppendThen::GoOn);
    for fact in facts {
        // Its effect would start after this answer, which is to let go: it never began, and is no doubtful one later.
        if lets_go && matches!(fact, Fact::Begun(_)) {
            continue;
        }
        if let Fact::Begun(begun) = &fact
            && begun.kind == StepKind::Child
        {
            mail.extend(child_mail(meta, begun.step, &begun.input, now));
        }
        writer.push(fact);
    }
    let after = match then {
        AppendThen::End(ended) => {
            mail.extend(result_mail(meta, &ended, now));
            mail.extend(around.children.iter().map(|child| cancel_mail(meta, child, now)));
            let end = end_row(row, &ended, epoch, writer.seq + 1, now);
            writer.push(Fact::Ended(ended));
            After::Ended(Box::new(end))
        }
        AppendThen::Wait(items) if !around.has_news => {
            writer.push(Fact::Waiting(Waiting { items: items.clone() }));
            writer.changed(row, RunState::Waiting(Arc::new(Waits { items })))
        }
        AppendThen::Release => {
            let reason = "handed_over".to_owned();
            writer.push(Fact::Released(Released { reason }));
            writer.changed(row, RunState::Queued)
        }
        // With a stop it is asked for again by whoever claims it next; with news it is to look at them first.
        AppendThen::GoOn | AppendThen::Wait(_) => match around.stop {
            Some(reason) => {
                writer.push(Fact::Released(Released { reason: reason.into() }));
                writer.changed(row, RunState::Queued)
            }
            None => After::Grew { seq: writer.seq },
        },
    };
    Ok(Decision {
        mail,
        ..Decision::new(Arc::clone(meta), writer.records, after)
    })
}

struct Writer {
    seq: u32,
    epoch: u32,
    now: Timestamp,
    records: Vec<Record>,
}

impl Writer {
    fn push(&mut self, fact: Fact) {
        self.seq += 1;
        self.records.push(Record {
            seq: self.seq,
            epoch: self.epoch,
            at: self.now,
            fact,
        });
    }

    fn changed(&self, row: &OpenRow, state: RunState) -> After {
        let row = OpenRow {
            state,
            seq: self.seq,
            usage: usage_after(row.usage, &self.records),
            ..row.clone()
        };
        After::Changed { row }
    }
}

#[derive(Deserialize)]
struct ChildInput {
    invocation: InvocationId,
    agent: AgentName,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    session: Option<String>,
}

/// What a `begun` child step says, if it can be read; the worker wrote it.
pub(crate) fn child_of(meta: &Meta, step: u32, input: &Value) -> Option<Child> {
    let input = ChildInput::deserialize(input).ok()?;
    let shard = shard_of(
        &meta.tenant,
        &input.agent,
        input.session.as_deref(),
        None,
        input.invocation,
    );
    Some(Child {
        step,
        id: input.invocation,
        shard,
    })
}

fn child_mail(meta: &Meta, step: u32, input: &Value, now: Timestamp) -> Option<Mail> {
    let child = child_of(meta, step, input)?;
    let input = ChildInput::deserialize(input).ok()?;
    let mut held_sessions = meta.input.held_sessions.clone();
    held_sessions.extend(meta.session.clone().map(|session| (meta.agent.clone(), session)));
    let request = ChildRequest {
        agent: input.agent,
        payload: input.payload,
        session: input.session,
        priority: meta.priority,
        actor: format!("agent:{}", meta.agent),
        step,
        parent_shard: meta.shard,
        depth: meta.depth() + 1,
        held_sessions,
        trace: meta.input.trace().filter(|trace| trace.is_sampled()).map(|trace| {
            let call = calling_span(child.id.as_u128());
            TraceContext::new(trace.trace_id(), call, true).to_string()
        }),
    };
    let body = Letter::Child(Box::new(request));
    let order = now.as_millis();
    Some(Mail::new(&meta.tenant, meta.id, child.id, child.shard, order, body))
}

/// After the letter that made the child, whenever that was.
pub(crate) fn cancel_mail(meta: &Meta, child: &Child, now: Timestamp) -> Mail {
    let reason = "parent_ended".to_owned();
    let order = now.as_millis() + 1;
    Mail::new(
        &meta.tenant,
        meta.id,
        child.id,
        child.shard,
        order,
        Letter::Cancel { reason },
    )
}
