//! Appends of workers on their way into a batch: fresh ones, repeats, late results of workers that were lost.

use std::sync::Arc;

use mesh_api::journal::{Effect, Fact, Record};
use mesh_types::{InvocationId, Timestamp};

use super::Lane;
use super::command::{Append, AppendAnswer, Appended, Next};
use super::plan::{Batch, Then};
use crate::core::append::{self, AppendThen, Around};
use crate::core::{RunState, steer};
use crate::store::ledger::Ledger;

/// Records that are read to judge a repeat or a late result.
pub(super) const JOURNAL_MAX: i64 = 100_000;

impl<L: Ledger> Lane<L> {
    pub(super) async fn plan_appends(&mut self, batch: &mut Batch, now: Timestamp) {
        let mut later = Vec::new();
        while let Some(append) = self.appends.pop_front() {
            if batch.is_full() || batch.touched.contains(&append.id) {
                later.push(append);
                if batch.is_full() {
                    break;
                }
                continue;
            }
            self.plan_append(batch, append, now).await;
        }
        for append in later.into_iter().rev() {
            self.appends.push_front(append);
        }
    }

    async fn plan_append(&mut self, batch: &mut Batch, append: Append, now: Timestamp) {
        let Some(open) = self.memory.open.get(&append.id) else {
            // Of a shard that is not ours a node asks the next owner; unanswered, it does. Ended: it stops.
            if self.shards.contains_key(&append.shard) {
                let _ = append.answer.send(Err(AppendAnswer::Stale));
            }
            return;
        };
        let is_holder = match (&open.row.state, &append.holder) {
            (RunState::Running(holder), Some(asks)) => holder == asks,
            _ => true,
        };
        if append.epoch != open.row.epoch || !is_holder {
            self.plan_late(batch, append, now).await;
            return;
        }
        let is_running = matches!(open.row.state, RunState::Running(_));
        let is_fresh = is_running && open.worker_seq == Some(append.after_seq);
        if is_fresh {
            let news = open.news.clone();
            self.plan_fresh(batch, append, news, now);
        } else {
            self.plan_doubtful(batch, append, is_running, now).await;
        }
    }

    fn plan_fresh(&mut self, batch: &mut Batch, append: Append, news: Vec<Record>, now: Timestamp) {
        let Append {
            id,
            epoch,
            holder,
            facts,
            then,
            answer,
            ..
        } = append;
        let Some(open) = self.memory.open.get(&id) else { return };
        let is_paused = open.row.paused || self.context.pauses.holds(&open.meta.tenant, &open.meta.agent);
        // A node outlives its owner, and goes on with the next one.
        let is_draining = holder.is_none() && self.context.draining.is_cancelled();
        let around = Around {
            has_news: !news.is_empty(),
            stop: match (is_paused, is_draining) {
                (true, _) => Some("paused"),
                (false, true) => Some("draining"),
                (false, false) => None,
            },
            children: &open.children,
        };
        #[cfg(test)]
        let around = crate::sim::bugs::in_wait(around);
        match append::append(&open.meta, &open.row, epoch, facts, then, around, now) {
            Ok(decision) => batch.push(decision, Then::Append { news, answer }),
            Err(append::AppendRefusal::Stale) => drop(answer.send(Err(AppendAnswer::Stale))),
        }
    }

    /// Its answer was lost, or the owner is new and does not know what its worker knows: the committed records tell.
    async fn plan_doubtful(&mut self, batch: &mut Batch, append: Append, is_running: bool, now: Timestamp) {
        let (id, after_seq) = (append.id, append.after_seq);
        let since = match self.ledger.journal(id, after_seq, JOURNAL_MAX).await {
            Ok(since) => since,
            Err(error) => {
                tracing::warn!(%error, invocation = %id, "a repeated append cannot be compared; its worker is stopped");
                self.ledger.reset();
                let _ = append.answer.send(Err(AppendAnswer::Stale));
                return;
            }
        };
        let seq = self.memory.open.get(&id).map_or(0, |open| open.row.seq);
        match judge(&since, &append.facts, &append.then) {
            Repeat::Same(next) => {
                let news = since.into_iter().filter(|record| is_news(&record.fact)).collect();
                let _ = append.answer.send(Ok(Appended { seq, news, next }));
            }
            Repeat::Fresh if is_running && after_seq <= seq => {
                if let Some(open) = self.memory.open.get_mut(&id) {
                    open.worker_seq = Some(after_seq);
                    open.news.clone_from(&since);
                }
                self.plan_fresh(batch, append, since, now);
            }
            // Told to let go, it brings what was in flight.
            Repeat::Fresh | Repeat::Other if !is_running => self.plan_late(batch, append, now).await,
            Repeat::Fresh => {
                if after_seq > seq {
                    tracing::error!(invocation = %id, after_seq, ours = seq, "a worker's journal is ahead of ours; it is stopped");
                }
                let _ = append.answer.send(Err(AppendAnswer::Stale));
            }
            Repeat::Other => {
                let answer = match self.ledger.journal(id, 0, JOURNAL_MAX).await {
                    Ok(committed) => AppendAnswer::Conflict(committed),
                    Err(_) => AppendAnswer::Stale,
                };
                let _ = append.answer.send(Err(answer));
            }
        }
    }

    /// Of an older claim: only the result of an at_most_once step is taken, and only if nothing has settled it.
    async fn plan_late(&mut self, batch: &mut Batch, append: Append, now: Timestamp) {
        let Append {
            id,
            epoch,
            facts,
            answer,
            ..
        } = append;
        let is_candidate = |fact: &&Fact| matches!(fact, Fact::Done(done) if done.effect == Effect::AtMostOnce);
        let journal = if facts.iter().any(|fact| is_candidate(&fact)) {
            match self.ledger.journal(id, 0, JOURNAL_MAX).await {
                Ok(journal) => journal,
                Err(error) => {
                    // Not `stale`: the one result there is would be thrown away for it. Unanswered, it is sent again.
                    tracing::warn!(%error, invocation = %id, "a late result cannot be judged now");
                    self.ledger.reset();
                    return;
                }
            }
        } else {
            Vec::new()
        };
        if let Some(fact) = facts.iter().find(is_candidate)
            && let Some(about) = steer::late_result(&journal, epoch, fact)
            && let Some(open) = self.memory.open.get(&id)
        {
            tracing::info!(invocation = %id, epoch, "the late result of a lost worker settles its step");
            let key = format!("late/{epoch}/{}", about.step().unwrap_or_default());
            let decision = steer::signal(&open.meta, &open.row, key, about, "worker", None, now);
            batch.push(decision, Then::Late { answer });
            return;
        }
        let _ = answer.send(Err(AppendAnswer::Stale));
    }

    /// A hosted worker was dropped with its process draining: what it holds is given back without a loss.
    pub(super) fn release_running(
        &mut self,
        shard: crate::shards::ShardId,
        now: Timestamp,
    ) -> Vec<super::plan::Planned> {
        let mut batch = Batch::default();
        let ids: Vec<InvocationId> = self
            .memory
            .open
            .iter()
            .filter(|(_, open)| open.meta.shard == shard && matches!(open.held, super::memory::Held::Here(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(open) = self.memory.open.get(&id)
                && matches!(open.row.state, RunState::Running(_))
            {
                let decision = steer::release(&Arc::clone(&open.meta), &open.row, "handed_over", now);
                batch.push(decision, Then::Quiet);
            }
        }
        batch.planned
    }
}

/// What the records after a worker's mark say of its append.
#[derive(Debug, PartialEq)]
enum Repeat {
    /// Nothing of a worker stands there: it was never committed.
    Fresh,
    Same(Next),
    Other,
}

/// Written by the owner, for the worker to hear of.
fn is_news(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::Signalled(_) | Fact::CancelRequested(_) | Fact::Paused(_) | Fact::Resumed(_)
    )
}

fn judge(since: &[Record], facts: &[Fact], then: &AppendThen) -> Repeat {
    let mut own = since.iter().map(|record| &record.fact).filter(|fact| !is_news(fact));
    let mut rest = own.by_ref().peekable();
    if rest.peek().is_none() {
        return Repeat::Fresh;
    }
    for fact in facts {
        // Told to let go, what had not begun was left out.
        if matches!(rest.peek(), Some(Fact::Released(_))) && matches!(fact, Fact::Begun(_)) {
            continue;
        }
        if rest.next() != Some(fact) {
            return Repeat::Other;
        }
    }
    match (rest.next(), then) {
        (None, AppendThen::GoOn) => Repeat::Same(Next::GoOn),
        (Some(Fact::Waiting(_)), _) => Repeat::Same(Next::Waiting),
        (Some(Fact::Released(_)), _) => Repeat::Same(Next::Stop),
        (Some(Fact::Ended(ended)), AppendThen::End(asked)) if ended == asked => Repeat::Same(Next::GoOn),
        // A wait that news kept from being taken.
        (None, AppendThen::Wait(_)) if !facts.is_empty() => Repeat::Same(Next::GoOn),
        _ => Repeat::Other,
    }
}
