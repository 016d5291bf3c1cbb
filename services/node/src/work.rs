//! One grant, from what is known of it to the end of its worker.

use std::sync::Arc;

use mesh_api::journal::{Ended, Outcome, Usage};
use mesh_api::node::WireWork;
use mesh_types::Problem;
use mesh_worker::{Finished, ForkEdit, Grant, Input, Then};

use crate::Node;
use crate::effects::NodeEffects;
use crate::held::Held;

/// Runs it as a task; it is held until that ends, also by a panic.
pub(crate) fn start(node: &Arc<Node>, held: Arc<Held>, work: Option<Box<WireWork>>) {
    let node = Arc::clone(node);
    let tasks = node.context.tasks.clone();
    let guard = LetGo { node, held };
    tasks.spawn("invocation", async move {
        let guard = guard;
        run(&guard.node, &guard.held, work).await;
    });
}

struct LetGo {
    node: Arc<Node>,
    held: Arc<Held>,
}

impl Drop for LetGo {
    fn drop(&mut self) {
        self.node.held.remove(&self.held);
        self.node.bell.ring();
    }
}

async fn run(node: &Arc<Node>, held: &Arc<Held>, work: Option<Box<WireWork>>) {
    let work = match work {
        Some(work) => Ok(*work),
        None => match held.cancel.run_until_cancelled(node.execution.work(&held.ticket)).await {
            Some(read) => read,
            None => return,
        },
    };
    let work = match work {
        Ok(work) => work,
        Err(problem) => {
            // Not named any more, it is runnable again soon.
            tracing::error!(invocation = %held.ticket.invocation, %problem, "its work cannot be read");
            return;
        }
    };
    let _ = held.version.set(work.version);
    let seq = work.journal.last().map_or(0, |record| record.seq);
    let effects = NodeEffects::new(node, held, seq);
    let cancel = held.cancel.clone();
    let finished = mesh_worker::run_invocation(grant(held, work), &effects, cancel).await;
    match finished {
        Finished::Ended(_) | Finished::Waiting | Finished::Stale => {}
        Finished::Stopped => effects.journal.release().await,
        Finished::Refused(problem) => end_refused(&effects, *problem).await,
    }
}

fn grant(held: &Held, work: WireWork) -> Grant {
    Grant {
        tenant: held.ticket.tenant.clone(),
        invocation: held.ticket.invocation,
        agent: held.agent.clone(),
        version: work.version,
        spec: Arc::new(work.spec),
        input: Input {
            payload: work.input.payload,
            entrypoint: work.input.entrypoint,
            context: work.input.context,
            metadata: work.input.metadata,
            session: work.input.session,
        },
        epoch: held.ticket.epoch,
        inherited: work.inherited,
        recording: work.recording,
        fork: work.fork.map(|fork| ForkEdit {
            from_step: fork.from_step,
            edit: fork.edit,
        }),
        journal: work.journal,
        deadline: work.deadline,
        attempt: held.ticket.epoch,
        depth: work.depth,
        trace: work.trace.and_then(|text| text.parse().ok()),
        trace_link: work.trace_link.and_then(|text| text.parse().ok()),
    }
}

/// Even its end was refused: it ends with the plain reason, which any database takes.
async fn end_refused(effects: &NodeEffects, problem: Problem) {
    let ended = Ended {
        outcome: Outcome::Failed,
        reason: Some("record_refused".into()),
        output: None,
        error: Some(problem),
        usage: Usage::default(),
        provider: None,
    };
    if let Err(error) = effects.journal.append(Vec::new(), Then::End(Box::new(ended))).await {
        tracing::error!(%error, "an invocation cannot be ended");
    }
}
