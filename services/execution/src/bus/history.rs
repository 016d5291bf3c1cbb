//! `invocation-history`: what happened to an invocation besides its steps.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::history::{Happened, HistoryRequest, Moment};
use mesh_api::journal::{About, Fact, Record, Resolution, Signalled};
use mesh_api::page::Page;
use mesh_types::Problem;

use super::reads::{cursor, not_found};
use crate::state::State;
use crate::store::moments::moments;

pub(super) async fn history(
    state: &Arc<State>,
    caller: Caller,
    request: HistoryRequest,
) -> Result<Page<Moment>, Problem> {
    let after: u32 = cursor(request.page.after.as_deref())?.unwrap_or(0);
    let limit = request.page.limit();
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        moments(&mut tx, request.id, after, i64::from(limit) + 1).await
    };
    let records = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a journal"))?;
    if records.is_empty() && after == 0 {
        // Its first record says that it was accepted.
        return Err(not_found(request.id));
    }
    let items = records.into_iter().filter_map(moment).collect();
    Ok(Page::cut(items, limit, |moment: &Moment| moment.seq.to_string()))
}

/// `None` of a step.
fn moment(record: Record) -> Option<Moment> {
    let Record { seq, epoch, at, fact } = record;
    let what = match fact {
        Fact::Begun(_) | Fact::Done(_) => return None,
        Fact::Accepted(accepted) => Happened::Accepted { by: accepted.actor },
        Fact::Claimed(claimed) => Happened::Claimed { holder: claimed.holder },
        Fact::Waiting(waiting) => Happened::Waiting {
            waits_for: waiting.items,
        },
        Fact::Signalled(signalled) => told(*signalled),
        Fact::Released(released) => Happened::Released {
            reason: released.reason,
        },
        Fact::Paused(paused) => Happened::Paused {
            by: paused.actor,
            reason: paused.reason,
        },
        Fact::Resumed(resumed) => Happened::Resumed {
            by: resumed.actor,
            reason: resumed.reason,
        },
        Fact::CancelRequested(request) => Happened::CancelRequested {
            by: request.actor,
            reason: request.reason,
        },
        Fact::Ended(ended) => Happened::Ended {
            outcome: ended.outcome,
            reason: ended.reason,
        },
    };
    Some(Moment { seq, epoch, at, what })
}

fn told(signalled: Signalled) -> Happened {
    let Signalled {
        about, actor: by, note, ..
    } = signalled;
    match about {
        About::Signal { name, .. } => Happened::Signalled { name, by },
        About::Approval { step, approved } => Happened::Decided {
            step,
            approved,
            by,
            note,
        },
        About::Child {
            step,
            invocation,
            outcome,
            ..
        } => Happened::ChildEnded {
            step,
            invocation,
            outcome,
        },
        About::Resolved { step, how } => Happened::Resolved {
            step,
            how: match how {
                Resolution::RunAgain => "run_again",
                Resolution::Done { .. } => "done",
                Resolution::Failed { .. } => "failed",
            }
            .to_owned(),
            by,
            note,
        },
        About::Merged { invocation, .. } => Happened::Merged { invocation },
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn told_of(fact: Value) -> Option<Value> {
        let fact = serde_json::from_value(fact).unwrap();
        let record = Record {
            seq: 7,
            epoch: 2,
            at: Timestamp::from_millis(0),
            fact,
        };
        moment(record).map(|moment| serde_json::to_value(moment).unwrap())
    }

    #[test]
    fn a_decision_says_who_and_a_signal_keeps_its_value_to_itself() {
        let decided = told_of(
            json!({"record": "signalled", "key": "k", "actor": "ann", "note": "checked",
            "about": {"kind": "approval", "step": 5, "approved": true}}),
        );
        let about = json!({"seq": 7, "epoch": 2, "at": "1970-01-01T00:00:00.000000Z"});
        let with = |mut more: Value| {
            let fields = more.as_object_mut().unwrap();
            fields.extend(about.as_object().unwrap().clone());
            Some(more)
        };
        assert_eq!(
            decided,
            with(json!({"what": "decided", "step": 5, "approved": true, "by": "ann", "note": "checked"}))
        );
        let signalled = told_of(json!({"record": "signalled", "key": "k", "actor": "ann",
            "about": {"kind": "signal", "name": "paid", "value": {"card": "4111"}}}));
        assert_eq!(
            signalled,
            with(json!({"what": "signalled", "name": "paid", "by": "ann"}))
        );
    }
}
