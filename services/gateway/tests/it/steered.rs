//! The steering endpoints of the `execution` behind the edge: each notes what it was asked and answers in its shape.

use std::future::ready;
use std::sync::Arc;

use mesh_api::execution::{AcceptRequest, DeadLetter, Invocation, InvokeRequest, State};
use mesh_api::journal::{Effect, StepKind};
use mesh_api::steering::*;
use mesh_api::{Caller, Endpoint, Page};
use mesh_bus::ServiceBuilder;
use mesh_types::{Code, Id, InvocationId, Problem};
use serde_json::{Value, json};

use crate::made::{at, invocation};
use crate::world::World;

/// The invocation that forks and requeues make.
pub(crate) fn the_fork() -> InvocationId {
    InvocationId::from_u128(43)
}

/// A handler that notes what it was asked.
pub(crate) fn answer<E: Endpoint>(
    world: &Arc<World>,
    make: fn(&E::Request, &Caller) -> Result<E::Reply, Problem>,
) -> impl Fn(Caller, E::Request) -> std::future::Ready<Result<E::Reply, Problem>> + Clone + Send + Sync + 'static
where
    E::Request: serde::Serialize,
{
    let world = Arc::clone(world);
    move |caller, request| {
        let asked = json!({"endpoint": E::NAME, "tenant": caller.tenant, "request": request});
        world.steered.lock().unwrap().push(asked);
        ready(make(&request, &caller))
    }
}

impl World {
    /// What the last steering endpoint was asked.
    pub(crate) fn last_steered(&self) -> Value {
        self.steered
            .lock()
            .unwrap()
            .last()
            .expect("something was steered")
            .clone()
    }

    pub(crate) fn serve_steering(self: &Arc<Self>, service: ServiceBuilder) -> ServiceBuilder {
        service
            .endpoint::<Pause, _, _>(answer::<Pause>(self, |request, caller| {
                Ok(paused(request, caller, true))
            }))
            .endpoint::<Resume, _, _>(answer::<Resume>(self, |request, caller| {
                Ok(paused(request, caller, false))
            }))
            .endpoint::<Pauses, _, _>(answer::<Pauses>(self, |_, caller| {
                let request = PauseRequest {
                    target: PauseTarget::All,
                    reason: None,
                };
                Ok(Page {
                    items: vec![paused(&request, caller, true)],
                    next: None,
                })
            }))
            .endpoint::<InvocationSignal, _, _>(answer::<InvocationSignal>(self, |request, _| Ok(made(request.id))))
            .endpoint::<InvocationFork, _, _>(answer::<InvocationFork>(self, |request, _| Ok(fork(request))))
            .endpoint::<InvocationCompare, _, _>(answer::<InvocationCompare>(self, |request, _| {
                Ok(Comparison {
                    left: made(request.left),
                    right: made(request.right),
                    shared_steps: 2,
                    first_difference: Some(3),
                    steps: Vec::new(),
                })
            }))
            .endpoint::<InvocationReplay, _, _>(answer::<InvocationReplay>(self, |request, _| {
                Ok(ReplayReport {
                    id: request.id,
                    recorded_version: 1,
                    version: request.version.unwrap_or(2),
                    steps: 3,
                    divergences: Vec::new(),
                })
            }))
            .endpoint::<ApprovalList, _, _>(answer::<ApprovalList>(self, |request, _| {
                Ok(Page {
                    items: Vec::new(),
                    next: request.page.limit.map(|limit| limit.to_string()),
                })
            }))
            .endpoint::<ApprovalDecide, _, _>(answer::<ApprovalDecide>(self, |request, _| match request.step {
                404 => Err(Problem::new(Code::ApprovalNotFound, "step 404 waits for nobody")),
                _ => Ok(made(request.invocation)),
            }))
            .endpoint::<DeadLetterRequeue, _, _>(answer::<DeadLetterRequeue>(self, |request, caller| {
                let dead_letter = DeadLetter {
                    id: request.id,
                    tenant: caller.tenant.clone(),
                    origin: "invocation".into(),
                    reason: Problem::new(Code::AttemptsExhausted, "lost too often"),
                    invocation: Some(InvocationId::from_u128(42)),
                    message: None,
                    subject: None,
                    created_at: at(),
                    settled: Some("requeued".into()),
                };
                let invocation = made(the_fork());
                Ok(Requeued {
                    dead_letter,
                    invocation,
                })
            }))
    }
}

fn paused(request: &PauseRequest, caller: &Caller, paused: bool) -> PauseView {
    PauseView {
        target: request.target.clone(),
        paused,
        by: caller.actor.clone(),
        reason: request.reason.clone(),
        since: at(),
    }
}

fn made(id: InvocationId) -> Invocation {
    let request = AcceptRequest {
        agent: "sofia".parse().unwrap(),
        request: InvokeRequest::default(),
        wait_ms: 0,
    };
    Invocation {
        id,
        ..invocation(&request, State::Queued)
    }
}

fn fork(request: &ForkRequest) -> ForkReply {
    let step = ForkStep {
        step: 1,
        kind: StepKind::Model,
        name: "mock".into(),
        effect: Effect::Idempotent,
        fate: Fate::Read,
        because: "it stands before the fork".into(),
    };
    ForkReply {
        invocation: (!request.dry_run).then(|| made(the_fork())),
        steps: vec![step],
    }
}
