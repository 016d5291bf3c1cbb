//! A recording held against an agent as it is now: no effect runs, nothing is written.

use mesh_api::journal::{About, Ended, Fact, Outcome, Record};
use mesh_api::steering::Divergence;
use mesh_types::{Code, Timestamp};

use crate::differ;
use crate::grant::Task;
use crate::group::Steps;
use crate::plan::{Action, Compare, Mismatch, Plan, Surprise, described};

/// What the task would do otherwise than the recording says, in its order; empty: nothing. Where only an input
/// differs it goes on as if the recorded one had been planned, so that one change is told once; where the steps
/// themselves differ it stops. `inherited` are a fork's records of its source, before its own.
pub fn replay(journal: &[Record], inherited: &[Record], task: Task<'_>) -> Vec<Divergence> {
    let mut plan = Plan::new(task, None);
    let mut found = Vec::new();
    let before = inherited.iter().filter(|record| is_step(record) || is_merged(record));
    for record in before.chain(journal) {
        match plan.fold(record, Compare::Strict) {
            Ok(()) => {}
            Err(Surprise::Over(ended)) => {
                found.extend(other_end(&mut plan, &ended, record.at));
                return found;
            }
            Err(Surprise::Mismatch(mismatch)) => {
                let may_go_on = mismatch.is_input || mismatch.recorded.starts_with("approval ");
                let adopted = may_go_on && plan.fold(record, Compare::Adopted).is_ok();
                // A recorded question where a fork asked: it is the recording's own affair.
                if !adopted || mismatch.is_input {
                    found.push(divergence(mismatch));
                }
                if !adopted {
                    return found;
                }
            }
        }
    }
    found
}

fn is_step(record: &Record) -> bool {
    matches!(record.fact, Fact::Begun(_) | Fact::Done(_))
}

fn is_merged(record: &Record) -> bool {
    matches!(&record.fact, Fact::Signalled(signalled) if matches!(signalled.about, About::Merged { .. }))
}

fn divergence(mismatch: Mismatch) -> Divergence {
    let Mismatch {
        step,
        recorded,
        planned,
        because,
        ..
    } = mismatch;
    Divergence {
        step,
        recorded,
        planned,
        because,
    }
}

/// Whether the plan would have ended there, and so.
fn other_end(plan: &mut Plan<'_>, ended: &Ended, at: Timestamp) -> Option<Divergence> {
    if is_from_outside(ended) {
        return None;
    }
    let recorded = format!("ended {}", ended.outcome.as_str());
    let step = plan.step();
    match plan.next(at) {
        Action::Over(_) => None,
        Action::Run(steps) => {
            let planned = match &steps {
                Steps::One(step) => described(step),
                Steps::Many(steps) => steps.first().map(described).unwrap_or_default(),
            };
            let because = format!("it would go on with {planned}");
            Some(Divergence {
                step,
                recorded,
                planned,
                because,
            })
        }
        Action::End(planned) => {
            let word = |ended: &Ended| serde_json::json!({"outcome": ended.outcome, "reason": ended.reason, "output": ended.output});
            let (left, right) = (word(&planned), word(ended));
            (left != right).then(|| Divergence {
                step,
                recorded,
                planned: format!("ended {}", planned.outcome.as_str()),
                because: format!("it would end otherwise: {}", differ::fields(&left, &right)),
            })
        }
    }
}

/// Ends that no plan decides: people, deadlines, databases and lost workers do.
fn is_from_outside(ended: &Ended) -> bool {
    let codes = [Code::DeadlineExceeded, Code::RecordRefused, Code::Diverged];
    let is_told = |code| ended.error.as_ref().is_some_and(|problem| problem.is(code));
    matches!(ended.outcome, Outcome::Cancelled | Outcome::Dead) || codes.into_iter().any(is_told)
}
