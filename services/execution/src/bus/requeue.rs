//! A dead letter that is taken up again: an invocation goes on as a fork of itself, a message as if it came now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::execution::{DeadLetter, DeadLetterRequest, Invocation};
use mesh_api::journal::{Fact, Record};
use mesh_api::steering::{Edit, RequeueRequest, Requeued};
use mesh_types::event;
use mesh_types::{Code, DeadLetterId, Id, InvocationId, Problem};

use super::forks;
use super::reads::{dead_letter, not_found};
use crate::intake::parse_message;
use crate::state::State;
use crate::store::{chain, dead_letters, source};

pub(super) async fn requeue(state: &Arc<State>, caller: Caller, request: RequeueRequest) -> Result<Requeued, Problem> {
    let id = request.id;
    let letter = dead_letter(state, caller.clone(), DeadLetterRequest { id }).await?;
    if let Some(how) = &letter.settled {
        return Err(settled(state, &caller, id, how).await);
    }
    let invocation = match letter.invocation {
        Some(dead) => again(state, &caller, id, dead).await?,
        None => submit(state, &caller, &letter).await?,
    };
    let write = async {
        let mut tx = state.pool.begin().await?;
        let first = dead_letters::settle_requeued(&mut *tx, &caller.tenant, id, invocation.id).await?;
        if first {
            let (dead_letter, invocation) = (id, invocation.id);
            let fact = event::Fact::DeadLetterRequeued {
                dead_letter,
                invocation,
            };
            state.append(&mut tx, &caller, fact).await?;
        }
        tx.commit().await.map(|()| first)
    };
    let first = write
        .await
        .map_err(|error| mesh_store::to_problem(error, "settle a dead letter"))?;
    state.events_bell.ring();
    if !first {
        // Two at once made one invocation, and this one came second.
        return Err(settled(state, &caller, id, "requeued").await);
    }
    Ok(Requeued {
        dead_letter: dead_letter(state, caller, DeadLetterRequest { id }).await?,
        invocation,
    })
}

async fn settled(state: &State, caller: &Caller, id: DeadLetterId, how: &str) -> Problem {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        dead_letters::requeued_as(&mut *tx, id).await
    };
    match read.await {
        Ok(Some(by)) => Problem::new(Code::DeadLetterSettled, format!("{id} is {how} already, as {by}"))
            .next(format!("look at {by}")),
        Ok(None) => Problem::new(Code::DeadLetterSettled, format!("{id} is {how} already")),
        Err(error) => mesh_store::to_problem(error, "read a dead letter"),
    }
}

/// A fork that runs again what failed; the key makes a repeat find the first.
async fn again(
    state: &Arc<State>,
    caller: &Caller,
    letter: DeadLetterId,
    dead: InvocationId,
) -> Result<Invocation, Problem> {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        let chain = chain::chain(&mut tx, dead).await?;
        let records = source::steps(&mut tx, dead, None).await?;
        Ok((!chain.is_empty()).then_some((chain.shard, records)))
    };
    let read = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a journal"))?;
    let (shard, records) = read.ok_or_else(|| not_found(dead))?;
    let from_step = failed_step(&records);
    let key = Some(format!("requeue/{letter}"));
    let order = forks::order(state, dead, from_step, Edit::default(), key);
    forks::accept(state, caller, shard, order).await
}

/// The first step without a result; where all have one, the last if it is a failure. What failed before was told to
/// the agent, which went on.
fn failed_step(records: &[Record]) -> u32 {
    // Whether later steps can go on from it.
    let mut done = BTreeMap::new();
    for record in records {
        if let Fact::Done(step) = &record.fact {
            done.insert(step.step, step.error.is_none() || step.output.is_some());
        }
    }
    let open = (1..).find(|step| !done.contains_key(step)).unwrap_or(1);
    match done.last_key_value() {
        Some((last, false)) if *last < open => *last,
        _ => open,
    }
}

/// The message as it came, under the id that it would have had.
async fn submit(state: &Arc<State>, caller: &Caller, letter: &DeadLetter) -> Result<Invocation, Problem> {
    let id = letter.id;
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        dead_letters::message(&mut *tx, id).await
    };
    let read = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a dead letter"))?;
    let (subject, message) = read.ok_or_else(|| {
        Problem::new(
            Code::DeadLetterNotFound,
            format!("{id} has neither an invocation nor a message"),
        )
    })?;
    let (tenant, agent, request) = parse_message(&subject, &message).map_err(|(_, problem)| still(problem))?;
    if tenant != caller.tenant {
        let detail = format!("the message is for tenant {tenant}");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let derived = InvocationId::from_u128(id.as_u128());
    let prepared = state.router.prepare(caller, &agent, request, Some(derived)).await;
    let prepared = prepared.map_err(still)?;
    state.router.accept(caller, prepared, Duration::ZERO).await
}

fn still(problem: Problem) -> Problem {
    let detail = format!("it still cannot be accepted: {}", problem.detail);
    Problem { detail, ..problem }
}

#[cfg(test)]
mod tests {
    use mesh_api::journal::{Begun, Done, Effect, StepKind, Usage};
    use mesh_types::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn record(fact: Fact) -> Record {
        Record {
            seq: 1,
            epoch: 1,
            at: Timestamp::EPOCH,
            fact,
        }
    }

    fn begun(step: u32) -> Record {
        record(Fact::Begun(Begun {
            step,
            kind: StepKind::Tool,
            name: "t".into(),
            effect: Effect::Idempotent,
            input: Value::Null,
        }))
    }

    fn done(step: u32, output: Option<Value>) -> Record {
        let error = output.is_none().then(|| Problem::new(Code::ToolFailed, "no"));
        record(Fact::Done(Box::new(Done {
            step,
            kind: StepKind::Tool,
            name: "t".into(),
            effect: Effect::Idempotent,
            input: None,
            output,
            error,
            usage: Usage::default(),
            attempt: 1,
            started_at: Timestamp::EPOCH,
            ended_at: Timestamp::EPOCH,
        })))
    }

    #[test]
    fn what_failed_last_runs_again() {
        let good = || Some(json!(1));
        assert_eq!(failed_step(&[]), 1);
        assert_eq!(failed_step(&[done(1, good()), begun(2)]), 2);
        assert_eq!(failed_step(&[begun(1), done(1, good()), begun(2), done(2, None)]), 2);
        // A failure that the agent went on from.
        assert_eq!(failed_step(&[done(1, None), done(2, good())]), 3);
        // Of steps that ran together the first open one.
        assert_eq!(
            failed_step(&[begun(1), begun(2), begun(3), done(1, good()), done(3, None)]),
            2
        );
    }
}
