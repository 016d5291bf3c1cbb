//! Steering on its way into a batch: cancel, signal, decide, pause, resume.

use mesh_api::journal::{About, Fact, Record, Resolution, StepKind};
use mesh_api::steering::Decision as Word;
use mesh_types::{Code, Problem, Timestamp};
use serde_json::Value;

use super::Lane;
use super::appends::JOURNAL_MAX;
use super::command::{Action, Steer, moved};
use super::memory::{Held, Open};
use super::plan::{Batch, Then};
use crate::core::append::cancel_mail;
use crate::core::{Decision, RunState, decide, steer};
use crate::store::ledger::Ledger;

/// What a node gets to stop before the owner ends the invocation (EXECUTION.md §5).
const CANCEL_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

impl<L: Ledger> Lane<L> {
    pub(super) async fn plan_steering(&mut self, batch: &mut Batch, now: Timestamp) {
        for _ in 0..self.steering.len() {
            let Some(steer) = self.steering.pop_front() else {
                break;
            };
            if batch.touched.contains(&steer.id) || batch.is_full() {
                self.steering.push_back(steer);
                continue;
            }
            if !self.owns(steer.shard, steer.letter) {
                let _ = steer.answer.send(Err(moved()));
                continue;
            }
            self.plan_steer(batch, *steer, now).await;
        }
    }

    async fn plan_steer(&mut self, batch: &mut Batch, command: Steer, now: Timestamp) {
        let found = self.memory.open.get(&command.id);
        if found.is_none_or(|open| open.meta.tenant != command.tenant) {
            let _ = command.answer.send(Ok(None));
            return;
        }
        let decided = match &command.action {
            Action::Signal { key, about } => self.signal(&command, key.as_deref(), about, now).await,
            Action::Decide {
                step,
                decision,
                note,
                output,
            } => {
                self.decide(&command, (*step, *decision), note.as_deref(), output.as_ref(), now)
                    .await
            }
            Action::Cancel { reason } => Ok(self.cancel(&command, reason, now)),
            Action::Pause { reason } => Ok(self.set_paused(&command, true, reason.as_ref(), now)),
            Action::Resume { reason } => Ok(self.set_paused(&command, false, reason.as_ref(), now)),
        };
        match decided {
            Ok(Some(mut decision)) => {
                decision.letter = command.letter.map(|letter| letter.id);
                let then = Then::Steer { answer: command.answer };
                batch.push(decision, then);
            }
            // It is so already.
            Ok(None) => {
                let view = self
                    .memory
                    .open
                    .get(&command.id)
                    .map(|open| crate::core::open::view_open(&open.meta, &open.row));
                let _ = command.answer.send(Ok(view));
            }
            Err(problem) => drop(command.answer.send(Err(problem))),
        }
    }

    fn cancel(&self, command: &Steer, reason: &str, now: Timestamp) -> Option<Decision> {
        let open = self.memory.open.get(&command.id)?;
        let actor = &command.actor;
        if matches!(open.held, Held::There(_)) {
            if open.row.cancelling {
                return None;
            }
            return Some(steer::ask_to_cancel(&open.meta, &open.row, actor, reason, now));
        }
        let decision = decide::cancel(&open.meta, &open.row, actor, reason, now);
        Some(with_children(decision, open, now))
    }

    fn set_paused(&self, command: &Steer, paused: bool, reason: Option<&String>, now: Timestamp) -> Option<Decision> {
        let open = self.memory.open.get(&command.id)?;
        if open.row.paused == paused {
            return None;
        }
        let set = if paused { steer::pause } else { steer::resume };
        Some(set(&open.meta, &open.row, &command.actor, reason.cloned(), now))
    }

    async fn signal(
        &mut self,
        command: &Steer,
        key: Option<&str>,
        about: &About,
        now: Timestamp,
    ) -> Result<Option<Decision>, Problem> {
        let keys = self.signal_keys(command).await?;
        let key = match key {
            Some(key) if keys.iter().any(|known| known == key) => return Ok(None),
            Some(key) => key.to_owned(),
            None => format!("{}/{}", now.as_micros(), keys.len()),
        };
        let open = self.memory.open.get(&command.id).ok_or_else(moved)?;
        let decision = steer::signal(&open.meta, &open.row, key, about.clone(), &command.actor, None, now);
        Ok(Some(decision))
    }

    async fn decide(
        &mut self,
        command: &Steer,
        (step, word): (u32, Word),
        note: Option<&str>,
        output: Option<&Value>,
        now: Timestamp,
    ) -> Result<Option<Decision>, Problem> {
        let journal = self.journal(command).await?;
        let about = match pending(&journal, step)? {
            Pending::Approval => About::Approval {
                step,
                approved: word == Word::Approve,
            },
            Pending::Ambiguous => About::Resolved {
                step,
                how: resolution(word, note, output),
            },
        };
        let open = self.memory.open.get(&command.id).ok_or_else(moved)?;
        if let About::Resolved { .. } = about
            && !is_awaited(open, &about)
        {
            return Err(not_pending(step));
        }
        let key = format!("decided/{step}/{}", open.row.seq);
        let note = note.map(ToOwned::to_owned);
        let decision = steer::signal(&open.meta, &open.row, key, about, &command.actor, note, now);
        Ok(Some(decision))
    }

    /// Keys of its signals; read from the journal where a takeover forgot them.
    async fn signal_keys(&mut self, command: &Steer) -> Result<Vec<String>, Problem> {
        if let Some(keys) = self
            .memory
            .open
            .get(&command.id)
            .and_then(|open| open.signal_keys.clone())
        {
            return Ok(keys);
        }
        let journal = self.journal(command).await?;
        let keys: Vec<String> = journal
            .into_iter()
            .filter_map(|record| match record.fact {
                Fact::Signalled(signalled) => Some(signalled.key),
                _ => None,
            })
            .collect();
        if let Some(open) = self.memory.open.get_mut(&command.id) {
            open.signal_keys = Some(keys.clone());
        }
        Ok(keys)
    }

    async fn journal(&mut self, command: &Steer) -> Result<Vec<Record>, Problem> {
        let read = self.ledger.journal(command.id, 0, JOURNAL_MAX).await;
        read.map_err(|error| {
            tracing::warn!(%error, invocation = %command.id, "its journal cannot be read");
            self.ledger.reset();
            Problem::new(Code::Unavailable, "the journal cannot be read now").next("send it again after a second")
        })
    }
}

/// With the letters that end its children, if the decision ends it.
pub(super) fn with_children(mut decision: Decision, open: &Open, now: Timestamp) -> Decision {
    let letters = open.children.iter().map(|child| cancel_mail(&open.meta, child, now));
    decision.mail.extend(letters);
    decision
}

enum Pending {
    Approval,
    Ambiguous,
}

/// What a person may decide on: a step that has begun, is not done, and of which nobody decided.
fn pending(journal: &[Record], step: u32) -> Result<Pending, Problem> {
    let mut found = None;
    for record in journal {
        match &record.fact {
            Fact::Begun(begun) if begun.step == step => {
                found = Some(if begun.kind == StepKind::Approval {
                    Pending::Approval
                } else {
                    Pending::Ambiguous
                });
            }
            Fact::Done(done) if done.step == step => found = None,
            Fact::Signalled(signalled)
                if signalled.about.step() == Some(step) && !matches!(signalled.about, About::Child { .. }) =>
            {
                found = None;
            }
            _ => {}
        }
    }
    found.ok_or_else(|| not_pending(step))
}

fn not_pending(step: u32) -> Problem {
    Problem::new(
        Code::ApprovalNotFound,
        format!("step {step} waits for no decision; it may be decided already"),
    )
    .next("list what waits with `mesh approvals`")
}

/// An ambiguous step is settled only while the invocation waits for that.
fn is_awaited(open: &Open, about: &About) -> bool {
    matches!(&open.row.state, RunState::Waiting(_)) && steer::wakes(&open.row, about)
}

fn resolution(word: Word, note: Option<&str>, output: Option<&Value>) -> Resolution {
    match (output, word) {
        (Some(output), _) => Resolution::Done {
            output: output.clone(),
            usage: mesh_api::journal::Usage::default(),
        },
        (None, Word::Approve) => Resolution::RunAgain,
        (None, Word::Deny) => {
            let detail = note.unwrap_or("a person says that it failed");
            Resolution::Failed {
                error: Problem::new(Code::ToolFailed, detail),
            }
        }
    }
}

pub(super) fn cancel_due(now: Timestamp) -> Timestamp {
    now.plus(CANCEL_GRACE)
}
