//! The journal of one grant as its worker sees it: commits through the owner, hands over while the node drains.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use mesh_api::journal::{Effect, Ended, Fact};
use mesh_api::node::{FACT_BYTES_MAX, NextWord, OneAnswer, OneAppend, Put, Sent, WireThen};
use mesh_types::Problem;
use mesh_worker::{AppendError, Appended, Next, Then};
use serde::Serialize;

use crate::Node;
use crate::appends::APPEND_BYTES_MAX;
use crate::held::Held;
use crate::kept::{Kept, KeptResult};

/// A fact below this many bytes never goes ahead.
const FACT_BYTES_MIN: usize = 1_024;
/// How long a start waits for the answers to what an earlier one kept; then it works while it goes on asking.
const KEPT_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct GrantJournal {
    node: Arc<Node>,
    held: Arc<Held>,
    /// Highest record that the worker knows of.
    seq: AtomicU32,
    /// The owner has taken the invocation back by its answer.
    is_released: AtomicBool,
}

impl GrantJournal {
    pub(crate) fn new(node: &Arc<Node>, held: &Arc<Held>, seq: u32) -> Self {
        Self {
            node: Arc::clone(node),
            held: Arc::clone(held),
            seq: AtomicU32::new(seq),
            is_released: AtomicBool::new(false),
        }
    }

    pub(crate) async fn append(&self, mut facts: Vec<Fact>, then: Then) -> Result<Appended, AppendError> {
        let then = match then {
            Then::GoOn if self.node.draining.is_cancelled() => {
                forget_begun(&mut facts);
                WireThen::Release
            }
            Then::GoOn => WireThen::GoOn,
            Then::Wait(items) => WireThen::Wait(items),
            Then::End(ended) => WireThen::End(Sent::Here(ended)),
        };
        self.commit(facts, then).await
    }

    /// Gives it back where that has not happened: runnable elsewhere at once, or ended at once if it is cancelled.
    pub(crate) async fn release(&self) {
        if !self.is_released.load(Ordering::Relaxed)
            && let Err(error) = self.commit(Vec::new(), WireThen::Release).await
        {
            tracing::debug!(invocation = %self.held.ticket.invocation, %error, "it is not given back");
        }
    }

    async fn commit(&self, facts: Vec<Fact>, then: WireThen) -> Result<Appended, AppendError> {
        let kept = self.keep(&facts).await?;
        let after_seq = self.seq.load(Ordering::Relaxed);
        let sent = send(&self.node, &self.held, after_seq, facts, then).await;
        // Without an answer the process ends; the result is sent by its next start.
        let Some(answer) = sent? else {
            return Err(AppendError::Stale);
        };
        for place in kept {
            Kept::forget(&place).await;
        }
        match answer {
            OneAnswer::Ok { seq, news, next } => {
                self.seq.store(seq, Ordering::Relaxed);
                self.is_released.store(next != NextWord::GoOn, Ordering::Relaxed);
                Ok(Appended {
                    seq,
                    news,
                    next: match next {
                        NextWord::GoOn => Next::GoOn,
                        NextWord::Waiting => Next::Waiting,
                        NextWord::Stop => Next::Stop,
                    },
                })
            }
            OneAnswer::Conflict => {
                let work = self.node.execution.work(&self.held.ticket).await;
                let committed = work.map_err(|problem| AppendError::Refused(problem.into()))?.journal;
                self.seq
                    .store(committed.last().map_or(0, |record| record.seq), Ordering::Relaxed);
                Err(AppendError::Conflict { committed })
            }
            OneAnswer::Refused(problem) => Err(AppendError::Refused(problem.into())),
            OneAnswer::Stale | OneAnswer::Unknown => {
                self.is_released.store(true, Ordering::Relaxed);
                Err(AppendError::Stale)
            }
        }
    }

    /// What happened at most once outlives a crash of this process from here on.
    async fn keep(&self, facts: &[Fact]) -> Result<Vec<PathBuf>, AppendError> {
        let mut places = Vec::new();
        for fact in facts.iter().filter(|fact| is_at_most_once(fact)) {
            let result = KeptResult {
                ticket: self.held.ticket.clone(),
                after_seq: self.seq.load(Ordering::Relaxed),
                fact: fact.clone(),
            };
            match self.node.kept.keep(result).await {
                Ok(place) => places.push(place),
                // It goes out all the same: a crash in the next moment is less likely than what stopping would cost.
                Err(error) => tracing::error!(%error, "a result that must not be lost cannot be kept here"),
            }
        }
        Ok(places)
    }
}

fn is_at_most_once(fact: &Fact) -> bool {
    matches!(fact, Fact::Done(done) if done.effect == Effect::AtMostOnce)
}

/// Steps that would begin with this append do not: whoever has it next begins them.
fn forget_begun(facts: &mut Vec<Fact>) {
    let is_done = |facts: &[Fact], step| {
        facts
            .iter()
            .any(|fact| matches!(fact, Fact::Done(done) if done.step == step))
    };
    let mut index = facts.len();
    while index > 0 {
        index -= 1;
        if let Fact::Begun(begun) = &facts[index]
            && !is_done(facts, begun.step)
        {
            facts.remove(index);
        }
    }
}

/// Commits or learns why not; `None` when the process ends.
async fn send(
    node: &Node,
    held: &Arc<Held>,
    after_seq: u32,
    facts: Vec<Fact>,
    then: WireThen,
) -> Result<Option<OneAnswer>, AppendError> {
    let refused = |problem: Problem| AppendError::Refused(problem.into());
    let append = OneAppend {
        ticket: held.ticket.clone(),
        after_seq,
        facts: facts.into_iter().map(Sent::Here).collect(),
        then,
    };
    let (append, bytes) = fit(node, append).await.map_err(refused)?;
    Ok(node.appends.send(append, bytes, Some(Arc::clone(held))).await)
}

/// Sends large facts ahead, smaller ones too where the message would be too large else. Answers its size.
async fn fit(node: &Node, mut append: OneAppend) -> Result<(OneAppend, usize), Problem> {
    let mut limit = FACT_BYTES_MAX;
    loop {
        for fact in &mut append.facts {
            ahead(node, &append.ticket, fact, limit).await?;
        }
        if let WireThen::End(ended) = &mut append.then {
            ahead::<Box<Ended>>(node, &append.ticket, ended, limit).await?;
        }
        let bytes = size(&append);
        if bytes <= APPEND_BYTES_MAX || limit <= FACT_BYTES_MIN {
            return Ok((append, bytes));
        }
        limit /= 2;
    }
}

async fn ahead<T: Serialize>(
    node: &Node,
    ticket: &mesh_api::node::Ticket,
    sent: &mut Sent<T>,
    limit: usize,
) -> Result<(), Problem> {
    let Sent::Here(here) = sent else { return Ok(()) };
    let body = serde_json::to_vec(here).unwrap_or_default();
    if body.len() > limit {
        let put = node.execution.put(ticket, &body).await?;
        *sent = Sent::Ahead(Put { put });
    }
    Ok(())
}

fn size(append: &OneAppend) -> usize {
    serde_json::to_vec(append).map_or(0, |bytes| bytes.len())
}

/// Results that an earlier start did not get answered. The first to be sent: an invocation may wait for nothing else.
pub(crate) async fn send_kept(node: &Arc<Node>) {
    let all = node.kept.all().await;
    if all.is_empty() {
        return;
    }
    tracing::info!(results = all.len(), "sending results of an earlier start");
    let answered = tokio_util::sync::CancellationToken::new();
    let done = answered.clone().drop_guard();
    let node = Arc::clone(node);
    let tasks = node.context.tasks.clone();
    tasks.spawn("kept-results", async move {
        let _done = done;
        let stop = node.context.shutdown.clone();
        let sent = futures::future::join_all(all.into_iter().map(|(place, result)| send_one(&node, place, result)));
        stop.run_until_cancelled(sent).await;
    });
    let _ = tokio::time::timeout(KEPT_PATIENCE, answered.cancelled()).await;
}

async fn send_one(node: &Node, place: PathBuf, result: KeptResult) {
    let append = OneAppend {
        ticket: result.ticket,
        after_seq: result.after_seq,
        facts: vec![Sent::Here(result.fact)],
        then: WireThen::GoOn,
    };
    let answer = match fit(node, append).await {
        Ok((append, bytes)) => node.appends.send(append, bytes, None).await,
        Err(problem) => Some(OneAnswer::Refused(problem)),
    };
    if let Some(answer) = answer {
        tracing::info!(file = %place.display(), ?answer, "a kept result is answered");
        Kept::forget(&place).await;
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::journal::{Begun, Done, StepKind, Usage};
    use mesh_types::Timestamp;
    use serde_json::Value;

    use super::*;

    fn begun(step: u32) -> Fact {
        Fact::Begun(Begun {
            step,
            kind: StepKind::Tool,
            name: "t".into(),
            effect: Effect::AtMostOnce,
            input: Value::Null,
        })
    }

    fn done(step: u32) -> Fact {
        Fact::Done(Box::new(Done {
            step,
            kind: StepKind::Tool,
            name: "t".into(),
            effect: Effect::AtMostOnce,
            input: None,
            output: None,
            error: None,
            usage: Usage::default(),
            attempt: 1,
            started_at: Timestamp::EPOCH,
            ended_at: Timestamp::EPOCH,
        }))
    }

    #[test]
    fn a_step_that_would_begin_while_the_node_drains_does_not() {
        let mut facts = vec![done(1), begun(2), done(2), begun(3), begun(4)];
        forget_begun(&mut facts);
        assert_eq!(facts, [done(1), begun(2), done(2)]);
    }
}
